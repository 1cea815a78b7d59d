"""How a job came to its machine, in figures and in words: what an attempt's log and `tidepool explain` show. Pure.

Figures are JSON, so that they may come from another process; the words are made from them in one place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidepool.capacity import Capacity, Market, Pool
from tidepool.job import MIB, Job
from tidepool.ladder import Rung
from tidepool.queues import Claim
from tidepool.retries import MEMORY_GROWTH, Limits
from tidepool.sizing import DAEMON_CPU_MILLIS, DAEMON_MEMORY_BYTES, Placement, SparkMemory, room, why_not
from tidepool.spark_standalone import LARGEST_HEAP_MIB, StandaloneMemory

Figures = dict[str, Any]
_ASKED = ("cores", "memory", "pool", "machine", "market")
_JVMS = ("driver", "executor")


@dataclass(frozen=True)
class Part:
    """One kind of pod of a job, such as the driver. memory: how Spark shares out its limit, where it is Spark's."""

    name: str
    job: Job
    market: Market | None
    placement: Placement
    memory: SparkMemory | StandaloneMemory | None = None


def figures(
    parts: Sequence[Part],
    capacity: Capacity,
    rungs: Sequence[Rung],
    limits: Limits | None,
    claim: Claim | None = None,
) -> Figures:
    """Everything that follows from the job and the capacity document. The first part is the one that is followed.

    rungs: of its ladder. limits: None where the author brought a retry policy. claim: on its queue, if it has one.
    """
    placement = parts[0].placement
    return {
        "task": parts[0].job.task,
        "team": placement.team,
        "namespace": placement.tenant.namespace,
        "parts": [_part(part, capacity) for part in parts],
        "ladder": [{"pools": [pool.name for pool in rung.pools], "name": rung.name, "why": rung.why} for rung in rungs],
        "retries": asdict(limits) if limits is not None else None,
        "queue": {"name": claim.queue.name, "slots": claim.slots, "of": claim.queue.slots} if claim else None,
        "deadline": None,
    }


def lines(found: Figures) -> list[str]:
    """The figures in words, one line each."""
    told = [f"Task {found['task']}, of team {found['team']}, in namespace {found['namespace']}."]
    for part in found["parts"]:
        told += _part_lines(part, "" if len(found["parts"]) == 1 else f"{part['name']}: ")
    if queue := found.get("queue"):
        told.append(
            f"Queue: it starts once {queue['slots']} of the {queue['of']} slots of Airflow's pool {queue['name']} are "
            "free, one for each core; until then Airflow shows it as scheduled."
        )
    steps = "; then ".join(f"{rung['name']}, {rung['why']}" for rung in found["ladder"])
    told.append(f"Ladder: {steps}.")
    told.append(_retries(found["retries"]))
    if found["deadline"] is not None:
        told += _deadline(found["deadline"])
    told += [_budget(name, budget) for name, budget in (found.get("budgets") or {}).items()]
    if override := found.get("override"):
        said = [f"{name}={override[name]}" for name in ("memory", "cores", "market") if override[name]]
        said += [f"pools={'+'.join(override['pools'])}"] if override["pools"] else []
        told.append(
            f"Overridden by `tidepool jobs right-size`: {', '.join(said)}, because {override['why']}. Its author's own "
            "size comes back at the first lack of memory."
        )
    if unused := found.get("override_unused"):
        told.append(f"It has an override ({unused['words']}) that does not hold: {unused['why']}.")
    return told


def _part(part: Part, capacity: Capacity) -> Figures:
    placement = part.placement
    first = placement.pools[0]
    others = [pool for pool in capacity.pools.values() if pool not in placement.pools]
    cpu, _ = room(first)
    share = min(1.0, placement.cpu_millis / cpu) if cpu else 1.0
    on_demand = next((pool.usd_per_hour for pool in placement.pools if pool.market == "on-demand"), None)
    return {
        "name": part.name,
        "asked": {
            "cores": part.job.cores,
            "memory": part.job.memory,
            "gpus": part.job.gpus,
            "pool": part.job.pool,
            "machine": part.job.machine,
            "market": part.market,
            "exclusive": part.job.exclusive,
        },
        "pools": [_pool(pool, _no(part, pool)) for pool in (*placement.pools, *others)],
        "size": {
            "cores": placement.cores,
            "cpu_millis": placement.cpu_millis,
            "memory_bytes": placement.memory_bytes,
            "gpus": placement.gpus,
        },
        "spark_memory_mib": asdict(part.memory) if part.memory is not None else None,
        "price": {
            "share": share,
            "usd_per_hour": first.usd_per_hour * share,
            "machine_usd_per_hour": first.usd_per_hour,
            "on_demand_usd_per_hour": None if on_demand is None else on_demand * share,
        },
    }


def _no(part: Part, pool: Pool) -> str:
    if pool.jobs and part.market is not None and pool.market != part.market and pool not in part.placement.pools:
        return f"the job is for {part.market} machines only"
    return why_not(part.job, part.placement, pool)


def _pool(pool: Pool, no: str) -> Figures:
    cpu, memory = room(pool)
    return {
        "pool": pool.name,
        "market": pool.market,
        "instance_types": list(pool.instance_types),
        "allocatable": {"cpu_millis": pool.cpu_millis, "memory_bytes": pool.memory_bytes},
        "offered": {"cpu_millis": cpu, "memory_bytes": memory},
        "usd_per_hour": pool.usd_per_hour,
        "why_not": no,
    }


