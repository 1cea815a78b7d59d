"""How jobs go under the policies: what a run costs, what a reclaim takes, and what is promised of tidepool's policy."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import pytest

from tidepool.deadlines import attempts, comparison, policies, scenarios, traces
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


OURS = partial(policies.tidepool, target=policies.TARGET)


def test_an_attempt_stays_where_it_is_and_the_next_one_goes_on_from_what_is_saved() -> None:
    run = attempts.simulate(job(reclaimed=(1.0,)), OURS, NEVER, PRICE)
    # 55 minutes of work until the reclaim, 50 of them saved.
    assert (run.is_met, run.reclaims) == (True, 1)
    assert run.cost == pytest.approx(PRICE * (2 + 2 * RESTART_HOURS + 5 / 60))


def test_once_on_demand_a_job_is_there_to_its_end() -> None:
    asked: list[Any] = []

    def policy(moment: policies.Moment) -> Any:
        asked.append(moment.running)
        return OURS(moment)

    late = job(deadline=2.2)
    run = attempts.simulate(late, policy, NEVER, PRICE)
    assert (run.is_met, run.spot_seconds, asked) == (True, 0.0, [None])
    assert run.cost == pytest.approx(2 + RESTART_HOURS)


def test_that_spot_is_gone_is_found_out_by_asking_for_a_machine_and_waited_for_as_the_breaker_says() -> None:
    chosen: list[tuple[float, bool]] = []

    def policy(moment: policies.Moment) -> Any:
        chosen.append((moment.elapsed, moment.spot_is_there))
        return OURS(moment)

    run = attempts.simulate(job(), policy, Trace("later", (Span(0.0, 1.0, 0), Span(1000.0, 1e6, 1))), PRICE)
    assert run.is_met
    assert run.spot_seconds > 0
    asked = [elapsed for elapsed, is_there in chosen if is_there]
    assert asked[0] == 0
    assert asked[1] == pytest.approx(attempts.ASKED_SECONDS + 300, abs=attempts.WAIT_SECONDS)
    assert asked[2] == pytest.approx(asked[1] + attempts.ASKED_SECONDS + 600, abs=attempts.WAIT_SECONDS)
    assert len(asked) == 3


@pytest.mark.parametrize(("redo", "most"), [(math.inf, 2), (60.0, 8)])
def test_after_so_many_lost_attempts_it_is_on_demand_whatever_the_deadline(redo: float, most: int) -> None:
    storm = job(deadline=300, redo=redo, reclaimed=tuple(0.4 * index for index in range(1, 700)))
    run = attempts.simulate(storm, OURS, NEVER, 0.01)
    assert run.is_met
    assert run.reclaims <= most


def worlds(seed: int) -> Iterator[Scenario]:
    yield from (each for each in scenarios.built_in(seed) if each.is_work_known)


@pytest.mark.parametrize("seed", range(4))
def test_with_nothing_left_to_chance_no_deadline_is_ever_missed(seed: int) -> None:
    """The safety net: whatever the trace and the reclaims, with a target of 100 % and a runtime that is known."""
    certain = partial(policies.tidepool, target=1.0)
    for scenario in worlds(seed):
        for each in scenarios.jobs(scenario, 1, seed):
            assert attempts.simulate(each, certain, scenario.trace, PRICE).is_met, (scenario.label, each)
            for policy in (policies.greedy, policies.uniform_progress):
                assert simulate(each, policy, scenario.trace, PRICE).is_met, (scenario.label, each)


Compared = list[tuple[Scenario, dict[str, dict[str, float]]]]
SEEDS = (1, 2)


@pytest.fixture(scope="module")
def compared() -> Compared:
    """Of each built-in scenario, and each policy in it, the share of deadlines met and the cost, over all seeds."""
    found: Compared = []
    for same in zip(*(scenarios.built_in(seed) for seed in SEEDS), strict=True):
        rows = [comparison.compare(scenario, 4, seed) for scenario, seed in zip(same, SEEDS, strict=True)]
        found.append(
            (
                same[0],
                {
                    by_seed[0].policy: {what: fmean(getattr(row, what) for row in by_seed) for what in ("met", "cost")}
                    for by_seed in zip(*rows, strict=True)
                },
            )
        )
    return found


def of(compared: Compared, **which: bool) -> Compared:
    return [each for each in compared if all(getattr(each[0], name) == value for name, value in which.items())]


def cost(compared: Sequence[tuple[Scenario, dict[str, dict[str, float]]]], policy: str) -> float:
    return fmean(rows[policy]["cost"] for _, rows in compared)


def test_99_percent_of_the_deadlines_are_met_in_every_scenario_with_known_runtimes(compared: Compared) -> None:
    known = of(compared, is_work_known=True)
    assert len(known) == 16
    late = {scenario.label: rows["tidepool"]["met"] for scenario, rows in known if rows["tidepool"]["met"] < 0.99}
    assert late == {}


def test_where_runtimes_are_uncertain_at_most_a_point_fewer_deadlines_are_met_than_on_demand(
    compared: Compared,
) -> None:
    uncertain = [rows for _, rows in of(compared, is_work_known=False)]
    assert len(uncertain) == 4
    assert fmean(rows["all-on-demand"]["met"] - rows["tidepool"]["met"] for rows in uncertain) <= 0.01


def test_with_checkpoints_the_cost_is_half_or_less_where_spot_is_there(compared: Compared) -> None:
    there = [
        (scenario.label, rows["tidepool"]["cost"])
        for scenario, rows in of(compared, has_checkpoints=True)
        if scenario.trace.share >= comparison.SPOT_IS_THERE
    ]
    assert len(there) >= 4
    assert [each for each in there if each[1] > 0.5] == []


@pytest.mark.parametrize("has_checkpoints", [True, False])
def test_it_is_not_dearer_than_uniform_progress_on_average(compared: Compared, has_checkpoints: bool) -> None:
    known = of(compared, is_work_known=True, has_checkpoints=has_checkpoints)
    assert cost(known, "tidepool") <= cost(known, "uniform-progress")


def test_where_runtimes_are_uncertain_it_is_not_dearer_than_uniform_progress_where_that_meets_as_many(
    compared: Compared,
) -> None:
    as_good = [
        each
        for each in of(compared, is_work_known=False)
        if each[1]["uniform-progress"]["met"] >= each[1]["all-on-demand"]["met"] - 0.01
    ]
    assert as_good
    assert cost(as_good, "tidepool") <= cost(as_good, "uniform-progress")


def test_the_promises_hold_as_they_are_printed(compared: Compared) -> None:
    rows = [
        (
            scenario,
            [
                comparison.Row(scenario.label, name, 1, each["met"], each["cost"], 0, 0, 0, 0)
                for name, each in by.items()
            ],
        )
        for scenario, by in compared
    ]
    found = comparison.targets(rows)
    assert len(found) == 6
    assert [target for target in found if not target.is_met] == []


def test_promises_say_where_they_fail_and_by_how_much() -> None:
    def rows(*figures: tuple[float, float]) -> list[comparison.Row]:
        names = ("all-on-demand", "uniform-progress", "tidepool")
        return [
            comparison.Row(name, name, 20, met, cost, cost, cost, 0.0, 0.0)
            for name, (met, cost) in zip(names, figures, strict=True)
        ]

    none = Trace("none", (Span(0, 1000 * HOUR, 1),))
    known = Scenario("none", none)
    uncertain = Scenario("none, runtime uncertain", none, has_checkpoints=False, is_work_known=False)
    late, fewer, dear, dearer, as_good = comparison.targets(
        [
            (known, rows((1, 1), (0.9, 0.4), (0.98, 0.7))),
            (uncertain, rows((0.97, 1), (0.96, 0.4), (0.95, 0.6))),
        ]
    )
    assert (late.is_met, late.but) == (False, ("none, checkpoints: 98.0%",))
    assert late.promise.endswith("with known runtimes: 98.0% or more")
    assert (fewer.is_met, fewer.but) == (False, ("none, runtime uncertain, no checkpoints: 95.0% against 97.0%",))
    assert (dear.is_met, dear.but) == (False, ("none, checkpoints: 0.70",))
    assert dearer.promise.endswith("with checkpoints: 0.700 against 0.400")
    assert dearer.but == ("none, checkpoints: 0.70 and 98.0% met against 0.40 and 90.0%",)
    assert (as_good.is_met, as_good.promise[-20:]) == (False, ": 0.600 against 0.400"[-20:])


def test_every_policy_is_compared() -> None:
    rows = comparison.compare(Scenario("always", NEVER, per_hour=0.05), 1, 1)
    assert [row.policy for row in rows] == list(POLICIES)
    assert rows[0].cost == pytest.approx(1.0)
    assert rows[1].on_spot == pytest.approx(1.0)
