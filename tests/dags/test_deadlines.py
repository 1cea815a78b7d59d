"""What policies do at one moment, and what is believed before anything was seen."""

import dataclasses
import math
import random
from statistics import NormalDist, fmean, median
from typing import Any

import pytest

from tidepool.deadlines import placement, policies, priors
from tidepool.deadlines.placement import History
from tidepool.deadlines.policies import POLICIES, Moment
from tidepool.deadlines.priors import HOUR, Rate, Work

MINUTE = 60.0


def moment(**changed: Any) -> Moment:
    """A job of 2 hours with checkpoints every 10 minutes and 6 hours to its deadline, at its start."""
    start = Moment(
        elapsed=0.0,
        left=6 * HOUR,
        saved=0.0,
        progress=0.0,
        work=Work([2 * HOUR]),
        redo=10 * MINUTE,
        restart=5 * MINUTE,
        running=None,
        spot_is_there=True,
        spot_price=0.38,
        on_demand_price=1.0,
        reclaims=Rate(1.0, 20.0),
        step=5 * MINUTE,
    )
    return start._replace(**changed)


@pytest.mark.parametrize("name", ["all-spot", "greedy", "uniform-progress", "tidepool"])
def test_a_job_with_time_to_spare_is_on_spot(name: str) -> None:
    assert POLICIES[name](moment()) == "spot"


@pytest.mark.parametrize("name", ["greedy", "uniform-progress", "tidepool"])
def test_a_job_with_time_to_spare_waits_for_spot(name: str) -> None:
    assert POLICIES[name](moment(spot_is_there=False)) is None


@pytest.mark.parametrize("name", ["all-on-demand", "greedy", "uniform-progress", "tidepool"])
@pytest.mark.parametrize("spot_is_there", [True, False])
def test_at_the_point_of_no_return_every_policy_with_a_safety_net_is_on_demand(name: str, spot_is_there: bool) -> None:
    late = moment(elapsed=3 * HOUR, left=2 * HOUR + 5 * MINUTE, spot_is_there=spot_is_there)
    assert POLICIES[name](late) == "on-demand"


def test_uniform_progress_goes_on_demand_once_it_is_behind_its_line() -> None:
    behind = moment(elapsed=1 * HOUR, left=5 * HOUR, saved=15 * MINUTE, progress=15 * MINUTE, spot_is_there=False)
    assert policies.uniform_progress(behind) == "on-demand"
    ahead = behind._replace(saved=25 * MINUTE, progress=25 * MINUTE)
    assert policies.uniform_progress(ahead) is None


def test_uniform_progress_leaves_on_demand_only_when_two_changeovers_ahead_of_its_line() -> None:
    # The line has 20 minutes at 1 hour, and 10 more at two changeovers (2 x 15 minutes) later.
    on = moment(elapsed=1 * HOUR, left=5 * HOUR, running="on-demand", saved=20 * MINUTE)
    assert policies.uniform_progress(on._replace(progress=29 * MINUTE)) == "on-demand"
    assert policies.uniform_progress(on._replace(progress=31 * MINUTE)) == "spot"


def test_tidepool_waits_where_uniform_progress_already_pays_for_on_demand() -> None:
    behind = moment(elapsed=1 * HOUR, left=5 * HOUR, saved=15 * MINUTE, progress=15 * MINUTE, spot_is_there=False)
    assert policies.tidepool(behind) is None


@pytest.mark.parametrize("running", ["spot", "on-demand"])
@pytest.mark.parametrize("redo", [10 * MINUTE, math.inf])
@pytest.mark.parametrize("left", [6.0, 1.0, -1.0])
def test_tidepool_leaves_an_attempt_where_it_is(running: str, redo: float, left: float) -> None:
    assert policies.tidepool(moment(running=running, redo=redo, left=left * HOUR, progress=HOUR)) == running


