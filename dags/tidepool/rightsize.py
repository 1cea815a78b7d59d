"""What a job should ask for, from what it used. Pure.

A job that has its machine to itself pays for all of it, so that less memory saves nothing by itself: a smaller machine
does. The recommended size is therefore the cheapest machine that has room for what was used and headroom beside it, and
the job gets all of that machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidepool.capacity import Capacity, Pool
from tidepool.history import PodRecord, TaskRun, is_exclusive, quantile
from tidepool.job import MIB, human
from tidepool.outcome import Cause
from tidepool.overrides import Override, dump
from tidepool.retries import MEMORY_GROWTH, PLATFORM
from tidepool.sizing import SMALLEST_JOB_CPU_MILLIS, room

FEWEST_RUNS = 3
"""Good runs of one size that were measured: fewer say too little."""

LOOKED_AT = 20
"""The last runs that count: a job changes."""

HEADROOM = 1.2
"""Over the p99 of the memory that was used."""

PEAK_HEADROOM = 1.05
"""Over the highest that was ever seen."""

SLOWER = 1.25
"""How much longer a run may take on fewer cores."""

WORTH = 0.05
"""The least saving, as a share of a run's cost, that is worth a change."""

SEVERAL_PODS = (
    "no size is recommended: it has several pods at once, and what each part of such a job used is not known apart, so "
    "that its author gives the sizes"
)

Kind = str
MACHINE, MEMORY, MARKET, SPOT, SHARE = "machine", "memory", "market", "spot", "share"


@dataclass(frozen=True)
class Advice:
    """One thing to change. saves_usd: a run; None where a price is not known. override: None where it is the author's
    to decide."""

    kind: Kind
    words: str
    saves_usd: float | None
    override: Override | None = None


@dataclass(frozen=True)
class Needs:
    """What runs of one size needed: bytes of memory with headroom, cores busy on average, seconds (median), those of
    all instances of a mapped task together."""

    memory_bytes: int
    busy: float
    seconds: float
    runs: int


def recommend(runs: Sequence[TaskRun], capacity: Capacity, now: float = 0.0) -> list[Advice]:
    """What to change: what an override does first, then what its author must, each by its saving. Nothing where too
    little is known, or it is right as it is.

    runs: of one task, oldest first. All instances of a mapped task have one size, by the one that needs most.
    """
    last = list(runs[-LOOKED_AT:])
    if not last or refused(last):
        return []
    size = last[-1].first.size
    same = [run for run in last if run.first.size == size]
    pod = same[-1].first
    pool = capacity.pools.get(pod.pool)
    if pool is None or not pool.jobs or not pool.cpu_millis:
        return []
    found = [*_memory(same, pod, pool, capacity, now), *_on_demand(same, pod, pool, capacity, now)]
    needs = needed(same)
    if needs is not None and not any(each.kind == MEMORY for each in found):
        smaller = _machine(needs, pod, pool, capacity, now)
        found += [*(smaller or _share(needs, pod, pool)), *_spot(needs, pod, pool, capacity)]
    return sorted(found, key=lambda each: (each.override is None, -(each.saves_usd or 0.0)))


def refused(runs: Sequence[TaskRun]) -> str:
    """Why there is nothing to recommend for runs, whatever they used; empty where there may be."""
    return "" if all(run.is_alone for run in runs[-LOOKED_AT:]) else SEVERAL_PODS


def needed(runs: Sequence[TaskRun]) -> Needs | None:
    """What the measured good runs needed; None where they are too few."""
    pods = [pod for run in runs for pod in run.pods if pod.is_good and pod.is_measured and pod.seconds > 0]
    if len(pods) < FEWEST_RUNS:
        return None
    p99 = max(pod.memory_p99_bytes or 0 for pod in pods)
    peak = max(pod.memory_peak_bytes or 0 for pod in pods)
    memory = _whole(max(p99 * HEADROOM, peak * PEAK_HEADROOM, 64 * MIB))
    busy = quantile([(pod.cpu_seconds or 0.0) / pod.seconds for pod in pods], 0.9)
    instances = quantile([run.instances for run in runs], 0.5)
    return Needs(memory, busy, instances * quantile([pod.seconds for pod in pods], 0.5), len(pods))


def slowdown(busy: float, cores: int, fewer: int) -> float:
    """How much longer a run takes on fewer cores, that had so many busy on average.

    As if it had used either one core or all of them at any time, which is the worst that the average allows.
    """
    if fewer >= cores:
        return 1.0
    parallel = min(1.0, max(0.0, (busy - 1) / (cores - 1)))
    return (1 - parallel) + parallel * cores / fewer


