"""All policies over one workload, and over ten-minute jobs by themselves: the figures and the aims."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidepool.capacity import Capacity
from tidepool.deadlines.traces import Trace
from tidepool.prices.book import PriceBook
from tidepool.simulator import assumptions as assumed
from tidepool.simulator import engine, policies, spot, workloads
from tidepool.simulator.assumptions import Assumptions
from tidepool.simulator.books import Books, books
from tidepool.simulator.policies import MachinePool
from tidepool.simulator.workloads import Workload

SAVING = 0.8
BILLED_PER_USEFUL = 1.25
"""What the project aims at: on the seed profile, and for jobs of ten minutes by themselves."""


@dataclass(frozen=True)
class World:
    """Everything besides the jobs. spot: a process of `spot.PROCESSES`, or a trace of spot machines.
    discount: of the 24x7 cluster's price, as for a reservation."""

    capacity: Capacity
    pools: Mapping[str, MachinePool]
    book: PriceBook
    assumptions: Assumptions
    spot: str | Trace
    seed: int
    discount: float = 0.0


@dataclass(frozen=True)
class Aim:
    """What tidepool's policy is to reach, what it reached, and whether that is enough."""

    words: str
    value: float
    is_met: bool


def compare(workload: Workload, world: World, told: Callable[[str], None] = lambda _: None) -> list[Books]:
    """The books of each policy. told: gets a policy's name before it runs. Raises PoolError."""
    found = policies.policies(world.capacity, world.pools, workload.jobs, world.assumptions)
    names = [name for name, each in world.pools.items() if each.pool.market == "spot"]
    market = spot.market(names, world.spot, world.seed, world.assumptions)
    histories = []
    for policy in found:
        told(policy.name)
        histories.append(engine.run(policy, workload, market, world.assumptions, world.seed))
    return books(histories, workload, world.book, world.assumptions, world.discount)


def ten_minutes(world: World) -> list[Books]:
    """The books of ten-minute jobs by themselves: each one's machine is bought for it."""
    return compare(workloads.ten_minutes(world.seed, world.assumptions), world)


def aims(workload: Workload, found: Sequence[Books], short: Sequence[Books]) -> list[Aim]:
    """What the project aims at, and what became of it here."""
    ours, alone = _ours(found), _ours(short)
    reached = []
    if workload.name == "seed":
        reached.append(Aim(f"saves {SAVING:.0%} or more against 24x7", ours.saving, ours.saving >= SAVING))
    ratio = alone.billed_per_useful
    words = f"is billed at most {BILLED_PER_USEFUL} times the useful time for ten-minute jobs by themselves"
    return [*reached, Aim(words, ratio, ratio <= BILLED_PER_USEFUL)]


def _ours(found: Sequence[Books]) -> Books:
    return next(each for each in found if each.policy == "tidepool")


def document(workload: Workload, world: World, found: Sequence[Books], short: Sequence[Books]) -> dict[str, Any]:
    """The result as plain data for JSON, the same for the same seed."""
    return {
        "workload": {"name": workload.name, "words": workload.words, "jobs": len(workload.jobs)},
        "seed": world.seed,
        "spot": world.spot if isinstance(world.spot, str) else world.spot.name,
        "cluster": world.capacity.cluster,
        "unneeded_seconds": {name: each.unneeded_time for name, each in world.pools.items()},
        "discount": world.discount,
        "policies": [dataclasses.asdict(each) for each in found],
        "ten_minute_jobs": [dataclasses.asdict(each) for each in short],
        "aims": [dataclasses.asdict(each) for each in aims(workload, found, short)],
        "assumptions": {
            name: {"value": value, "meaning": meaning, "source": source}
            for name, value, meaning, source in assumed.table(world.assumptions)
        },
        "rules": list(assumed.RULES),
    }