def test_tidepool_takes_spot_only_where_that_pays_and_is_safe() -> None:
    again = moment(saved=30 * MINUTE, progress=30 * MINUTE)
    assert policies.tidepool(again) == "spot"
    assert policies.tidepool(again._replace(left=1.8 * HOUR)) == "on-demand", "too late to lose another machine"
    assert policies.tidepool(again._replace(spot_price=0.995)) == "on-demand", "no cheaper"
    assert policies.tidepool(again._replace(reclaims=Rate(400, 4))) == "on-demand", "gone before it pays"


def test_without_checkpoints_uniform_progress_keeps_its_guarantee() -> None:
    """Its safety net leaves time for the work twice and for two restarts: a reclaim at the last moment is no miss."""
    for hours, chosen in ((6.0, "spot"), (4.3, "spot"), (4.2, "on-demand"), (2.2, "on-demand")):
        now = moment(left=hours * HOUR, redo=math.inf)
        assert policies.uniform_progress(now) == chosen, hours
    idle = moment(left=5 * HOUR, redo=math.inf, spot_is_there=False)
    assert policies.uniform_progress(idle) == "on-demand", "it is always behind its line"


@pytest.mark.parametrize("name", ["uniform-progress", "tidepool", "greedy"])
def test_a_job_without_checkpoints_is_never_moved_off_on_demand(name: str) -> None:
    assert POLICIES[name](moment(redo=math.inf, running="on-demand", progress=HOUR)) == "on-demand"


@pytest.mark.parametrize("redo", [10 * MINUTE, math.inf])
def test_a_higher_hazard_never_turns_on_demand_into_spot(redo: float) -> None:
    for left in (2.3, 2.5, 3.0, 4.0, 5.0):
        choices = [
            policies.tidepool(moment(left=left * HOUR, redo=redo, reclaims=Rate(rate * 100, 100)))
            for rate in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
        ]
        assert choices == sorted(choices, key=["spot", "on-demand"].index), (left, choices)


def test_without_checkpoints_tight_deadlines_are_on_spot_only_while_a_reclaim_is_improbable_enough() -> None:
    tight = moment(left=3 * HOUR, redo=math.inf)  # 80 minutes in which a reclaim would be too late
    assert policies.tidepool(tight._replace(reclaims=Rate(0.5, 100))) == "spot"
    assert policies.tidepool(tight._replace(reclaims=Rate(2, 100))) == "on-demand"
    assert policies.tidepool(tight._replace(reclaims=Rate(2, 100)), target=0.95) == "spot"


def test_a_deadline_that_cannot_be_met_is_late_on_demand() -> None:
    assert policies.tidepool(moment(left=HOUR)) == "on-demand"
    assert policies.tidepool(moment(left=-HOUR, spot_is_there=False)) == "on-demand"


@pytest.mark.parametrize(
    ("left", "saved", "redo"), [(2.3, 0, 9), (2.8, 0, 9), (3.5, 0, 9), (4.1, 0, 9), (2.3, 0.5, 0.5)]
)
def test_the_probability_of_a_miss_is_what_drawing_reclaims_gives(left: float, saved: float, redo: float) -> None:
    """A job about to start: without checkpoints, and with some that are far apart."""
    work = (2 - saved) * HOUR
    now = moment(left=left * HOUR, redo=math.inf, reclaims=Rate(20, 100), progress=saved * HOUR, saved=saved * HOUR)
    now = now._replace(redo=redo * HOUR if redo < 2 else math.inf)
    until_done, late, draws = work + 5 * MINUTE, 0, 20_000
    rng = random.Random(5)  # noqa: S311
    for _ in range(draws):
        reclaimed = rng.expovariate(rng.gammavariate(20, 1 / 100)) * HOUR
        done = max(0.0, reclaimed - 5 * MINUTE)
        kept = done - min(done, redo * HOUR)
        late += reclaimed < until_done and reclaimed + 5 * MINUTE + work - kept > now.left
    assert policies.miss_on_spot(now) == pytest.approx(late / draws, abs=0.01)


