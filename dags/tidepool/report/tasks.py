"""Tasks over their past runs: how long they take and how that moves, what they waste and what to change. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidepool import rightsize
from tidepool.capacity import Capacity
from tidepool.history import PodRecord, Sums, TaskRun, quantile
from tidepool.rightsize import Advice

FEW_RUNS = 6
"""Fewer show no trend."""


@dataclass(frozen=True)
class Slow:
    """How long a task takes. Seconds: half and nine of ten of its runs took no longer than p50 and p90, waits and all
    attempts included; waited: of a run's first pod for its machine (median); total: of all pods, running.

    trend: the later half of the runs to the earlier, 0.2 is a fifth longer; None where they are too few. pods: how many
    there were; `sampled` of them, the last, say p50, p90, longest, waited and trend. All else is of all.
    """

    dag: str
    task: str
    team: str
    runs: int
    failed: int
    p50: float
    p90: float
    longest: float
    waited: float | None
    total: float
    usd: float | None
    trend: float | None
    pods: int
    sampled: int


@dataclass(frozen=True)
class Waste:
    """What a task costs for nothing. lost_usd: by attempts that came to nothing. unused_usd: by what good ones held and
    did not use. cpu, memory: used of what was requested (shares; CPU on average, memory at its p99); None where nobody
    measured it. lost: by cause, how many attempts. advice: what to change, the best first. refused: why there can be
    none, whatever was used. pods: how many there were; `sampled` of them, the last, say what was used and what to
    change. All else is of all."""

    dag: str
    task: str
    team: str
    namespace: str
    runs: int
    usd: float | None
    lost_usd: float
    unused_usd: float
    lost: dict[str, int]
    cpu: float | None
    memory: float | None
    memory_bytes: int
    memory_p99_bytes: int | None
    advice: tuple[Advice, ...]
    pods: int
    sampled: int
    refused: str = ""

    @property
    def wasted_usd(self) -> float:
        """Both together."""
        return self.lost_usd + self.unused_usd


def slow(runs: Sequence[TaskRun], sums: Sums | None = None) -> Slow:
    """Of one task's last runs, oldest first, at least one. sums: of all its pods; None: those of the runs are all."""
    sums = sums or summed(runs)
    took = [run.seconds for run in runs if run.is_good] or [run.seconds for run in runs]
    waits = [run.first.waited for run in runs if run.first.waited is not None]
    half = len(took) // 2
    early = quantile(took[:half], 0.5) if half else 0.0
    return Slow(
        dag=runs[-1].first.dag,
        task=runs[-1].first.task,
        team=runs[-1].first.team,
        runs=sums.runs,
        failed=sums.failed,
        p50=quantile(took, 0.5),
        p90=quantile(took, 0.9),
        longest=max(took),
        waited=quantile(waits, 0.5) if waits else None,
        total=sums.ran,
        usd=sums.usd,
        trend=quantile(took[-half:], 0.5) / early - 1 if len(took) >= FEW_RUNS and early else None,
        pods=sums.pods,
        sampled=len(_pods(runs)),
    )


def waste(runs: Sequence[TaskRun], capacity: Capacity | None, now: float = 0.0, sums: Sums | None = None) -> Waste:
    """Of one task's last runs, oldest first, at least one. capacity: without it there is no advice. sums: of all its
    pods; None: those of the runs are all."""
    sums = sums or summed(runs)
    pods = _pods(runs)
    good = [pod for pod in pods if pod.is_good]
    # One measurement is shown; what is to be changed takes more of them (PodRecord.is_measured).
    measured = [pod for pod in good if pod.memory_p99_bytes and pod.seconds and pod.cpu_millis and pod.memory_bytes]
    last = runs[-1].first
    held = sum(pod.seconds * pod.cpu_millis / 1000 for pod in measured)
    peaks = [pod.memory_p99_bytes or 0 for pod in measured]
    return Waste(
        dag=last.dag,
        task=last.task,
        team=last.team,
        namespace=last.namespace,
        runs=sums.runs,
        usd=sums.usd,
        lost_usd=sums.lost_usd,
        unused_usd=sums.unused_usd,
        lost=dict(sums.lost),
        cpu=sum(pod.cpu_seconds or 0.0 for pod in measured) / held if held else None,
        memory=max(peaks) / max(pod.memory_bytes for pod in measured) if measured else None,
        memory_bytes=last.memory_bytes,
        memory_p99_bytes=max(peaks) if peaks else None,
        advice=tuple(rightsize.recommend(runs, capacity, now)) if capacity is not None else (),
        pods=sums.pods,
        sampled=len(pods),
        refused=rightsize.refused(runs),
    )


def summed(runs: Sequence[TaskRun]) -> Sums:
    """What the database sums up of all pods, of these."""
    pods = _pods(runs)
    lost = Counter(pod.cause or "unknown" for pod in pods if not pod.is_good)
    return Sums(
        runs=len(runs),
        failed=sum(not run.is_good for run in runs),
        pods=len(pods),
        ran=sum(pod.seconds for pod in pods),
        usd=_usd(pods),
        lost_usd=sum(run.lost_usd for run in runs),
        unused_usd=sum((pod.usd or 0.0) * (rightsize.unused(pod) or 0.0) for pod in pods if pod.is_good),
        lost=dict(sorted(lost.items(), key=lambda each: (-each[1], each[0]))),
    )


def document(row: Slow | Waste) -> dict[str, Any]:
    """For JSON: seconds, USD, bytes and shares; null where nobody knows."""
    if isinstance(row, Slow):
        return asdict(row)
    plain = {name: getattr(row, name) for name in Waste.__dataclass_fields__ if name != "advice"}
    advice = [dict(rightsize.document(each)) for each in row.advice]
    return {**plain, "wasted_usd": row.wasted_usd, "advice": advice}


def _pods(runs: Sequence[TaskRun]) -> list[PodRecord]:
    return [pod for run in runs for pod in run.pods]


def _usd(pods: Sequence[PodRecord]) -> float | None:
    """What the priced ones cost; None where none is."""
    known = [pod.usd for pod in pods if pod.usd is not None]
    return sum(known) if known else None
