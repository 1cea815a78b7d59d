"""The policies that are compared: which machines a job may have, how the autoscaler is set, what a lost machine means.

All four run the same jobs. The first three use machines of one size, on which jobs share; `tidepool` uses the ladder,
the sizing and the retries of the library, on the pools of a stack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from tidepool import job as jobs
from tidepool import sizing
from tidepool.capacity import Capacity, Pool
from tidepool.job import MIB, JobError
from tidepool.ledger.attribution import GP3_USD_PER_GIB_MONTH, HOURS_PER_MONTH
from tidepool.prices.book import PriceBook
from tidepool.simulator.assumptions import Assumptions
from tidepool.simulator.workloads import Job

ZONE = "us-east-1a"
Name = Literal["24x7", "on-demand", "spot", "tidepool"]
NAMES: tuple[Name, ...] = get_args(Name)


class PoolError(Exception):
    """The pools can't run the jobs, or nobody knows what their machines cost; the message says what to change."""


@dataclass(frozen=True)
class Autoscaler:
    """Settings of the cluster-autoscaler, in seconds; the names are its flags'.

    delay_after_add: no machine is given back so soon after one was added anywhere. first_backoff, longest_backoff: how
    long a pool is passed over after it got no machine; doubled each time. at_once: machines given back in one scan.
    """

    scan_interval: float = 10.0
    delay_after_add: float = 600.0
    unneeded_time: float = 600.0
    first_backoff: float = 300.0
    longest_backoff: float = 1800.0
    backoff_reset: float = 10800.0
    at_once: int = 10


DEFAULTS = Autoscaler()
"""Those of cluster-autoscaler 1.36 and 1.37 (config/flags/flags.go)."""

OURS = Autoscaler(delay_after_add=0.0, first_backoff=180.0, longest_backoff=900.0, backoff_reset=3600.0, at_once=100)
"""Those of infra/autoscaler_flags.py; each pool says its own unneeded_time."""


@dataclass(frozen=True)
class MachinePool:
    """A pool as the simulation needs it. types: instance type and USD per hour in the pool's market.

    on_demand_usd: of its cheapest type on-demand. volume_gib: the root volume. unneeded_time: seconds.
    """

    pool: Pool
    types: tuple[tuple[str, float], ...]
    on_demand_usd: float
    volume_gib: float
    unneeded_time: float

    @property
    def cheapest(self) -> tuple[str, float]:
        """Of its types in its market."""
        return min(self.types, key=lambda each: each[1])

    @property
    def volume_usd(self) -> float:
        """The root volume's price per hour."""
        return self.volume_gib * GP3_USD_PER_GIB_MONTH / HOURS_PER_MONTH


@dataclass(frozen=True)
class Policy:
    """pools: by name. capacity: the same, for sizing and ladder. has_ladder: tidepool's ladder, retries and reaction to
    spot notices; else whichever pool the autoscaler gets a machine of, and a lost machine is noticed when it is gone.
    is_fixed: all machines are always there.
    """

    name: Name
    words: str
    pools: Mapping[str, MachinePool]
    capacity: Capacity
    autoscaler: Autoscaler
    has_ladder: bool = False
    is_fixed: bool = False
    asked: float = 1.0

    def place(self, job: Job) -> sizing.Placement:
        """What the job asks for, and where it may run. Raises PoolError where it fits nowhere."""
        try:
            return self._place(job, job.memory_bytes * self.asked)
        except JobError:
            # Nobody asks for more than there is: what is used must fit, what is asked beyond that need not.
            most = max(self._most(job, pool) for pool in self.pools)
            if most < job.memory_bytes:
                raise PoolError(
                    f"job {job.name}: no machine of {', '.join(self.pools)} has {job.cores} cores and "
                    f"{jobs.human(job.memory_bytes)} of memory for it"
                ) from None
            return self._place(job, most)

    def _place(self, job: Job, memory: float) -> sizing.Placement:
        asked = f"{math.ceil(memory / MIB)}Mi"
        return sizing.place(jobs.Job(job.name, job.cores, asked, exclusive=self.has_ladder), self.capacity)

    def _most(self, job: Job, pool: str) -> int:
        try:
            return sizing.place(jobs.Job(job.name, job.cores, pool=pool), self.capacity).memory_bytes
        except JobError:
            return 0


