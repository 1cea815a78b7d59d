"""Where each attempt goes: a spot pool, another spot pool, on-demand. Pure: times are Unix seconds, given.

A rung is what a pod may land on, as required node affinity; a pod that gets no machine there is replaced by one on the
next rung. A pool whose breaker is open is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from tidepool.breaker import Breaker, State
from tidepool.capacity import Capacity, Market, Pool
from tidepool.job import MIB, Job, JobError
from tidepool.objects import Object, condition
from tidepool.outcome import Cause
from tidepool.retries import PLATFORM, Attempt, memory
from tidepool.sizing import Placement, place

WASTED_ATTEMPTS = 2
"""So many attempts that were lost on spot machines are enough: the next goes on-demand."""

RETRIES_KEPT = 2
"""So many of its retries a job keeps for what happens to it on-demand, where lost attempts were not for nothing."""

LOSSES = (Cause.SPOT_RECLAIM, Cause.NODE_LOST)
"""Ends of an attempt that say something of its spot pool. A preemption or a drain is somebody's wish."""


@dataclass(frozen=True)
class Rung:
    """What a pod may land on: one pool, or whichever of several has a machine first. why: for people."""

    pools: tuple[Pool, ...]
    why: str
    is_probe: bool = False

    @property
    def name(self) -> str:
        """The pools' names and market."""
        return " or ".join(f"{pool.name} ({pool.market})" for pool in self.pools)

    @property
    def is_spot(self) -> bool:
        """Whether it is of spot machines only."""
        return all(pool.market == "spot" for pool in self.pools)


def offered(capacity: Capacity, market: Market | None, task: str) -> Capacity:
    """The same with the job pools of one market only, where the author pins or forbids one.

    Raises JobError where there are none, or the market is none.
    """
    if market is None:
        return capacity
    if market not in ("spot", "on-demand"):
        raise JobError(f'task {task!r}: market must be "spot", "on-demand" or None for either, not {market!r}')
    pools = {name: pool for name, pool in capacity.pools.items() if not pool.jobs or pool.market == market}
    if not any(pool.jobs and pool.max_machines for pool in pools.values()):
        there = ", ".join(sorted(f"{pool.name} ({pool.market})" for pool in capacity.pools.values() if pool.jobs))
        raise JobError(f"task {task!r}: market={market!r}, but no job pool is {market}; there are: {there or 'none'}")
    return replace(capacity, pools=pools)


def largest(job: Job, capacity: Capacity, cores: int) -> int:
    """The most memory, in bytes, that any pool which the job may use has for one job of so many cores."""
    names = [job.pool] if job.pool else [name for name, pool in capacity.pools.items() if pool.jobs]
    found = [0]
    for name in names:
        with suppress(JobError):
            alone = replace(job, pool=name, memory=None, cores=cores, exclusive=True)
            found.append(place(alone, capacity).memory_bytes)
    return max(found)


def regrown(job: Job, capacity: Capacity, usual: Placement, attempts: Sequence[Attempt]) -> Placement:
    """The job's placement after these attempts: its usual one, or with more memory if one of them ran out of it.

    It keeps its cores, as many threads in a larger machine have more each: no machine with fewer counts. A job that has
    its machine to itself and asked for no size takes all of the memory of the first pool that has enough.
    """
    wanted = memory(usual.memory_bytes, attempts, largest(job, capacity, usual.cores))
    if wanted <= usual.memory_bytes:
        return usual
    larger = replace(job, cores=usual.cores)
    if job.memory is not None or not job.exclusive:
        return place(replace(larger, memory=f"{wanted // MIB}Mi"), capacity)
    enough = {
        name: pool
        for name, pool in capacity.pools.items()
        if not pool.jobs or largest(replace(job, pool=name), capacity, usual.cores) >= wanted
    }
    return place(larger, replace(capacity, pools=enough))


