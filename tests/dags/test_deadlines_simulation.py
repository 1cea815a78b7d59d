"""How jobs go under the policies: what a run costs, what a reclaim takes, and what is promised of tidepool's policy."""

import math
from collections.abc import Iterator
from functools import partial
from statistics import fmean

import pytest

from tidepool.deadlines import comparison, policies, priors, scenarios, traces
from tidepool.deadlines.policies import POLICIES, RESTART_SECONDS
from tidepool.deadlines.priors import HOUR, Rate, Work
from tidepool.deadlines.scenarios import Scenario
from tidepool.deadlines.simulation import Job, simulate
from tidepool.deadlines.traces import Span, Trace

PRICE = 0.38
RESTART_HOURS = RESTART_SECONDS / HOUR
NEVER = traces.always(1000 * HOUR)


def job(hours: float = 2.0, deadline: float = 6.0, redo: float = 600.0, reclaimed: tuple[float, ...] = ()) -> Job:
    return Job(
        start=0.0,
        work=hours * HOUR,
        deadline=deadline * HOUR,
        believed=Work([hours * HOUR]),
        redo=redo,
        reclaimed=tuple(each * HOUR for each in reclaimed),
        reclaims=Rate(1, 100),
        returns=priors.RETURNS,
    )


def test_on_demand_costs_the_work_and_one_restart() -> None:
    run = simulate(job(), policies.all_on_demand, NEVER, PRICE)
    assert run.is_met
    assert run.cost == pytest.approx(2 + RESTART_HOURS)


def test_spot_without_reclaims_costs_its_price() -> None:
    run = simulate(job(), policies.all_spot, NEVER, PRICE)
    assert run.cost == pytest.approx(PRICE * (2 + RESTART_HOURS))
    assert run.spot_seconds == pytest.approx((2 + RESTART_HOURS) * HOUR)


@pytest.mark.parametrize(("redo", "lost"), [(600.0, 295 / HOUR), (math.inf, 1 - RESTART_HOURS)])
def test_a_reclaim_costs_a_restart_and_the_work_since_the_last_checkpoint(redo: float, lost: float) -> None:
    # 55 minutes of work until the first hour's end, less the second that keeps it off a checkpoint's moment.
    run = simulate(job(redo=redo, reclaimed=(3595 / HOUR,)), policies.all_spot, NEVER, PRICE)
    lost_hours = lost if math.isfinite(redo) else lost - 5 / HOUR
    assert run.reclaims == 1
    assert run.cost == pytest.approx(PRICE * (2 + 2 * RESTART_HOURS + lost_hours))


def test_what_is_not_done_in_time_is_paid_for_as_on_demand() -> None:
    run = simulate(job(hours=2, deadline=4), policies.all_spot, Trace("gone", (Span(0, 0.5 * HOUR, 1),)), PRICE)
    done = (0.5 - RESTART_HOURS) // (1 / 6) / 6
    assert not run.is_met
    assert run.cost == pytest.approx(PRICE * 0.5 + 2 - done + RESTART_HOURS)


def test_the_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    scenario = Scenario("mixed", traces.synthetic("mixed", 4))
    assert comparison.compare(scenario, 1, 4) == comparison.compare(scenario, 1, 4)
    assert comparison.compare(scenario, 1, 4) != comparison.compare(scenario, 1, 5)


def worlds(seed: int) -> Iterator[Scenario]:
    yield from (each for each in scenarios.built_in(seed) if each.is_work_known)


@pytest.mark.parametrize("seed", range(4))
def test_with_nothing_left_to_chance_no_deadline_is_ever_missed(seed: int) -> None:
    """The safety net: whatever the trace and the reclaims, with a target of 100 % and a runtime that is known."""
    certain = partial(policies.tidepool, target=1.0)
    for scenario in worlds(seed):
        for each in scenarios.jobs(scenario, 1, seed):
            for policy in (certain, policies.greedy):
                assert simulate(each, policy, scenario.trace, PRICE).is_met, (scenario.label, each)


@pytest.fixture(scope="module")
def compared() -> list[tuple[Scenario, dict[str, comparison.Row]]]:
    return [
        (scenario, {row.policy: row for row in comparison.compare(scenario, 3, seed)})
        for seed in (1, 2)
        for scenario in worlds(seed)
    ]


Compared = list[tuple[Scenario, dict[str, comparison.Row]]]


def test_tidepool_meets_99_percent_of_the_deadlines_in_every_scenario(compared: Compared) -> None:
    by_name: dict[str, list[float]] = {}
    for scenario, rows in compared:
        by_name.setdefault(scenario.label, []).append(rows["tidepool"].met)
    assert {name for name, met in by_name.items() if sum(met) / len(met) < 0.99} == set()


def test_with_checkpoints_tidepool_costs_no_more_than_uniform_progress_in_any_scenario(compared: Compared) -> None:
    dearer = [
        (scenario.label, rows["tidepool"].cost, rows["uniform-progress"].cost)
        for scenario, rows in compared
        if scenario.has_checkpoints and rows["tidepool"].cost > rows["uniform-progress"].cost
    ]
    assert dearer == []


def test_with_checkpoints_tidepool_halves_the_cost_where_spot_is_there(compared: Compared) -> None:
    there = [
        (scenario.label, rows["tidepool"].cost)
        for scenario, rows in compared
        if scenario.has_checkpoints and scenario.trace.share >= comparison.SPOT_IS_THERE
    ]
    assert len(there) == 10
    assert [each for each in there if each[1] > 0.5] == []


def test_without_checkpoints_tidepool_pays_for_deadlines_that_uniform_progress_misses(compared: Compared) -> None:
    """The two can't be had together: with less than twice the work's time, a reclaim is a miss."""
    without = [rows for scenario, rows in compared if not scenario.has_checkpoints]
    met, cost = (
        {name: fmean(getattr(rows[name], what) for rows in without) for name in ("tidepool", "uniform-progress")}
        for what in ("met", "cost")
    )
    assert met["tidepool"] >= 0.99 > 0.96 > met["uniform-progress"]
    assert cost["uniform-progress"] < cost["tidepool"] < 1.0


def test_targets_say_where_they_fail_and_by_how_much() -> None:
    scenario = Scenario("none", Trace("none", (Span(0, 1000 * HOUR, 1),)), has_checkpoints=False)
    rows = [
        comparison.Row(scenario.label, name, 20, met, cost, cost, cost, 0.0, 0.0)
        for name, met, cost in (("all-on-demand", 1.0, 1.0), ("uniform-progress", 0.9, 0.4), ("tidepool", 0.98, 0.7))
    ]
    late, dear, dearer = comparison.targets([(scenario, rows)])
    assert (late.is_met, late.but) == (False, ("none, no checkpoints: 98.0% (all-on-demand 100.0%)",))
    assert (dear.is_met, dear.but) == (False, ("none, no checkpoints: 0.70",))
    assert dearer.promise.endswith("without checkpoints: 0.700 against 0.400")
    assert dearer.but == ("none, no checkpoints: 0.70 and 98.0% met against 0.40 and 90.0%",)


def test_every_policy_is_compared() -> None:
    rows = comparison.compare(Scenario("always", NEVER, per_hour=0.05), 1, 1)
    assert [row.policy for row in rows] == list(POLICIES)
    assert rows[0].cost == pytest.approx(1.0)
    assert rows[1].on_spot == pytest.approx(1.0)
