"""Where attempts go, also in a simulated market: seconds of a fake clock, the autoscaler's lags as on AWS."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tidepool import ladder
from tidepool.breaker import (
    HALF_LIFE_SECONDS,
    OPEN_SECONDS,
    PROBE_SECONDS,
    STORM_RECLAIMS,
    WINDOW_SECONDS,
    Breaker,
    State,
    dump,
    lately,
    load,
)
from tidepool.capacity import Capacity, Pool
from tidepool.job import JobError
from tidepool.ladder import Clocks, Journey, Rung, Stage, rungs, stage, stuck
from tidepool.outcome import Cause
from tidepool.retries import Attempt

Make = Callable[..., Pool]
NOW = 1_000_000.0


@pytest.fixture
def pools(pool: Make) -> list[Pool]:
    return [pool("spot-a"), pool("spot-b", priority=40), pool("on-demand-a", "on-demand", priority=10)]


def names(found: list[Rung]) -> list[str]:
    return ["|".join(pool.name for pool in rung.pools) for rung in found]


def lost(*where: str, cause: Cause = Cause.SPOT_RECLAIM) -> list[Attempt]:
    return [Attempt(number, cause, "", pool, "spot") for number, pool in enumerate(where, 1)]


def test_without_history_the_ladder_is_the_documents_order_and_at_last_whichever_comes_first(
    pools: list[Pool],
) -> None:
    assert names(rungs(pools, {}, [], NOW)) == ["spot-a", "spot-b", "on-demand-a", "spot-a|spot-b|on-demand-a"]


def test_the_documents_order_holds_where_on_demand_comes_first(pool: Make) -> None:
    here = [pool("on-demand-a", "on-demand"), pool("spot-a"), pool("spot-b")]
    assert names(rungs(here, {}, lost("spot-a"), NOW))[:3] == ["on-demand-a", "spot-b", "spot-a"]


def test_after_a_reclaim_another_spot_pool_comes_first(pools: list[Pool]) -> None:
    found = rungs(pools, {}, lost("spot-a"), NOW)
    assert names(found)[:3] == ["spot-b", "spot-a", "on-demand-a"]
    assert found[0].why == "an attempt was lost on another spot pool"


@pytest.mark.parametrize("cause", [Cause.SPOT_RECLAIM, Cause.NODE_LOST, Cause.EVICTED, Cause.UNKNOWN])
def test_after_two_wasted_attempts_it_is_on_demand_only(pools: list[Pool], cause: Cause) -> None:
    found = rungs(pools, {}, lost("spot-a", "spot-b", cause=cause), NOW)
    assert names(found) == ["on-demand-a"]
    assert found[0].why == "2 attempts were lost on spot machines"


def test_programs_that_fail_do_not_leave_spot(pools: list[Pool]) -> None:
    assert names(rungs(pools, {}, lost("spot-a", "spot-a", cause=Cause.APP_ERROR), NOW))[0] == "spot-a"


def test_a_job_that_is_pinned_stays_where_it_is_pinned(pools: list[Pool]) -> None:
    broken = {pool.name: Breaker().failed(NOW) for pool in pools}
    assert names(rungs(pools[:1], broken, lost("spot-a", "spot-a", "spot-a"), NOW + 1)) == ["spot-a"]
    assert names(rungs(pools[:2], {}, lost("spot-a", "spot-b"), NOW))[-1] == "spot-a|spot-b"


def test_a_deadline_may_demand_a_market(pools: list[Pool]) -> None:
    assert names(rungs(pools, {}, [], NOW, market="on-demand")) == ["on-demand-a"]
    assert names(rungs(pools[:2], {}, [], NOW, market="on-demand"))[0] == "spot-a"  # there is none


def test_a_deadline_that_allows_spot_puts_it_first_and_leaves_the_rest_below(pool: Make) -> None:
    here = [pool("on-demand-a", "on-demand"), pool("spot-a"), pool("spot-b")]
    assert names(rungs(here, {}, [], NOW, market="spot"))[:3] == ["spot-a", "spot-b", "on-demand-a"]
    assert names(rungs(here, {}, lost("spot-a", "spot-a"), NOW, market="spot"))[:2] == ["spot-b", "spot-a"]
    assert [rung.is_spot for rung in rungs(here, {}, [], NOW, market="spot")] == [True, True, False, False]


def test_with_checkpoints_a_job_may_lose_more_attempts_on_spot_while_it_has_retries() -> None:
    assert ladder.lost_on_spot_at_most(has_checkpoints=False, platform_retries=10) == ladder.WASTED_ATTEMPTS == 2
    assert ladder.lost_on_spot_at_most(has_checkpoints=True, platform_retries=10) == 8
    assert ladder.lost_on_spot_at_most(has_checkpoints=True, platform_retries=1) == 2
    assert not ladder.is_done_with_spot(lost("spot-a", "spot-b"), 3)
    assert ladder.is_done_with_spot(lost("spot-a", "spot-b"))


def test_what_was_seen_lately_is_the_spot_pools_losses_in_so_many_hours(pools: list[Pool]) -> None:
    seen = {
        "spot-a": Breaker().ran(NOW, 2.0, 0).ran(NOW, 3.0, 1),
        "spot-b": Breaker().ran(NOW, 0.5, 1),
        "on-demand-a": Breaker().ran(NOW, 100.0, 0),
    }
    assert lately(seen, pools, NOW) == (2, pytest.approx(5.5))
    assert lately(seen, pools, NOW + HALF_LIFE_SECONDS) == (1, pytest.approx(2.75))
    assert lately({}, pools, NOW) == (0, 0.0)
    assert load(dump(seen["spot-a"])) == seen["spot-a"]


def test_a_breaker_that_an_older_version_wrote_is_one_that_nothing_was_seen_of() -> None:
    text = '{"opened":5.0,"failures":1,"retry":9.0,"probing":0.0,"closed":0.0,"starts":[],"reclaims":[]}'
    assert load(text) == Breaker(opened=5.0, failures=1, retry=9.0)


def test_an_open_pool_is_passed_over_and_a_half_open_one_tried_by_one_attempt(pools: list[Pool]) -> None:
    opened = Breaker().failed(NOW)
    assert names(rungs(pools, {"spot-a": opened}, [], NOW + 1))[0] == "spot-b"
    later = NOW + OPEN_SECONDS
    first = rungs(pools, {"spot-a": opened}, [], later)[0]
    assert (first.pools[0].name, first.is_probe) == ("spot-a", True)
    assert names(rungs(pools, {"spot-a": opened.probed(later)}, [], later))[0] == "spot-b"
    assert opened.probed(later).state(later + PROBE_SECONDS) is State.HALF_OPEN  # who tried it died


def test_where_all_pools_are_open_the_pod_waits_for_whichever_comes_first(pools: list[Pool]) -> None:
    broken = {pool.name: Breaker().failed(NOW) for pool in pools}
    assert names(rungs(pools, broken, [], NOW + 1)) == ["spot-a|spot-b|on-demand-a"]


def test_a_breaker_opens_for_longer_with_each_failure_and_closes_with_a_start() -> None:
    breaker, now, pauses = Breaker(), NOW, []
    for _ in range(5):
        breaker = breaker.failed(now)
        pauses.append(breaker.retry - now)
        now = breaker.retry
    assert pauses == [300, 600, 1200, 1800, 1800]
    assert breaker.started(now).state(now) is State.CLOSED
    assert breaker.started(now - 1).state(now - 1) is State.OPEN  # a pod that came by luck, before its time


def test_a_storm_of_reclaims_opens_a_breaker_and_the_usual_share_does_not() -> None:
    storm = calm = Breaker()
    for each in range(STORM_RECLAIMS):
        storm = storm.started(NOW + each).lost(NOW + each + 0.5)
    assert storm.state(NOW + 10) is State.OPEN
    for each in range(40):
        calm = calm.started(NOW + each)
    for each in range(STORM_RECLAIMS):
        calm = calm.lost(NOW + 50 + each)
    assert calm.state(NOW + 60) is State.CLOSED


def test_reclaims_of_yesterday_are_forgotten() -> None:
    breaker = Breaker()
    for each in range(10):
        breaker = breaker.started(NOW).lost(NOW + each * WINDOW_SECONDS)
    assert breaker.state(NOW + 10 * WINDOW_SECONDS) is State.CLOSED


def test_a_breaker_survives_being_written_and_nonsense_is_a_closed_one() -> None:
    breaker = Breaker().started(NOW).failed(NOW + 1).probed(NOW + 400).lost(NOW + 500)
    assert load(dump(breaker)) == breaker
    for text in ("", "{", "[]", "{}", '{"opened": "x"}', "null"):
        assert load(text) == Breaker()


@pytest.mark.parametrize(("market", "left"), [("spot", ["spot-small"]), ("on-demand", ["on-demand-small"])])
def test_a_market_may_be_pinned(capacity: Capacity, market: Any, left: list[str]) -> None:
    offered = ladder.offered(capacity, market, "t")
    assert [pool.name for pool in offered.pools.values() if pool.jobs] == left
    assert ladder.offered(capacity, None, "t") is capacity


def test_a_market_that_is_not_there_is_refused_with_what_is(
    capacity_of: Callable[..., Capacity], pool: Make, capacity: Capacity
) -> None:
    with pytest.raises(JobError, match=r"task 't': market='on-demand', but no job pool is .*; there are: a \(spot\)"):
        ladder.offered(capacity_of(pool("a")), "on-demand", "t")
    with pytest.raises(JobError, match="market must be"):
        ladder.offered(capacity, "cheap", "t")  # type: ignore[arg-type]


# How far a pod is, and when it is stuck.


def event(reason: str, message: str = "", at: float = NOW) -> dict[str, Any]:
    return {"reason": reason, "message": message, "lastTimestamp": datetime.fromtimestamp(at, UTC).isoformat()}


PENDING: dict[str, Any] = {"status": {"phase": "Pending"}}
SCHEDULED = {"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}}
BACKOFF = "pod didn't trigger scale-up: 1 in backoff after failed scale-up"


def test_a_pods_way_is_read_from_its_status_and_events() -> None:
    assert stage(PENDING, []) is Stage.ASKED
    assert stage(PENDING, [event("TriggeredScaleUp")]) is Stage.BUYING
    assert stage(PENDING, [event("TriggeredScaleUp"), event("NotTriggerScaleUp", at=NOW + 60)]) is Stage.ASKED
    assert stage(SCHEDULED, []) is Stage.PULLING
    assert stage(SCHEDULED, [event("Pulled")]) is Stage.STARTING
    assert stage({"status": {"phase": "Running"}}, []) is Stage.STARTED


@pytest.mark.parametrize(
    ("pod", "events", "waited", "words"),
    [
        (PENDING, [], 59, None),
        (PENDING, [], 60, "no machine was asked for within 60 s"),
        (PENDING, [event("TriggeredScaleUp")], 200, None),
        (PENDING, [event("TriggeredScaleUp")], 240, "has not come within 240 s"),
        (PENDING, [event("NotTriggerScaleUp", BACKOFF)], 14, None),
        (PENDING, [event("NotTriggerScaleUp", BACKOFF)], 16, "in backoff after failed scale-up"),
        (PENDING, [event("TriggeredScaleUp"), event("NotTriggerScaleUp", BACKOFF, NOW + 70)], 85, "in backoff"),
        (PENDING, [event("NotTriggerScaleUp", BACKOFF), event("TriggeredScaleUp", at=NOW + 9)], 85, None),
        (PENDING, [event("FailedScaleUp", "GCE out of resources")], 20, "out of resources"),
        (SCHEDULED, [event("NotTriggerScaleUp", BACKOFF)], 500, None),
    ],
)
def test_a_pod_is_stuck_when_the_autoscaler_says_so_or_says_nothing(
    pod: Any, events: Any, waited: float, words: str | None
) -> None:
    found = stuck(pod, events, waited, Clocks())
    assert (found is None) if words is None else (found is not None and words in found.why)


def test_a_full_pool_is_not_the_markets_fault() -> None:
    full = stuck(
        PENDING, [event("NotTriggerScaleUp", "pod didn't trigger: 1 max node group size reached")], 20, Clocks()
    )
    assert full is not None
    assert full.is_full


@pytest.mark.parametrize(("says", "full"), [("1 Insufficient cpu", True), ("1 node(s) didn't match", False)])
def test_a_pool_whose_machines_are_all_busy_is_full_and_not_without_machines(says: str, full: bool) -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": f"0/3 nodes are available: {says}."}
    found = stuck({"status": {"phase": "Pending", "conditions": [condition]}}, [], 60, Clocks())
    assert found is not None
    assert found.is_full is full


def test_the_way_of_a_pod_is_told_once_a_step() -> None:
    journey = Journey(NOW)
    told = [journey.at(Stage.ASKED, NOW), journey.at(Stage.ASKED, NOW + 5), journey.at(Stage.PULLING, NOW + 71)]
    assert told == ["asked after 0 s", "", "asked after 0 s, it has its machine; the image is pulled after 71 s"]
    assert journey.inside(Stage.PULLING, NOW + 80) == 9


# The market.


class Market:
    """Pools that have spot machines at some times, and a cluster-autoscaler before them, a second at a time.

    It looks every 10 s, learns of a failed purchase with its next refresh of the groups (60 s), and then leaves the
    group alone for 5 minutes. A machine takes 70 s to be there.
    """

    def __init__(self, has: Callable[[str, float], bool]) -> None:
        self.has = has
        self.backoff: dict[str, float] = {}

    def place(self, rung: Rung, began: float) -> Iterator[tuple[float, str, list[dict[str, Any]]]]:
        """Each second: the time, the pool that the pod got (or none yet), and the pod's events so far."""
        events: list[dict[str, Any]] = []
        buying = ""
        outcome_at = ready_at = float("inf")
        for now in itertools.count(began):
            if now % 10 == 0 and not buying:
                free = [pool.name for pool in rung.pools if self.backoff.get(pool.name, 0) <= now]
                if free:
                    buying = free[0]
                    events.append(event("TriggeredScaleUp", "pod triggered scale-up", now))
                    ready_at = now + 70 if self.has(buying, now) else float("inf")
                    outcome_at = float("inf") if self.has(buying, now) else now + 60
                else:
                    events.append(event("NotTriggerScaleUp", BACKOFF, now))
            if now >= outcome_at:
                self.backoff[buying] = now + 300
                buying, outcome_at = "", float("inf")
            yield now, (buying if now >= ready_at else ""), events


