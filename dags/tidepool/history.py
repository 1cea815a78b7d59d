"""Past runs of jobs, as the ledger's books have them, and what they say of the next one. Pure.

Times are Unix seconds, durations seconds, money USD.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tidepool.outcome import Cause
from tidepool.sizing import SMALLEST_JOB_CPU_MILLIS

FEW_SAMPLES = 3
"""Of what a pod used: with fewer, its peak may well have been missed."""


@dataclass(frozen=True, slots=True)
class PodRecord:
    """One pod that has ended: an attempt of a job, or one part of it, as in the table tidepool_jobs.

    cpu_millis, memory_bytes: what it requested. cpu_seconds, memory_p99_bytes, memory_peak_bytes: what it used; None
    where nobody measured it. held_seconds: machine-seconds. usd: None where no price is known. map_index: of a mapped
    task, else empty.
    """

    dag: str
    task: str
    run: str
    attempt: int
    team: str = ""
    namespace: str = ""
    pool: str = ""
    market: str = ""
    instance_type: str = ""
    queued: float | None = None
    started: float | None = None
    ended: float | None = None
    cause: str = ""
    cpu_millis: int = 0
    memory_bytes: int = 0
    cpu_seconds: float | None = None
    memory_p99_bytes: int | None = None
    memory_peak_bytes: int | None = None
    samples: int = 0
    held_seconds: float = 0.0
    usd: float | None = None
    map_index: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it did what it was for."""
        return self.cause == Cause.OK

    @property
    def seconds(self) -> float:
        """From its start to its end; 0 where it never started."""
        return max(0.0, self.ended - self.started) if self.started is not None and self.ended is not None else 0.0

    @property
    def waited(self) -> float | None:
        """From when it was asked for to its start: buying, booting, pulling."""
        return None if self.queued is None or self.started is None else max(0.0, self.started - self.queued)

    @property
    def size(self) -> tuple[int, int]:
        """What it requested."""
        return self.cpu_millis, self.memory_bytes

    @property
    def is_measured(self) -> bool:
        """Whether enough is known of what it used."""
        return self.samples >= FEW_SAMPLES and self.memory_p99_bytes is not None and self.cpu_seconds is not None


@dataclass(frozen=True)
class TaskRun:
    """All pods of one task in one DAG run, in the order of their attempts."""

    pods: tuple[PodRecord, ...]

    @property
    def is_good(self) -> bool:
        """Whether its last attempt was."""
        last = max(pod.attempt for pod in self.pods)
        return any(pod.is_good for pod in self.pods if pod.attempt == last)

    @property
    def began(self) -> float:
        """When its first pod was asked for."""
        return min((pod.queued for pod in self.pods if pod.queued is not None), default=0.0)

    @property
    def seconds(self) -> float:
        """From its first pod's being asked for to the end of its last: waits and all attempts."""
        ends = [pod.ended for pod in self.pods if pod.ended is not None]
        return max(0.0, max(ends) - self.began) if ends and self.began else 0.0

    @property
    def ran(self) -> float:
        """Seconds that its longest pod ran."""
        return max(pod.seconds for pod in self.pods)

    @property
    def held_seconds(self) -> float:
        """Machine-seconds of all its pods."""
        return sum(pod.held_seconds for pod in self.pods)

    @property
    def usd(self) -> float | None:
        """What its pods cost; None where a price is missing."""
        costs = [pod.usd for pod in self.pods]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def lost_usd(self) -> float:
        """What attempts cost that came to nothing."""
        return sum(pod.usd or 0.0 for pod in self.pods if not pod.is_good)

    @property
    def first(self) -> PodRecord:
        """Its first pod: what the author asked for, before any attempt grew."""
        return min(self.pods, key=lambda pod: (pod.attempt, pod.queued or 0.0))

    @property
    def is_alone(self) -> bool:
        """Whether each attempt was one pod; of a mapped task, each attempt of each instance."""
        return len({(pod.map_index, pod.attempt) for pod in self.pods}) == len(self.pods)

    @property
    def instances(self) -> int:
        """How many instances of its task there were: more than one of a mapped task."""
        return len({pod.map_index for pod in self.pods})


@dataclass(frozen=True)
class Sums:
    """Of all pods of a task in some time. runs: how many, `failed` of them by their last attempt. ran: seconds that the
    pods ran. usd: None where no price is known; lost_usd: of attempts that came to nothing, by cause in `lost` how
    many; unused_usd: of good ones, for what was measured and not used."""

    runs: int
    failed: int
    pods: int
    ran: float
    usd: float | None
    lost_usd: float
    unused_usd: float
    lost: Mapping[str, int]


def runs(pods: Iterable[PodRecord]) -> dict[tuple[str, str], list[TaskRun]]:
    """The runs of each (DAG, task), oldest first. Runs of which a pod has not ended are left out."""
    grouped: dict[tuple[str, str, str], list[PodRecord]] = {}
    for pod in pods:
        grouped.setdefault((pod.dag, pod.task, pod.run), []).append(pod)
    found: dict[tuple[str, str], list[TaskRun]] = {}
    for (dag, task, _), members in grouped.items():
        if all(pod.ended is not None for pod in members):
            ordered = tuple(sorted(members, key=lambda pod: (pod.attempt, pod.queued or 0.0)))
            found.setdefault((dag, task), []).append(TaskRun(ordered))
    return {key: sorted(each, key=lambda run: run.began) for key, each in found.items()}


def quantile(values: Sequence[float], share: float) -> float:
    """Of at least one value, between its neighbours by their distance."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def is_exclusive(cpu_millis: int, machine_cpu_millis: int) -> bool:
    """Whether a pod that requests so much CPU has its machine to itself (tidepool.sizing)."""
    return machine_cpu_millis - cpu_millis < SMALLEST_JOB_CPU_MILLIS