def test_an_uncertain_runtime_misses_on_either_market_alike_and_still_may_use_spot() -> None:
    work = Work([(0.5 + index / 100) * HOUR for index in range(100)])  # up to 1.5 hours
    now = moment(left=1.45 * HOUR, work=work, redo=0.0, reclaims=Rate(0.001, 100))
    assert policies.miss_on_demand(now) == pytest.approx(0.12, abs=0.02)
    assert policies.tidepool(now) == "spot", "spot adds next to nothing"
    assert policies.tidepool(now._replace(reclaims=Rate(300, 100))) == "on-demand", "spot adds more than is allowed"


def test_where_on_demand_is_unsure_spot_may_miss_a_quarter_more() -> None:
    assert policies.allowance(0.0) == policies.allowance(0.04) == pytest.approx(0.01)
    assert policies.allowance(0.12) == pytest.approx(0.03)


def test_an_uncertain_runtime_is_no_reason_to_wait_while_on_demand_gets_less_sure() -> None:
    work = Work([(0.5 + index / 100) * HOUR for index in range(100)])
    now = moment(left=1.45 * HOUR, work=work, reclaims=Rate(0.001, 100), spot_is_there=False)
    assert policies.tidepool(now) == "on-demand"
    assert policies.tidepool(now._replace(left=3 * HOUR)) is None


def test_bands_become_hourly_hazards() -> None:
    hazards = [priors.reclaims(band).per_hour for band in priors.BUCKETS]
    assert hazards == sorted(hazards)
    assert hazards[0] == pytest.approx(0.001, rel=0.1)
    assert hazards[-1] == pytest.approx(0.015, rel=0.01)
    assert priors.reclaims("<5%").none_within(24 * HOUR) == pytest.approx(0.975, abs=0.01)
    with pytest.raises(ValueError, match=r"'30%' is no band .* <5%, 5-10%"):
        priors.reclaims("30%")


def test_a_few_reclaims_outweigh_a_good_band() -> None:
    assert priors.reclaims("<5%").seen(3, 10).per_hour > 0.08


@pytest.mark.parametrize("events", [0.02, 1.0, 7.0])
def test_the_expected_time_to_a_reclaim_is_the_area_under_survival(events: float) -> None:
    rate, width = Rate(events, 24.0), 36.0
    area = sum(rate.none_within((step + 0.5) * width) * width for step in range(1000))
    assert rate.expected_seconds(1000 * width) == pytest.approx(area, rel=1e-3)


def test_runtimes_are_believed_the_more_often_they_were_seen() -> None:
    spread = [NormalDist.from_samples(priors.runtime([1000.0] * runs, 5000.0).seconds).stdev for runs in (0, 1, 5, 20)]
    assert spread == sorted(spread, reverse=True)
    assert median(priors.runtime([1000.0] * 5, 5000.0).seconds) == pytest.approx(1000, rel=0.1)


def test_without_a_past_run_hardly_any_deadline_is_sure() -> None:
    assert fmean(seconds > 2000 for seconds in priors.runtime([], 1000.0).seconds) > 0.1


def test_runtimes_cover_what_they_promise() -> None:
    """Of jobs whose runtime is drawn from the past runs' distribution, 99 % are within the 99th percentile."""
    rng, within, draws = random.Random(3), 0, 400  # noqa: S311
    for _ in range(draws):
        *past, now = [3600 * rng.lognormvariate(0, 0.2) for _ in range(9)]
        within += now <= priors.runtime(past, 7200).seconds[int(0.99 * priors.VALUES)]
    assert within / draws >= 0.98


@pytest.mark.parametrize("past", [(0.0,), (-5.0, 10.0)])
def test_runtimes_that_cannot_be_are_refused(past: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="more than 0 seconds"):
        priors.runtime(past, 100.0)


def test_work_that_took_longer_than_ever_takes_a_little_longer_still() -> None:
    work = Work([100.0, 200.0])
    assert list(work.at_least(150)) == [200.0]
    assert work.expected_after(150) == 200
    assert list(work.at_least(300)) == [pytest.approx(330)]