def machine_pools(
    capacity: Capacity,
    book: PriceBook,
    volumes: Mapping[str, float],
    unneeded: Mapping[str, float],
    most: int,
) -> dict[str, MachinePool]:
    """The job pools without GPUs and with prices. most: machines of each. Raises PoolError where there are none."""
    found, unpriced = {}, []
    for name, pool in capacity.pools.items():
        if not pool.jobs or pool.gpus:
            continue
        known = [
            (each, usd, od)
            for each in pool.instance_types
            if (usd := book.at(each, pool.market, ZONE, 0.0)) and (od := book.at(each, "on-demand", ZONE, 0.0))
        ]
        unpriced += [f"{name}: {each}" for each in pool.instance_types if each not in {kind for kind, *_ in known}]
        if not pool.instance_types:
            unpriced.append(f"{name}: its stack names no instance types")
        elif known:
            found[name] = MachinePool(
                pool=replace(pool, max_machines=most),
                types=tuple((kind, usd) for kind, usd, _ in known),
                on_demand_usd=min(od for *_, od in known),
                volume_gib=volumes.get(name, 0.0),
                unneeded_time=unneeded[name],
            )
    if unpriced:
        raise PoolError("no price is known of\n" + "\n".join(f"  {each}" for each in unpriced) + "\nGive --prices.")
    if not any(each.pool.market == "on-demand" for each in found.values()):
        raise PoolError(f"{capacity.cluster} has no on-demand pool for jobs, which every comparison starts from")
    return found


def policies(
    capacity: Capacity, pools: Mapping[str, MachinePool], work: Sequence[Job], assumptions: Assumptions
) -> list[Policy]:
    """The four, for these jobs. Raises PoolError where a job fits no machine."""
    on_demand = _one_size(capacity, pools, work, assumptions)
    spot = _spot_of(pools, on_demand)
    shared = {on_demand.pool.name: on_demand}
    both = shared if spot is None else {spot.pool.name: spot, **shared}
    guessed = assumptions.asked_by_authors
    size = on_demand.pool.name
    return [
        Policy(
            "24x7",
            f"machines of pool {size}, as many as the peak needs, always there",
            shared,
            _only(capacity, shared),
            DEFAULTS,
            is_fixed=True,
            asked=guessed,
        ),
        Policy(
            "on-demand",
            f"pool {size}, cluster-autoscaler's defaults",
            shared,
            _only(capacity, shared),
            DEFAULTS,
            asked=guessed,
        ),
        Policy(
            "spot",
            f"pool {spot.pool.name if spot else size}, then {size}; all by default",
            both,
            _only(capacity, both),
            DEFAULTS,
            asked=guessed,
        ),
        Policy(
            "tidepool",
            f"{len(pools)} pools, a machine for each job, ladder and sizing",
            pools,
            _only(capacity, pools),
            OURS,
            has_ladder=True,
            asked=assumptions.asked_by_tidepool,
        ),
    ]


def _one_size(
    capacity: Capacity, pools: Mapping[str, MachinePool], work: Sequence[Job], assumptions: Assumptions
) -> MachinePool:
    """The cheapest on-demand pool whose machines the largest job fits: a cluster of one machine type has those."""
    sizes = {(job.cores, job.memory_bytes): job for job in work}
    options = sorted(
        (each for each in pools.values() if each.pool.market == "on-demand"),
        key=lambda each: (each.on_demand_usd, each.pool.name),
    )
    problem: PoolError | None = None
    for each in options:
        one = {each.pool.name: each}
        policy = Policy("24x7", "", one, _only(capacity, one), DEFAULTS, asked=assumptions.asked_by_authors)
        try:
            for job in sizes.values():
                policy.place(job)
        except PoolError as error:
            problem = error
        else:
            return each
    raise problem or PoolError("there is no on-demand pool")


def _spot_of(pools: Mapping[str, MachinePool], on_demand: MachinePool) -> MachinePool | None:
    """The smallest spot pool that has whatever the on-demand one has."""
    its = on_demand.pool
    options = [
        each
        for each in pools.values()
        if each.pool.market == "spot"
        and each.pool.cpu_millis >= its.cpu_millis
        and each.pool.memory_bytes >= its.memory_bytes
    ]
    return min(options, key=lambda each: (each.on_demand_usd, each.pool.name), default=None)


def _only(capacity: Capacity, pools: Mapping[str, MachinePool]) -> Capacity:
    return replace(capacity, pools={name: each.pool for name, each in pools.items()})
