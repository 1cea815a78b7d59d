"""Overrides: what a job takes instead of what its author asked for, because of what it was seen to use. Pure.

They are kept in a ConfigMap of the team's namespace, each under a key of its own, as JSON.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from tidepool.capacity import Capacity, Market
from tidepool.job import Job, human, quantity
from tidepool.sizing import Placement


@dataclass(frozen=True)
class Override:
    """What a job's operator takes instead of what its author asked for; None and empty: what the author asked.

    memory: a Kubernetes quantity. cores: threads. pools: the only ones to use. cpu_millis, memory_bytes: what its pods
    requested when it was recommended; it holds for that size only. made: Unix seconds. rolled_back: why it holds no
    more, empty while it does.
    """

    dag: str
    task: str
    memory: str | None = None
    cores: int | None = None
    pools: tuple[str, ...] = ()
    market: Market | None = None
    cpu_millis: int = 0
    memory_bytes: int = 0
    made: float = 0.0
    why: str = ""
    rolled_back: str = ""

    @property
    def words(self) -> str:
        """What is different, such as `memory=1536Mi, pools=spot-small`."""
        said = [f"memory={self.memory}"] if self.memory else []
        said += [f"cores={self.cores}"] if self.cores else []
        said += [f"pools={'+'.join(self.pools)}"] if self.pools else []
        said += [f"market={self.market}"] if self.market else []
        return ", ".join(said)


def key(dag: str, task: str) -> str:
    """The name under which a task's override is kept in a ConfigMap, which takes no name of every task."""
    return hashlib.sha256(f"{dag}\0{task}".encode()).hexdigest()[:20]


def dump(override: Override) -> str:
    """As JSON text."""
    return json.dumps({name: value for name, value in asdict(override).items() if value}, sort_keys=True)


def load(text: str) -> Override | None:
    """The override of JSON text; None for anything else, as somebody may have edited it."""
    try:
        found = json.loads(text)
        known = {name: found[name] for name in Override.__dataclass_fields__ if name in found}
        made = Override(**{**known, "pools": tuple(known.get("pools", ()))})
        texts = (made.dag, made.task, made.why, made.rolled_back, *made.pools, *([made.memory] if made.memory else []))
        is_sound = all(isinstance(each, str) for each in texts) and made.market in (None, "spot", "on-demand")
        numbers = (made.cpu_millis, made.memory_bytes, made.cores or 1)
        is_sound = is_sound and all(type(each) is int and each >= 0 for each in numbers)
    except (ValueError, TypeError, AttributeError):
        return None
    return made if is_sound else None


def holds(override: Override, usual: Placement) -> str:
    """Why an override does not hold for a job of this size; empty where it does."""
    if override.rolled_back:
        return override.rolled_back
    if (override.cpu_millis, override.memory_bytes) != (usual.cpu_millis, usual.memory_bytes):
        return (
            f"it was made for {override.cpu_millis}m of CPU and {human(override.memory_bytes)}, and the job has "
            f"{usual.cpu_millis}m and {human(usual.memory_bytes)} now"
        )
    return ""


def rebased(new: Override, old: Override | None) -> Override:
    """An override that follows from runs which had an older one: it holds for the same size of the author's."""
    if old is None or old.rolled_back or old.memory is None or quantity(old.memory) != new.memory_bytes:
        return new
    return replace(new, cpu_millis=old.cpu_millis, memory_bytes=old.memory_bytes)


def overridden(job: Job, override: Override) -> Job:
    """The job with what the override says."""
    return replace(
        job,
        memory=override.memory or job.memory,
        cores=override.cores or job.cores,
        pool=None if override.pools else job.pool,
        machine=None if override.pools else job.machine,
    )


def only(capacity: Capacity, override: Override) -> Capacity:
    """The capacity document with the override's pools only, if it names any; those that are not for jobs stay."""
    if not override.pools:
        return capacity
    kept = {name: pool for name, pool in capacity.pools.items() if name in override.pools or not pool.jobs}
    return replace(capacity, pools=kept)