def rungs(
    pools: Sequence[Pool],
    breakers: Mapping[str, Breaker],
    attempts: Sequence[Attempt],
    now: float,
    market: Market | None = None,
) -> list[Rung]:
    """The ladder of the next attempt, at least one rung.

    pools: that the job fits, in the order of the capacity document (priority, then price). attempts: that ended before.
    market: what its deadline says. On-demand is demanded; spot comes first, and is left where it has no machines.
    """
    wasted = _wasted(attempts)
    why = ""
    on_demand = [pool for pool in pools if pool.market == "on-demand"]
    if market == "on-demand" and on_demand:
        pools = on_demand
        why = "on-demand is what its deadline needs"
    elif market is None and is_done_with_spot(attempts) and on_demand:
        pools = on_demand
        why = f"{len(wasted)} attempts were lost on spot machines"
    elif market == "spot":
        pools = sorted(pools, key=lambda pool: pool.market != "spot")
    ordered = _other_first(pools, set(wasted))
    ladder = [
        Rung((pool,), _why(pool, why, wasted, state), state is State.HALF_OPEN)
        for pool in ordered
        if (state := breakers.get(pool.name, Breaker()).state(now)) is not State.OPEN
    ]
    if len(ordered) > 1:
        # The last resort is what any Kubernetes does: wait, and take what comes first.
        ladder.append(Rung(tuple(ordered), "whichever has a machine first"))
    return ladder or [Rung(tuple(ordered), f"{why or 'the only pool that it may run on'}")]


def is_done_with_spot(attempts: Sequence[Attempt], most: int = WASTED_ATTEMPTS) -> bool:
    """Whether so many attempts were lost on spot machines that the next goes on-demand, if it may."""
    return len(_wasted(attempts)) >= most


def lost_on_spot_at_most(has_checkpoints: bool, platform_retries: int) -> int:
    """How many attempts a job may lose on spot machines. With checkpoints, and a deadline that decides each time, a
    lost attempt is not for nothing, and more than WASTED_ATTEMPTS are few enough while there are retries."""
    return max(WASTED_ATTEMPTS, platform_retries - RETRIES_KEPT) if has_checkpoints else WASTED_ATTEMPTS


def _wasted(attempts: Sequence[Attempt]) -> list[str]:
    """The spot pools that attempts were lost on."""
    return [each.pool for each in attempts if each.cause in PLATFORM and each.market == "spot"]


def _other_first(pools: Sequence[Pool], wasted: set[str]) -> list[Pool]:
    """In their order, save that a spot pool that lost an attempt comes after the other spot pools."""
    last_spot = max((index for index, pool in enumerate(pools) if pool.market == "spot"), default=0)
    order = {pool.name: last_spot + 0.5 if pool.name in wasted else index for index, pool in enumerate(pools)}
    return sorted(pools, key=lambda pool: order[pool.name])


def _why(pool: Pool, why: str, wasted: Sequence[str], state: State) -> str:
    if state is State.HALF_OPEN:
        return "it had no machines or lost them; this attempt tries it again"
    if why:
        return why
    return "an attempt was lost on another spot pool" if wasted and pool.name not in wasted else "next in order"


class Stage(StrEnum):
    """How far a pod is on its way to run."""

    ASKED = "asked"
    BUYING = "a machine is being bought"
    PULLING = "it has its machine; the image is pulled"
    STARTING = "the image is there; the container starts"
    STARTED = "started"


@dataclass(frozen=True)
class Clocks:
    """Limits in seconds. ask: until the autoscaler buys a machine. buy: until the pod has it; both from when the pod
    was made. pull: from then until the image is there. start: from then until the container runs.
    """

    ask: float = 60.0
    buy: float = 240.0
    pull: float = 600.0
    start: float = 300.0


SETTLE_SECONDS = 15.0
"""A no of the autoscaler counts after this: it may be one about the moment before."""