SEEN = History(runtimes=(3600.0, 3700.0, 3500.0, 3650.0), reclaims=0, spot_hours=1000)
PRICES = {"spot_price": 0.04, "on_demand_price": 0.1}


def test_the_market_of_an_attempt_and_why() -> None:
    choice = placement.market(SEEN, deadline=4 * HOUR, now=0.0, allotted=4 * HOUR, **PRICES)
    assert choice.market == "spot"
    assert "4 h 00 min left" in choice.why
    assert "from 4 past runs" in choice.why
    assert "each of which makes all of it undone" in choice.why
    assert "1.0% more on spot are allowed" in choice.why


def test_an_attempt_without_time_for_another_is_on_demand() -> None:
    seen = dataclasses.replace(SEEN, reclaims=5, spot_hours=50)
    choice = placement.market(seen, deadline=4 * HOUR, now=2.2 * HOUR, allotted=4 * HOUR, **PRICES)
    assert choice.market == "on-demand"
    assert choice.miss_on_spot > 0.01 >= choice.miss_on_demand


def test_an_attempt_waits_for_spot_only_while_there_is_time() -> None:
    waiting = placement.market(SEEN, 6 * HOUR, 0.0, allotted=6 * HOUR, spot_is_there=False, **PRICES)
    assert waiting.market is None
    assert waiting.why.startswith("waiting for spot")
    late = placement.market(SEEN, 6 * HOUR, 4.5 * HOUR, allotted=6 * HOUR, spot_is_there=False, **PRICES)
    assert late.market == "on-demand"


def test_the_first_run_of_a_job_with_a_deadline_is_on_demand() -> None:
    choice = placement.market(History(), 4 * HOUR, 0.0, allotted=4 * HOUR, **PRICES)
    assert choice.market == "on-demand"
    assert "a guess: no past run" in choice.why
    assert choice.why.endswith("the first run of a job that nothing is known of is on-demand")
    guessed = placement.market(History(), 24 * HOUR, 0.0, allotted=24 * HOUR, expected=900.0, **PRICES)
    assert guessed.market == "spot"
    assert "the work takes 16 min (as its author expects)" in guessed.why


def test_on_demand_is_not_said_to_be_needed_where_spot_is_no_cheaper() -> None:
    dear = placement.market(SEEN, 9 * HOUR, 0.0, allotted=9 * HOUR, spot_price=0.1, on_demand_price=0.1)
    assert dear.market == "on-demand"
    assert dear.why.endswith("; spot would be no cheaper")
    late = placement.market(SEEN, HOUR / 2, 0.0, allotted=9 * HOUR, **PRICES)
    assert late.why.endswith("; late, but no later than need be")


def test_saved_work_leaves_more_time() -> None:
    seen = dataclasses.replace(SEEN, reclaims=5, spot_hours=50)
    late = {"deadline": 4 * HOUR, "now": 2.6 * HOUR, "allotted": 4 * HOUR, "checkpoint_every": 900.0, **PRICES}
    assert placement.market(seen, **late).market == "on-demand"
    resumed = placement.market(seen, saved=1800.0, **late)
    assert resumed.market == "spot"
    assert "of which 30 min are saved" in resumed.why
    assert "each of which makes at most 15 min of it undone" in resumed.why


def test_what_an_attempt_has_surely_saved_is_all_but_its_last_interval() -> None:
    assert placement.kept(3600.0, 600.0) == 3000
    assert placement.kept(500.0, 600.0) == 0
    assert placement.kept(3600.0, math.inf) == 0


def test_a_task_must_leave_time_for_the_longest_chain_after_it() -> None:
    after = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
    seconds = {"b": 100.0, "c": 300.0, "d": 50.0}.__getitem__
    assert placement.task_deadline(1000.0, "a", after, seconds) == 650
    assert placement.task_deadline(1000.0, "d", after, seconds) == 1000