def unused(pod: PodRecord) -> float | None:
    """The share of what the pod held that it did not use: of CPU or memory, whichever it used more of."""
    if not (pod.is_measured and pod.seconds and pod.cpu_millis and pod.memory_bytes):
        return None
    cpu = (pod.cpu_seconds or 0.0) / pod.seconds / (pod.cpu_millis / 1000)
    return max(0.0, 1 - max(cpu, (pod.memory_p99_bytes or 0) / pod.memory_bytes))


def _machine(needs: Needs, pod: PodRecord, pool: Pool, capacity: Capacity, now: float) -> list[Advice]:
    """A cheaper machine that has room for what was used, or for a job that shares one, a smaller part of it."""
    if not is_exclusive(pod.cpu_millis, pool.cpu_millis):
        return _smaller_part(needs, pod, pool, now)
    cores = _vcpus(pool)
    before = pool.usd_per_hour * needs.seconds / 3600
    best: tuple[float, Pool] | None = None
    for other in capacity.pools.values():
        if other.market != pool.market or not _is_like(other, pool) or room(other)[1] < needs.memory_bytes:
            continue
        longer = slowdown(needs.busy, cores, _vcpus(other))
        cost = other.usd_per_hour * needs.seconds * longer / 3600
        if longer <= SLOWER and (best is None or cost < best[0]):
            best = cost, other
    if best is None or before - best[0] < WORTH * before:
        return []
    cost, chosen = best
    fits = [each for each in _cheapest(capacity, pool, needs, chosen) if _vcpus(each) >= _vcpus(chosen)]
    memory = min(room(each)[1] for each in fits)
    words = (
        f"a machine of {chosen.name} ({', '.join(chosen.instance_types) or 'its own kind'}) is enough: "
        f"{human(needs.memory_bytes)} with headroom, {needs.busy:.1f} of {cores} cores busy ({needs.runs} runs)"
    )
    override = _override(
        pod, now, words, memory=f"{memory // MIB}Mi", cores=_vcpus(chosen), pools=tuple(each.name for each in fits)
    )
    return [Advice(MACHINE, words, before - cost, override)]