BUYS = ("TriggeredScaleUp", "Nominated")
BUYS_NOT = ("NotTriggerScaleUp", "FailedScaleUp")
FULL = ("max node group size reached", "max cluster", "max total nodes in cluster reached", "limit reached")
"""What the autoscaler says of a pool that has all its machines: no fault of the market's."""


@dataclass(frozen=True)
class Stuck:
    """Why a pod waits no longer on its rung. is_full: the pool has all the machines that it may have."""

    why: str
    is_full: bool = False


def stage(pod: Object, events: Sequence[Object]) -> Stage:
    """Read from the pod and its events."""
    status = pod.get("status") or {}
    if status.get("phase") not in (None, "Pending", "Unknown"):
        return Stage.STARTED
    if condition(pod, "PodScheduled").get("status") == "True":
        return Stage.STARTING if any(event.get("reason") == "Pulled" for event in events) else Stage.PULLING
    said = _autoscaler(events)
    return Stage.BUYING if said is not None and said.get("reason") in BUYS else Stage.ASKED


def stuck(pod: Object, events: Sequence[Object], waited: float, clocks: Clocks) -> Stuck | None:
    """Why a pod that has no machine `waited` seconds after it was made should go to the next rung; None: it should not.

    That the autoscaler buys one is no promise that it gets it: when the market has none, its next word is a no.
    """
    now = stage(pod, events)
    if now not in (Stage.ASKED, Stage.BUYING):
        return None
    said = _autoscaler(events)
    if said is not None and said.get("reason") in BUYS_NOT and waited >= SETTLE_SECONDS:
        words = str(said.get("message") or said["reason"])
        return Stuck(f"the autoscaler after {waited:.0f} s: {words}", any(full in words for full in FULL))
    if now is Stage.ASKED and waited >= clocks.ask:
        # Only machines that the pod may use are said to have too little left: they are there, and busy.
        return Stuck(f"no machine was asked for within {clocks.ask:.0f} s", "Insufficient " in _scheduler(pod))
    if waited >= clocks.buy:
        return Stuck(f"a machine was asked for and has not come within {clocks.buy:.0f} s")
    return None


_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_PULLING = ("ErrImagePull", "ImagePullBackOff")
_REFUSED_BY_REGISTRY = (
    "not found",
    "manifest unknown",
    "unauthorized",
    "denied",
    "forbidden",
    "authorization failed",
    "no match for platform",
    "invalid reference format",
)


def hopeless(pod: Object, container: str) -> str:
    """Why the image will never come, whoever waits; empty where it may: a registry may be away for a while."""
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason") or "", waiting.get("message") or ""
        refused = reason in _PULLING and any(words in message.lower() for words in _REFUSED_BY_REGISTRY)
        if status.get("name") == container and (reason in _NEVER or refused):
            return f"{reason}: {message}"
    return ""


def _scheduler(pod: Object) -> str:
    """What the scheduler says of the pod."""
    return str(condition(pod, "PodScheduled").get("message") or "")


def _autoscaler(events: Sequence[Object]) -> Object | None:
    """The autoscaler's latest word on the pod."""
    said = [event for event in events if event.get("reason") in (*BUYS, *BUYS_NOT)]
    return max(said, key=_time, default=None)


def _time(event: Object) -> float:
    series = event.get("series") or {}
    stamp = (
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("firstTimestamp")
    )
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


@dataclass
class Journey:
    """When a pod came how far, in seconds after it was first asked for: one line for the log at each step."""

    began: float
    stages: dict[Stage, float] = field(default_factory=dict)

    def at(self, reached: Stage, now: float) -> str:
        """The line, where the stage is a new one; else empty."""
        if reached in self.stages:
            return ""
        self.stages[reached] = now - self.began
        return ", ".join(f"{each} after {seconds:.0f} s" for each, seconds in self.stages.items())

    def inside(self, reached: Stage, now: float) -> float:
        """For how long the pod has been at this stage."""
        return now - self.began - self.stages.get(reached, now - self.began)