def _part_lines(part: Figures, prefix: str) -> Iterator[str]:
    asked, size, first = part["asked"], part["size"], part["pools"][0]
    words = [f"{name}={asked[name]!r}" for name in _ASKED if asked[name] is not None]
    words += [f"gpus={asked['gpus']}"] if asked["gpus"] else []
    words += [] if asked["exclusive"] else ["exclusive=False"]
    yield f"{prefix}Asked for: {', '.join(words) or 'a whole machine'}."
    for pool in part["pools"]:
        verdict = f"no, {pool['why_not']}" if pool["why_not"] else "it fits"
        yield f"{prefix}Pool {pool['pool']} ({pool['market']}, ${pool['usd_per_hour']:.4f}/h): {verdict}."
    offered, allocatable = first["offered"], first["allocatable"]
    yield (
        f"{prefix}CPU: {allocatable['cpu_millis']}m allocatable - {DAEMON_CPU_MILLIS}m for DaemonSets = "
        f"{offered['cpu_millis']}m offered; {size['cpu_millis']}m requested, for {_threads(size['cores'])}."
    )
    spark = part["spark_memory_mib"]
    if spark and "executors" in spark:
        yield f"{prefix}{_executors(spark['executors'], size['cores'])}"
    yield (
        f"{prefix}Memory in MiB: {_shares(spark)}{_mib(size['memory_bytes'])}, the limit <= "
        f"{_mib(offered['memory_bytes'])} offered = "
        f"{_mib(allocatable['memory_bytes'])} allocatable - {_mib(DAEMON_MEMORY_BYTES)} for DaemonSets."
    )
    if size["gpus"]:
        yield f"{prefix}GPUs: {size['gpus']}."
    yield f"{prefix}{_price(part['price'], first)}"


def _executors(count: int, cores: int) -> str:
    each, idle = divmod(cores, count)
    told = f"Spark: {count} executors of {_threads(each)} each, with a master and a worker (standalone)"
    told += f"; {idle} cores are left over" if idle else ""
    return f"{told}. Unless `executors` is given, that is for heaps of more than {LARGEST_HEAP_MIB} MiB."


def _shares(spark: Figures | None) -> str:
    if not spark:
        return ""
    rest = f"Python {spark['python']} + margin {spark['margin']} = "
    if "executors" not in spark:
        return f"heap {spark['heap']} + JVM overhead {spark['overhead']} + {rest}"
    driver, executor = (f"(heap {spark[jvm]['heap']} + JVM overhead {spark[jvm]['overhead']})" for jvm in _JVMS)
    return f"driver {driver} + {spark['executors']} x {executor} + master and worker {spark['daemons']} + {rest}"


def _price(price: Figures, first: Figures) -> str:
    share = "the whole machine" if price["share"] > 0.999 else f"{price['share']:.0%} of the machine"
    told = f"Price: ${price['usd_per_hour']:.4f} an hour on {first['pool']}, for {share}"
    if first["market"] == "spot" and price["on_demand_usd_per_hour"] is not None:
        told += f"; ${price['on_demand_usd_per_hour']:.4f} on-demand"
    return told + "."


def _retries(limits: Figures | None) -> str:
    if limits is None:
        return "Attempts: as its own retry policy says."
    return (
        f"Attempts after the first: {limits['author']} after failures of the program, {limits['platform']} after what "
        f"it could not help, {limits['memory']} with {MEMORY_GROWTH:g} times the memory."
    )


def _deadline(found: Figures) -> Iterator[str]:
    yield (
        f"Deadline: {duration(found['seconds'])} after its run was queued, by the {found['of']}; "
        f"{found['target']:.0%} of deadlines are to be met."
    )
    if found["decides"]:
        yield f"It does not choose the market: {found['decides']}."
        return
    every, expected = found["checkpoint_every_seconds"], found["expected_seconds"]
    undone = f"at most {duration(every)}" if every is not None else "all (no checkpoint_every)"
    yield (
        f"Believed until more is seen: {found['reclaims_per_hour']:.1%} reclaims an hour, each of which makes {undone} "
        f"of the work undone, {duration(found['restart_seconds'])} for a restart; "
        f"spot ${found['spot_usd_per_hour']:.4f}/h, on-demand ${found['on_demand_usd_per_hour']:.4f}/h."
    )
    longest = found["longest_on_spot_seconds"]
    when = f"spot where ten past runs took up to {duration(longest)} each" if longest else "on-demand"
    known = f", of which its author expects {duration(expected)}, goes" if expected is not None else " goes"
    where = "on-demand" if found["first_run"] == "on-demand" else "on spot"
    yield f"The first run{known} {where}; a later one, as its run is queued: {when}."


def _budget(name: str, found: Figures) -> str:
    whose = [f"{kind} {found[key]}" for kind, key in (("team", "team"), ("DAG", "dag")) if found[key]]
    hard = f"{found['hard_usd']:.2f} USD a {found['per']}, where the task "
    hard += "fails" if found["at_limit"] == "fail" else "waits"
    soft = f"a warning from {found['soft_usd']:.2f} USD a {found['per']} on"
    limits = [words for words, there in ((soft, found["soft_usd"]), (hard, found["hard_usd"])) if there]
    return f"Budget {name} of {' and '.join(whose) or 'all jobs'}: {'; '.join(limits)}."


def duration(seconds: float) -> str:
    """Such as `1 h 05 min`; seconds below a minute."""
    if abs(seconds) < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _threads(cores: int) -> str:
    return "1 thread" if cores == 1 else f"{cores} threads"


def _mib(size: float) -> str:
    return str(math.floor(size / MIB))
