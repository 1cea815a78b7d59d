"""The lives of machines and pods, put together from their events. Pure.

Times are whole milliseconds since the epoch; None: it has not happened, or nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidepool.ledger.events import MACHINE_KINDS, Event

_MACHINE_TIMES = {
    "machine.asked": "asked",
    "machine.launched": "launched",
    "machine.ready": "ready",
    "machine.reclaimed": "reclaimed",
    "machine.gone": "gone",
}
_POD_TIMES = {
    "pod.queued": "queued",
    "pod.scheduled": "scheduled",
    "pod.pulling": "pulling",
    "pod.running": "running",
    "pod.ended": "ended",
    "pod.gone": "deleted",
}
_MACHINE_FACTS = ("pool", "market", "instance_type", "zone", "usd_per_hour", "volume_gib", "cpu_millis", "memory_bytes")
_POD_FACTS = (
    *("pod", "namespace", "pool", "machine", "team", "dag", "task", "run", "map_index", "attempt"),
    *("cpu_millis", "memory_bytes", "cause", "message"),
)


@dataclass(slots=True)
class MachineLife:
    """A machine. usd_per_hour: the price that its events state. cpu_millis, memory_bytes: its allocatable, 0 where
    nobody said. gone_earliest: it was last known to be there then, where `gone` was only concluded."""

    id: str
    pool: str = ""
    market: str = ""
    instance_type: str = ""
    zone: str = ""
    usd_per_hour: float | None = None
    volume_gib: float = 0.0
    cpu_millis: int = 0
    memory_bytes: int = 0
    asked: int | None = None
    launched: int | None = None
    ready: int | None = None
    reclaimed: int | None = None
    gone: int | None = None
    gone_earliest: int | None = None

    @property
    def start(self) -> int | None:
        """From when on it is billed: EC2 runs it; where nobody saw that, it was asked for or first seen."""
        for moment in (self.launched, self.asked, self.ready, self.gone):
            if moment is not None:
                return moment
        return None


@dataclass(slots=True)
class PodLife:
    """A pod: one attempt of a job, or one part of it. cpu_millis, memory_bytes: what it requests, 0 where nobody said.
    ended_earliest: it was last known to run then, where its end was only concluded."""

    uid: str
    pod: str = ""
    namespace: str = ""
    pool: str = ""
    machine: str = ""
    team: str = ""
    dag: str = ""
    task: str = ""
    run: str = ""
    map_index: str = ""
    attempt: int = 0
    cpu_millis: int = 0
    memory_bytes: int = 0
    cause: str = ""
    message: str = ""
    queued: int | None = None
    scheduled: int | None = None
    pulling: int | None = None
    running: int | None = None
    ended: int | None = None
    deleted: int | None = None
    ended_earliest: int | None = None

    @property
    def placed(self) -> int | None:
        """From when on it holds its part of the machine."""
        return self.running if self.scheduled is None else self.scheduled

    @property
    def over(self) -> int | None:
        """From when on it holds nothing any more."""
        return self.deleted if self.ended is None else self.ended


@dataclass(frozen=True, slots=True)
class Lives:
    """All machines by their id and all pods by their UID, in the order in which they came."""

    machines: dict[str, MachineLife]
    pods: dict[str, PodLife]


def lives(events: Iterable[Event]) -> Lives:
    """Put the lives together. Of a fact that is told twice the earlier counts; the order of the events is no matter."""
    machines: dict[str, MachineLife] = {}
    pods: dict[str, PodLife] = {}
    for event in sorted(events, key=lambda each: each.time):
        if event.kind in _POD_TIMES:
            pod = pods.get(event.pod_uid)
            if pod is None:
                pod = pods[event.pod_uid] = PodLife(event.pod_uid)
            if event.kind == "pod.ended" and event.earliest and pod.ended is None:
                pod.ended_earliest = millis(event.earliest)
            _tell(pod, event, _POD_TIMES[event.kind], _POD_FACTS)
        elif event.kind in MACHINE_KINDS:
            machine = machines.get(event.machine)
            if machine is None:
                machine = machines[event.machine] = MachineLife(event.machine)
            if event.kind == "machine.gone" and event.earliest and machine.gone is None:
                machine.gone_earliest = millis(event.earliest)
            _tell(machine, event, _MACHINE_TIMES.get(event.kind, ""), _MACHINE_FACTS)
    return Lives(machines, pods)


def millis(seconds: float) -> int:
    """Whole milliseconds."""
    return round(seconds * 1000)


def _tell(life: MachineLife | PodLife, event: Event, time: str, facts: tuple[str, ...]) -> None:
    """Add what the event tells and no earlier one did."""
    if time and getattr(life, time) is None:
        setattr(life, time, millis(event.time))
    for name in facts:
        if not getattr(life, name) and (value := getattr(event, name)):
            setattr(life, name, value)