def climb(
    market: Market, pools: list[Pool], breakers: dict[str, Breaker], attempts: list[Attempt], now: float
) -> tuple[str, float]:
    """The pool that an attempt gets, and when: what the operator does, without an API server."""
    found = rungs(pools, breakers, attempts, now)
    for number, rung in enumerate(found):
        began = now
        if rung.is_probe:
            breakers[rung.pools[0].name] = breakers[rung.pools[0].name].probed(now)
        for now, got, events in market.place(rung, began):
            if got:
                breakers[got] = breakers.get(got, Breaker()).started(now)
                return got, now
            if number + 1 < len(found) and (found_stuck := stuck(PENDING, events, now - began, Clocks())):
                if not found_stuck.is_full:
                    name = rung.pools[0].name
                    breakers[name] = breakers.get(name, Breaker()).failed(now)
                break
    raise AssertionError("the last rung waits for ever")


def test_a_pod_on_a_pool_without_machines_is_on_the_next_within_90_seconds(pools: list[Pool]) -> None:
    slowest = 0.0
    for offset in range(60):  # of the autoscaler's rounds
        market = Market(lambda pool, _: pool != "spot-a")
        began = NOW + offset
        breakers: dict[str, Breaker] = {}
        got, at = climb(market, pools[:2], breakers, [], began)
        moved = breakers["spot-a"].opened - began
        assert got == "spot-b"
        slowest = max(slowest, moved)
        assert breakers["spot-a"].state(at) is State.OPEN
    assert slowest <= 90


