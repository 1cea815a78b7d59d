"""Which machine a job gets, and how its memory is shared out: arithmetic only.

The chain that must hold: heap + JVM overhead + Python processes + margin = memory limit <= what a job can have of the
machine <= allocatable.

A job is alone by the size of its CPU request, not by pod anti-affinity, which makes the autoscaler's simulation about a
thousand times slower. An exclusive pod requests the machine's allocatable CPU less a reserve for DaemonSets. What is
left is less than any job pod requests, so that neither a second exclusive pod nor a shared one fits beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tidepool.capacity import Capacity, Pool, Tenant
from tidepool.job import MIB, Job, JobError, human

DAEMON_CPU_MILLIS = 250
DAEMON_MEMORY_BYTES = 256 * MIB
"""Left on every job machine for its DaemonSets (on EKS: aws-node 50m, kube-proxy 100m, CSI node 30m, an agent or two).
They start after the job may have, with a higher priority: without room for them they would preempt the job."""

SMALLEST_JOB_CPU_MILLIS = 500
"""Every job pod requests at least this much, and more than an exclusive pod leaves of its machine."""

JVM_OVERHEAD_SHARE = 0.10
SMALLEST_JVM_OVERHEAD_MIB = 384
"""Spark's own defaults for memory outside the heap, which it applies only under its YARN and Kubernetes schedulers."""

PYTHON_PROCESS_MIB = 200
"""An estimate for one PySpark process with pandas and Arrow loaded: one for the driver and one for each core."""

MARGIN_SHARE = 0.05
"""Of the limit, for the page cache: writing shuffle files counts against the pod's memory."""

SMALLEST_HEAP_MIB = 512
"""Spark refuses heaps below 450 MiB."""


@dataclass(frozen=True)
class Placement:
    """Whose a job's pod is, where it may run and what it asks for there.

    pools: every pool that the pod may land on; the first is the one it was sized for. cores: threads that work at once.
    cpu_millis: CPU request. memory_bytes: memory request and limit. gpus: GPU request and limit.
    """

    team: str
    tenant: Tenant
    pools: tuple[Pool, ...]
    cores: int
    cpu_millis: int
    memory_bytes: int
    gpus: int


@dataclass(frozen=True)
class SparkMemory:
    """How the pod's memory limit is shared out, in MiB; the parts add up to the limit."""

    heap: int
    overhead: int
    python: int
    margin: int


def place(job: Job, capacity: Capacity) -> Placement:
    """The machine for a job: the pool it names, else the one of highest priority, then the cheapest, on which it fits.

    Where no pool is named, every job pool that the same pod fits is listed too, so that the autoscaler falls back from
    spot to on-demand by itself. Machines with GPUs are for jobs that ask for them. A type of machine stands for its
    shape: a pool that has it may give the job another one of its types, which is as large.
    Raises JobError where it fits nowhere, or the team is none; the message says what there is.
    """
    team = team_of(job, capacity)
    usable = named_pool(job, capacity) if job.pool is not None else _by_preference(capacity)
    if not usable:
        raise JobError(f"task {job.task!r} needs a job pool, but cluster {capacity.cluster!r} has none with machines")
    usable = _with_machine(job, usable)
    candidates = [pool for pool in usable if (pool.gpus >= job.gpus if job.gpus else not pool.gpus)]
    if not candidates:
        raise JobError(_wrong_gpus(job, capacity))
    for pool in candidates:
        cores, cpu, memory = _ask(job, pool)
        if _fits(cores, cpu, memory, pool):
            others = tuple(
                other
                for other in candidates
                if other is not pool and _fits(cores, cpu, memory, other) and (not job.exclusive or _alone(cpu, other))
            )
            return Placement(
                team=team,
                tenant=capacity.tenants[team],
                pools=(pool, *others),
                cores=cores,
                cpu_millis=cpu,
                memory_bytes=memory,
                gpus=job.gpus,
            )
    raise JobError(_too_large(job, candidates))