def _smaller_part(needs: Needs, pod: PodRecord, pool: Pool, now: float) -> list[Advice]:
    asked_cores = max(1, round(pod.cpu_millis * _vcpus(pool) / max(1, room(pool)[0])))
    cores = next((each for each in range(1, asked_cores) if slowdown(needs.busy, asked_cores, each) <= SLOWER), None)
    fewer = cores or asked_cores
    cpu = max(SMALLEST_JOB_CPU_MILLIS, room(pool)[0] * fewer // _vcpus(pool))
    memory = min(needs.memory_bytes, pod.memory_bytes)
    longer = slowdown(needs.busy, asked_cores, fewer)
    before = _part(pod.cpu_millis, pod.memory_bytes, pool) * pool.usd_per_hour * needs.seconds / 3600
    after = _part(cpu, memory, pool) * pool.usd_per_hour * needs.seconds * longer / 3600
    if before - after < WORTH * before:
        return []
    words = (
        f"{human(memory)} and {fewer} of {asked_cores} cores are enough of its shared machine: "
        f"{needs.busy:.1f} cores were busy ({needs.runs} runs)"
    )
    override = _override(pod, now, words, memory=f"{memory // MIB}Mi", cores=fewer)
    return [Advice(MACHINE, words, before - after, override)]


def _share(needs: Needs, pod: PodRecord, pool: Pool) -> list[Advice]:
    """A job that needs little of its machine, and could leave the rest to others."""
    if not is_exclusive(pod.cpu_millis, pool.cpu_millis) or needs.busy > _vcpus(pool) / 2:
        return []
    cores = max(1, math.ceil(needs.busy))
    cpu = max(SMALLEST_JOB_CPU_MILLIS, room(pool)[0] * cores // _vcpus(pool))
    part = _part(cpu, needs.memory_bytes, pool)
    whole = pool.usd_per_hour * needs.seconds / 3600
    if part > 0.5:
        return []
    words = (
        f"exclusive=False, cores={cores}, memory={needs.memory_bytes // MIB}Mi would hold {part:.0%} of its machine; "
        "it saves where other jobs run beside it"
    )
    return [Advice(SHARE, words, whole * (1 - part))]


def _memory(runs: Sequence[TaskRun], pod: PodRecord, pool: Pool, capacity: Capacity, now: float) -> list[Advice]:
    """More memory for a job that ran out of it: the attempts before it had enough were for nothing."""
    short = [run for run in runs if any(each.cause == Cause.OUT_OF_MEMORY for each in run.pods)]
    if 2 * len(short) < len(runs):
        return []
    enough = [each.memory_bytes for run in short for each in run.pods if each.is_good]
    failed = max(each.memory_bytes for run in short for each in run.pods if each.cause == Cause.OUT_OF_MEMORY)
    memory = _whole(max(enough, default=failed * MEMORY_GROWTH))
    if not any(_is_like(each, pool) and room(each)[1] >= memory for each in capacity.pools.values()):
        return []
    lost = [each.usd for run in short for each in run.pods if each.cause == Cause.OUT_OF_MEMORY]
    saves = None if None in lost else sum(each or 0.0 for each in lost) / len(runs)
    words = f"{human(memory)}: {len(short)} of {len(runs)} runs ran out of {human(pod.memory_bytes)}"
    override = _override(pod, now, words, memory=f"{memory // MIB}Mi")
    return [Advice(MEMORY, words, saves, override)]


def _on_demand(runs: Sequence[TaskRun], pod: PodRecord, pool: Pool, capacity: Capacity, now: float) -> list[Advice]:
    """On-demand for a job that loses more on spot than spot saves."""
    others = [
        each.usd_per_hour
        for each in capacity.pools.values()
        if each.market == "on-demand" and _is_like(each, pool) and room(each)[1] >= pod.memory_bytes
    ]
    held = [each for run in runs for each in run.pods if each.market == "spot" and each.usd is not None]
    good = [each for each in held if each.is_good]
    lost = [each for each in held if each.cause in set(PLATFORM)]
    if pool.market != "spot" or not others or len(good) < FEWEST_RUNS or not lost:
        return []
    spot = sum(each.usd or 0.0 for each in held)
    instead = sum(each.held_seconds for each in good) * min(others) / 3600
    if spot - instead < WORTH * spot:
        return []
    words = f"on-demand: {len(lost)} of {len(held)} attempts were lost on spot machines, which cost more than it saves"
    override = _override(pod, now, words, market="on-demand")
    return [Advice(MARKET, words, (spot - instead) / len(runs), override)]


def _spot(needs: Needs, pod: PodRecord, pool: Pool, capacity: Capacity) -> list[Advice]:
    """Spot for a job that is on on-demand: whether it may be interrupted is its author's to say."""
    prices = [
        each.usd_per_hour
        for each in capacity.pools.values()
        if each.market == "spot" and _is_like(each, pool) and room(each)[1] >= pod.memory_bytes
    ]
    if pool.market != "on-demand" or not prices or min(prices) >= pool.usd_per_hour:
        return []
    part = 1.0 if is_exclusive(pod.cpu_millis, pool.cpu_millis) else _part(*pod.size, pool)
    saved = (pool.usd_per_hour - min(prices)) * part * needs.seconds / 3600
    words = f"allow spot: a machine is ${min(prices):.4f} an hour there instead of ${pool.usd_per_hour:.4f}"
    return [Advice(SPOT, words, saved)]


def _override(pod: PodRecord, now: float, why: str, **changes: Any) -> Override:
    cpu, memory = pod.size
    return Override(pod.dag, pod.task, cpu_millis=cpu, memory_bytes=memory, made=now, why=why, **changes)


def _cheapest(capacity: Capacity, pool: Pool, needs: Needs, chosen: Pool) -> list[Pool]:
    """The chosen pool, and of the other market the cheapest that fit, so that the ladder keeps its fallback."""
    found = [chosen]
    fits = [
        each
        for each in capacity.pools.values()
        if each.market != chosen.market
        and _is_like(each, pool)
        and room(each)[1] >= needs.memory_bytes
        and _vcpus(each) >= _vcpus(chosen)
    ]
    least = min((each.usd_per_hour for each in fits), default=0.0)
    return found + [each for each in fits if each.usd_per_hour <= least]


def _is_like(other: Pool, pool: Pool) -> bool:
    """Whether jobs of one pool could run in the other, were it large enough."""
    alike = (other.gpus, other.architecture) == (pool.gpus, pool.architecture)
    return alike and other.jobs and other.max_machines > 0


def _part(cpu_millis: int, memory_bytes: int, pool: Pool) -> float:
    """The part of a machine that a pod holds, as tidepool.ledger.attribution has it."""
    return min(1.0, max(cpu_millis / pool.cpu_millis, memory_bytes / max(1, pool.memory_bytes)))


def _vcpus(pool: Pool) -> int:
    return max(1, math.ceil(pool.cpu_millis / 1000))


def _whole(size: float) -> int:
    return math.ceil(size / MIB) * MIB


def document(advice: Advice) -> Mapping[str, Any]:
    """For JSON."""
    override = advice.override
    return {
        "kind": advice.kind,
        "words": advice.words,
        "saves_usd": advice.saves_usd,
        "override": json.loads(dump(override)) if override else None,
    }