def test_the_next_job_does_not_even_try_the_pool_without_machines(pools: list[Pool]) -> None:
    market = Market(lambda pool, _: pool != "spot-a")
    breakers: dict[str, Breaker] = {}
    _, at = climb(market, pools, breakers, [], NOW)
    got, then = climb(market, pools, breakers, [], at)
    assert (got, then - at <= 80) == ("spot-b", True)


@pytest.mark.parametrize("spot", [1, 2])
def test_in_a_storm_of_reclaims_a_job_is_on_demand_after_two_wasted_attempts(pools: list[Pool], spot: int) -> None:
    market = Market(lambda *_: True)
    breakers: dict[str, Breaker] = {}
    here = [*pools[:spot], pools[2]]
    for _ in range(20):  # jobs, one after another, each loses every spot machine after a minute
        attempts: list[Attempt] = []
        now = NOW
        while True:
            got, now = climb(market, here, breakers, attempts, now)
            if got == "on-demand-a":
                break
            now += 60
            breakers[got] = breakers[got].lost(now)
            attempts.append(Attempt(len(attempts) + 1, Cause.SPOT_RECLAIM, "", got, "spot"))
        assert len(attempts) <= 2


def test_a_pool_that_comes_and_goes_is_gone_back_to_at_most_once_in_half_an_hour(pools: list[Pool]) -> None:
    market = Market(lambda pool, now: pool != "spot-a" or int(now // 240) % 2 == 0)  # 4 minutes there, 4 minutes not
    breakers: dict[str, Breaker] = {}
    back: list[float] = []
    now = NOW
    while now < NOW + 6 * 3600:
        before = breakers.get("spot-a", Breaker())
        _, at = climb(market, [pools[0], pools[2]], breakers, [], now)
        after = breakers.get("spot-a", Breaker())
        if before.opened and not after.opened:
            back.append(after.closed)
        now = max(at, now + 20)
    assert len(back) >= 3  # it is gone back to at all
    assert min(later - earlier for earlier, later in itertools.pairwise(back)) >= 1800
