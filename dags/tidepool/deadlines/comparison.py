"""All policies over the same jobs and the same reclaims: a row for each, and what became of the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from tidepool.deadlines.policies import POLICIES, RESTART_SECONDS, TARGET
from tidepool.deadlines.priors import HOUR
from tidepool.deadlines.scenarios import Scenario, jobs
from tidepool.deadlines.simulation import simulate

BASELINE = "uniform-progress"
OURS = "tidepool"

SPOT_IS_THERE = 0.9
"""The share of time with spot machines from which on spot is taken to be there."""

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
    """What is promised of tidepool's policy, whether it holds, and exactly where and by how much it doesn't."""

    promise: str
    is_met: bool
    but: tuple[str, ...]


def compare(scenario: Scenario, repeats: int, seed: int, spot_price: float = SPOT_PRICE) -> list[Row]:
    """A row for each policy, over the same jobs and the same reclaims."""
    work = list(jobs(scenario, repeats, seed))
    alone = [(job.work + RESTART_SECONDS) / HOUR for job in work]
    rows = []
    for name, policy in POLICIES.items():
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
    """What is promised, for these scenarios and their rows."""
    by_policy = [(scenario, {row.policy: row for row in rows}) for scenario, rows in compared]
    late = [
        f"{scenario.label}: {rows[OURS].met:.1%} (all-on-demand {rows['all-on-demand'].met:.1%})"
        for scenario, rows in by_policy
        if rows[OURS].met < TARGET
    ]
    there = [(scenario, rows) for scenario, rows in by_policy if scenario.trace.share >= SPOT_IS_THERE]
    dear = [f"{scenario.label}: {rows[OURS].cost:.2f}" for scenario, rows in there if rows[OURS].cost > 0.5]
    found = [
        Target(f"at least {TARGET:.0%} of deadlines met", not late, tuple(late)),
        Target(f"half the cost or less where spot is there {SPOT_IS_THERE:.0%} of the time", not dear, tuple(dear)),
    ]
    for has_checkpoints in (True, False):
        same = [(scenario, rows) for scenario, rows in by_policy if scenario.has_checkpoints == has_checkpoints]
        if same:
            kind = "with" if has_checkpoints else "without"
            found.append(_not_dearer(f"not dearer than {BASELINE} on average, {kind} checkpoints", same))
    return found


def _not_dearer(promise: str, compared: Sequence[tuple[Scenario, dict[str, Row]]]) -> Target:
    ours, theirs = (fmean(rows[name].cost for _, rows in compared) for name in (OURS, BASELINE))
    dearer = [
        f"{scenario.label}: {rows[OURS].cost:.2f} and {rows[OURS].met:.1%} met "
        f"against {rows[BASELINE].cost:.2f} and {rows[BASELINE].met:.1%}"
        for scenario, rows in compared
        if rows[OURS].cost > rows[BASELINE].cost
    ]
    return Target(f"{promise}: {ours:.3f} against {theirs:.3f}", ours <= theirs, tuple(dearer))