def spark_memory(task: str, limit_bytes: int, cores: int) -> SparkMemory:
    """Share out a pod's memory limit for Spark in one JVM with a Python worker for each core.

    Raises JobError where too little is left for the heap.
    """
    limit = limit_bytes // MIB
    python = PYTHON_PROCESS_MIB * (cores + 1)
    margin = math.ceil(limit * MARGIN_SHARE)
    heap, overhead = jvm(limit - python - margin)
    if heap < SMALLEST_HEAP_MIB:
        least = math.ceil((SMALLEST_HEAP_MIB + SMALLEST_JVM_OVERHEAD_MIB + python) / (1 - MARGIN_SHARE)) + 1
        raise JobError(
            f"task {task!r}: of {human(limit_bytes)} of memory Spark's heap gets {max(heap, 0)} MiB, with "
            f"{cores} cores, and it needs {SMALLEST_HEAP_MIB} MiB. Ask for at least {human(least * MIB)}, "
            "or for fewer cores (each has a Python process)."
        )
    return SparkMemory(heap=heap, overhead=overhead, python=python, margin=margin)


def jvm(mib: int) -> tuple[int, int]:
    """Heap and overhead of a JVM that has so much memory, in MiB."""
    heap = min(mib - SMALLEST_JVM_OVERHEAD_MIB, int(mib / (1 + JVM_OVERHEAD_SHARE)))
    return heap, mib - heap


def why_not(job: Job, placement: Placement, pool: Pool) -> str:
    """Why the placed job's pod may not land on a machine of the pool; empty where it may."""
    if pool in placement.pools:
        return ""
    if not pool.jobs:
        return "it is not for jobs"
    if job.pool is not None and job.pool != pool.name:
        return f"the job names pool {job.pool!r}"
    if job.machine is not None and job.machine not in pool.instance_types:
        return f"the job names machine {job.machine!r}"
    if not pool.max_machines:
        return "it may have no machines (its max is 0)"
    if pool.gpus < job.gpus:
        return f"a machine has {pool.gpus} GPUs of {job.gpus}"
    if pool.gpus and not job.gpus:
        return "its GPUs are for jobs that ask for them"
    cpu, memory = room(pool)
    lacks = [f"{_vcpus(pool)} cores of {placement.cores}"] if placement.cores > _vcpus(pool) else []
    lacks += [f"{cpu}m of CPU of {placement.cpu_millis}m"] if placement.cpu_millis > cpu else []
    short = placement.memory_bytes > memory
    lacks += [f"{memory // MIB} MiB of memory of {placement.memory_bytes // MIB}"] if short else []
    if lacks:
        return f"a machine gives a job {' and '.join(lacks)}"
    return "another job would have room beside it on a machine"


def team_of(job: Job, capacity: Capacity) -> str:
    """Whose job it is. Raises JobError where there is no such team."""
    team = capacity.default_tenant if job.team is None else job.team
    if team not in capacity.tenants:
        known = ", ".join(sorted(capacity.tenants))
        raise JobError(f"task {job.task!r}: there is no team {team!r}; the teams are: {known} (`tenants` in stacks/)")
    return team


def named_pool(job: Job, capacity: Capacity) -> list[Pool]:
    """The one pool that the job names. Raises JobError where it is none that jobs may use."""
    exist = ", ".join(sorted(name for name, pool in capacity.pools.items() if pool.jobs)) or "none"
    pool = capacity.pools.get(job.pool or "")
    if pool is None:
        raise JobError(
            f"task {job.task!r}: there is no pool {job.pool!r}; the job pools are: {exist} "
            "(Airflow's own pools are named by `airflow_pool`)"
        )
    if not pool.jobs:
        raise JobError(f"task {job.task!r}: pool {job.pool!r} is not for jobs; the job pools are: {exist}")
    if not pool.max_machines:
        raise JobError(f"task {job.task!r}: pool {job.pool!r} may have no machines (its max is 0)")
    return [pool]


