"""Queues: Airflow's pools and priorities as they follow from the capacity document. Pure.

A task waits in Airflow, where it costs nothing, and not as a Pending pod, for which a machine may be bought somewhere
else. Each pool of job machines is a pool of Airflow's too, of the same name; its slots are the cores of all machines
that it may grow to, and a job takes those that its pod holds of its machine: all of them unless it shares one. A team
with a share of its own has a pool of its own, `<pool>.<team>`, and the others' pool is smaller by as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tidepool.capacity import JOB_PRIORITY_CLASS, Capacity, Pool
from tidepool.sizing import Placement, room

MARK = "tidepool: "
"""How the descriptions of Airflow pools begin that are made from the capacity document, and removed with it."""

WEIGHTS = {f"{JOB_PRIORITY_CLASS}-high": 1000, JOB_PRIORITY_CLASS: 1, f"{JOB_PRIORITY_CLASS}-low": 0}
"""Airflow's priority_weight by PriorityClass. Airflow adds up the weights of a task and of all that come after it: so a
high one goes before any DAG of fewer than a thousand ordinary tasks, and a low one after every other."""


@dataclass(frozen=True)
class Queue:
    """One pool of Airflow's. slots: cores. description: for people, in Airflow's list of pools."""

    name: str
    slots: int
    description: str


@dataclass(frozen=True)
class Claim:
    """What a task takes of a queue while it runs."""

    queue: Queue
    slots: int


def queues(capacity: Capacity) -> dict[str, Queue]:
    """Every queue by name: for each pool of job machines one of all teams without a share, and one of each with one.

    A team has a share in whole machines, rounded down, but of each pool one at least.
    """
    made = (
        queue
        for pool in capacity.pools.values()
        if pool.jobs and pool.max_machines
        for queue in _queues_of(pool, capacity)
    )
    return {queue.name: queue for queue in made}


def claim(placements: Sequence[tuple[Placement, int]], capacity: Capacity) -> Claim | None:
    """What a job takes: its pods by placement, and how many of each. The last decides the queue: the pool that they
    were sized for; of the others those count that are of the same pool. None where Airflow has no queues.

    Never more than the queue has, since Airflow would never start such a task.
    """
    if not capacity.queues:
        return None
    pool = placements[-1][0].pools[0]
    team = placements[-1][0].team
    name = queue_name(pool.name, team if capacity.tenants[team].share_percent else "")
    queue = next(each for each in _queues_of(pool, capacity) if each.name == name)
    slots = sum(count * cores(placement) for placement, count in placements if placement.pools[0] == pool)
    return Claim(queue, min(slots, queue.slots))


def cores(placement: Placement) -> int:
    """How many cores of its machine a pod holds: by CPU, memory or GPUs, whichever it has most of; at least one."""
    pool = placement.pools[0]
    cpu, memory = room(pool)
    whole = _cores(pool)
    shares = [placement.cpu_millis / cpu if cpu else 1.0, placement.memory_bytes / memory if memory else 1.0]
    shares += [placement.gpus / pool.gpus] if pool.gpus else []
    return max(1, min(whole, math.ceil(whole * max(shares) - 1e-6)))


def queue_name(pool: str, team: str) -> str:
    """The name of a pool's queue: of a team, or of all that have no share."""
    return f"{pool}.{team}" if team else pool  # neither has a dot: both are DNS labels


def _queues_of(pool: Pool, capacity: Capacity) -> list[Queue]:
    shares = {team: each.share_percent for team, each in capacity.tenants.items() if each.share_percent}
    machines = {team: max(1, pool.max_machines * percent // 100) for team, percent in shares.items()}
    made = [_queue(pool, team, machines[team], f"; the share of team {team}") for team in sorted(shares)]
    if len(shares) < len(capacity.tenants):
        rest = max(1, pool.max_machines - sum(machines.values()))
        made.insert(0, _queue(pool, "", rest, "; for teams without a share" if shares else ""))
    return made


def _queue(pool: Pool, team: str, machines: int, whose: str) -> Queue:
    each = _cores(pool)
    words = f"{MARK}cores of the {machines} machines of {pool.name} ({pool.market}), {each} on each{whose}"
    return Queue(queue_name(pool.name, team), machines * each, words)


def _cores(pool: Pool) -> int:
    """Of one machine: allocatable is always a little less than a whole number of them."""
    return max(1, math.ceil(pool.cpu_millis / 1000))
