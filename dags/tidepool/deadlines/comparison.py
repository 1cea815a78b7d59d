"""All policies over the same jobs and the same reclaims: a row for each, and what became of the promises.

The published policies are asked all the time and know at once whether spot has machines; ours is asked, and knows, what
the operator that runs it does (`attempts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from tidepool.deadlines import attempts, simulation
from tidepool.deadlines.policies import POLICIES, RESTART_SECONDS, TARGET
from tidepool.deadlines.priors import HOUR
from tidepool.deadlines.scenarios import Scenario, jobs

ON_DEMAND = "all-on-demand"
BASELINE = "uniform-progress"
OURS = "tidepool"

SPOT_IS_THERE = 0.9
"""The share of time with spot machines from which on spot is taken to be there."""

FEWER = 0.01
"""So much fewer deadlines may be met than all-on-demand meets, where it misses some: a point of percentage."""

SPOT_PRICE = 0.38
"""Of the on-demand price: the median of 185 instance types in us-east-1 (spot August 2026, list prices July 2026)."""


@dataclass(frozen=True)
class Row:
    """One policy in one scenario.

    met: share of deadlines. cost: of all jobs, relative to all-on-demand; low and high: of single jobs, the 5th and
    95th percentile. reclaims: per job. on_spot: share of the paid time.
    """

    scenario: str
    policy: str
    jobs: int
    met: float
    cost: float
    low: float
    high: float
    reclaims: float
    on_spot: float


@dataclass(frozen=True)
class Target:
    """What is promised of tidepool's policy, with its figures, whether it holds, and exactly where it doesn't.

    but: scenarios that are not as promised, or are worse than the average that is.
    """

    promise: str
    is_met: bool
    but: tuple[str, ...]


Compared = Sequence[tuple[Scenario, dict[str, Row]]]


def compare(scenario: Scenario, repeats: int, seed: int, spot_price: float = SPOT_PRICE) -> list[Row]:
    """A row for each policy, over the same jobs and the same reclaims."""
    work = list(jobs(scenario, repeats, seed))
    alone = [(job.work + RESTART_SECONDS) / HOUR for job in work]
    rows = []
    for name, policy in POLICIES.items():
        simulate = attempts.simulate if name == OURS else simulation.simulate
        runs = [simulate(job, policy, scenario.trace, spot_price) for job in work]
        ratios = quantiles([run.cost / cost for run, cost in zip(runs, alone, strict=True)], n=20, method="inclusive")
        spot = sum(run.spot_seconds for run in runs) / HOUR
        paid = sum(run.cost for run in runs) + (1 - spot_price) * spot
        rows.append(
            Row(
                scenario=scenario.label,
                policy=name,
                jobs=len(runs),
                met=fmean(run.is_met for run in runs),
                cost=sum(run.cost for run in runs) / sum(alone),
                low=ratios[0],
                high=ratios[-1],
                reclaims=fmean(run.reclaims for run in runs),
                on_spot=spot / paid,
            )
        )
    return rows


def targets(compared: Sequence[tuple[Scenario, Sequence[Row]]]) -> list[Target]:
    """The promises, for these scenarios and their rows. Those about other scenarios are left out."""
    every = [(scenario, {row.policy: row for row in rows}) for scenario, rows in compared]
    known = [each for each in every if each[0].is_work_known]
    uncertain = [each for each in every if not each[0].is_work_known]
    found = []
    if known:
        found.append(_met(known))
    if uncertain:
        found.append(_met_as_on_demand(uncertain))
    if there := [each for each in every if each[0].has_checkpoints and each[0].trace.share >= SPOT_IS_THERE]:
        found.append(_half(there))
    for kind, has_checkpoints in (("with", True), ("without", False)):
        if same := [each for each in known if each[0].has_checkpoints == has_checkpoints]:
            found.append(_not_dearer(f"not dearer than {BASELINE} on average, {kind} checkpoints", same))
    if as_good := [each for each in uncertain if _keeps_up(each[1], BASELINE)]:
        words = f"runtimes uncertain: not dearer than {BASELINE} on average where that meets as many"
        found.append(_not_dearer(words, as_good))
    return found


def _met(compared: Compared) -> Target:
    least = min(rows[OURS].met for _, rows in compared)
    late = [f"{scenario.label}: {rows[OURS].met:.1%}" for scenario, rows in compared if rows[OURS].met < TARGET]
    words = f"at least {TARGET:.0%} of deadlines met in every scenario with known runtimes: {least:.1%} or more"
    return Target(words, not late, tuple(late))


def _met_as_on_demand(compared: Compared) -> Target:
    fewer = fmean(rows[ON_DEMAND].met - rows[OURS].met for _, rows in compared)
    late = [
        f"{scenario.label}: {rows[OURS].met:.1%} against {rows[ON_DEMAND].met:.1%}"
        for scenario, rows in compared
        if not _keeps_up(rows, OURS)
    ]
    words = f"runtimes uncertain: at most {100 * FEWER:.0f} point fewer deadlines met than {ON_DEMAND} on average"
    return Target(f"{words}: {100 * fewer:.1f}", fewer <= FEWER, tuple(late))


def _half(compared: Compared) -> Target:
    most = max(rows[OURS].cost for _, rows in compared)
    dear = [f"{scenario.label}: {rows[OURS].cost:.2f}" for scenario, rows in compared if rows[OURS].cost > 0.5]
    words = f"with checkpoints, half the cost or less where spot is there {SPOT_IS_THERE:.0%} of the time"
    return Target(f"{words}: {most:.2f} at most", not dear, tuple(dear))


def _keeps_up(rows: dict[str, Row], policy: str) -> bool:
    """Whether a policy meets as many deadlines as all-on-demand, save a few."""
    return rows[policy].met >= rows[ON_DEMAND].met - FEWER - 1e-9


def _not_dearer(promise: str, compared: Compared) -> Target:
    ours, theirs = (fmean(rows[name].cost for _, rows in compared) for name in (OURS, BASELINE))
    dearer = [
        f"{scenario.label}: {rows[OURS].cost:.2f} and {rows[OURS].met:.1%} met "
        f"against {rows[BASELINE].cost:.2f} and {rows[BASELINE].met:.1%}"
        for scenario, rows in compared
        if rows[OURS].cost > rows[BASELINE].cost
    ]
    return Target(f"{promise}: {ours:.3f} against {theirs:.3f}", ours <= theirs, tuple(dearer))