def _with_machine(job: Job, pools: list[Pool]) -> list[Pool]:
    """Those of the pools that have the type of machine that the job names, if it names one."""
    if job.machine is None:
        return pools
    found = [pool for pool in pools if job.machine in pool.instance_types]
    if not found:
        have = "; ".join(f"{pool.name} ({pool.market}): {', '.join(pool.instance_types) or 'none'}" for pool in pools)
        raise JobError(
            f"task {job.task!r}: machine={job.machine!r}, but no pool that the job may use has such machines; "
            f"those pools and their machines are: {have}"
        )
    return found


def _by_preference(capacity: Capacity) -> list[Pool]:
    pools = [pool for pool in capacity.pools.values() if pool.jobs and pool.max_machines]
    return sorted(pools, key=lambda pool: (-pool.priority, pool.usd_per_hour, pool.name))


def _vcpus(pool: Pool) -> int:
    """The machine's cores: allocatable is always a little less than a whole number of them."""
    return math.ceil(pool.cpu_millis / 1000)


def room(pool: Pool) -> tuple[int, int]:
    """What all jobs together can have of one machine: CPU in millicores, memory in bytes (whole MiB)."""
    memory = max(0, pool.memory_bytes - DAEMON_MEMORY_BYTES)
    return max(0, pool.cpu_millis - DAEMON_CPU_MILLIS), memory // MIB * MIB


def _ask(job: Job, pool: Pool) -> tuple[int, int, int]:
    """Cores, CPU request and memory of the job on this pool: the whole machine, or its share by cores."""
    cpu, memory = room(pool)
    vcpus = max(1, _vcpus(pool))
    if job.exclusive:
        cores = job.cores or vcpus
    else:
        cores = job.cores or 1
        cpu, memory = max(SMALLEST_JOB_CPU_MILLIS, cpu * cores // vcpus), memory * cores // vcpus // MIB * MIB
    return cores, cpu, job.memory_bytes or memory


def _fits(cores: int, cpu: int, memory: int, pool: Pool) -> bool:
    room_cpu, room_memory = room(pool)
    return cores <= _vcpus(pool) and SMALLEST_JOB_CPU_MILLIS <= cpu <= room_cpu and memory <= room_memory


def _alone(cpu: int, pool: Pool) -> bool:
    """Whether a pod that requests so much CPU leaves too little of the machine for any other job pod."""
    return pool.cpu_millis - cpu < SMALLEST_JOB_CPU_MILLIS


def _wrong_gpus(job: Job, capacity: Capacity) -> str:
    of = f" of machine {job.machine!r}" if job.machine else ""
    there = ", ".join(f"{pool.name} {pool.gpus}" for pool in _by_preference(capacity) if pool.gpus) or "none"
    if job.gpus:
        where = f"a machine of pool {job.pool!r} has fewer" if job.pool else f"no job pool{of} has so many on a machine"
        return f"task {job.task!r}: gpus={job.gpus}, but {where}; job pools with GPUs, and how many: {there}"
    where = f"pool {job.pool!r}" if job.pool else f"every job pool{of}"
    return f"task {job.task!r}: {where} has GPUs ({there}), which are for jobs that ask for them with `gpus`"


def _too_large(job: Job, pools: list[Pool]) -> str:
    asked = [f"{job.cores} cores"] if job.cores else []
    asked += [f"{human(job.memory_bytes)} of memory"] if job.memory_bytes else []
    asked += [f"{job.gpus} GPUs"] if job.gpus else []
    largest = max(pools, key=lambda pool: (room(pool)[1], pool.cpu_millis))
    where = f"pool {job.pool!r}" if job.pool else f"any of the job pools ({', '.join(pool.name for pool in pools)})"
    return (
        f"task {job.task!r} does not fit {where}: it asks for {' and '.join(asked) or 'a whole machine'}; "
        f"the largest machine, of pool {largest.name!r} ({', '.join(largest.instance_types)}), gives a job "
        f"{_vcpus(largest)} cores and {human(room(largest)[1])} of memory. "
        "Ask for less, or for a pool of larger machines in stacks/."
    )
