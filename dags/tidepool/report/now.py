"""What is there now: machines, the jobs on them, and what they cost an hour. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidepool.ledger.attribution import SYSTEM_POOLS


@dataclass(frozen=True)
class MachineNow:
    """A machine that is not gone; times in Unix seconds. usd_per_hour: None where nobody knows its price."""

    machine: str
    pool: str
    market: str
    instance_type: str
    asked: float | None
    started: float | None
    ready: float | None
    reclaimed: float | None
    usd_per_hour: float | None
    jobs: int = 0

    @property
    def state(self) -> str:
        """asked, booting, busy, idle, system; or reclaimed, once its cloud takes it back."""
        if self.reclaimed is not None:
            return "reclaimed"
        if self.pool in SYSTEM_POOLS:
            return "system"
        if self.jobs:
            return "busy"
        if self.ready is not None:
            return "idle"
        return "booting" if self.started is not None else "asked"

    @property
    def since(self) -> float | None:
        """From when on it is paid, or else was asked for."""
        return self.asked if self.started is None else self.started


@dataclass(frozen=True)
class JobNow:
    """A pod that has not ended; times in Unix seconds. usd: what it has cost so far, as far as the books are."""

    dag: str
    task: str
    run: str
    attempt: int
    team: str
    pod: str
    pool: str
    machine: str
    queued: float | None
    placed: float | None
    started: float | None
    usd: float | None

    @property
    def state(self) -> str:
        """queued (without a machine), starting, running."""
        if self.started is not None:
            return "running"
        return "queued" if self.placed is None else "starting"

    @property
    def since(self) -> float | None:
        """From when on it is in its state."""
        return self.started or self.placed or self.queued


@dataclass(frozen=True)
class Now:
    """Everything that is there at a time (Unix seconds). Machines by pool, busy ones first; jobs, the oldest first."""

    time: float
    machines: tuple[MachineNow, ...]
    jobs: tuple[JobNow, ...]

    def usd_per_hour(self, *states: str) -> float:
        """What machines of these states cost an hour, all of them where none is named; those without a price don't
        count."""
        chosen = [each for each in self.machines if not states or each.state in states]
        return sum(each.usd_per_hour or 0.0 for each in chosen if each.started is not None)

    @property
    def unpriced(self) -> int:
        """Machines whose price nobody knows."""
        return sum(each.usd_per_hour is None for each in self.machines)


_ORDER = ("busy", "reclaimed", "idle", "booting", "asked", "system")


def now(time: float, machines: Sequence[MachineNow], jobs: Sequence[JobNow]) -> Now:
    """In the order in which they are shown."""
    return Now(
        time,
        tuple(sorted(machines, key=lambda each: (_ORDER.index(each.state), each.pool, each.since or 0, each.machine))),
        tuple(sorted(jobs, key=lambda each: (each.queued or 0.0, each.pod))),
    )


def document(found: Now) -> dict[str, Any]:
    """For JSON: times in Unix seconds, USD; null where nobody knows."""
    states: dict[str, int] = {}
    for each in found.machines:
        states[each.state] = states.get(each.state, 0) + 1
    return {
        "time": found.time,
        "usd_per_hour": found.usd_per_hour(),
        "idle_usd_per_hour": found.usd_per_hour("idle"),
        "unpriced_machines": found.unpriced,
        "machines_by_state": states,
        "machines": [asdict(each) | {"state": each.state} for each in found.machines],
        "jobs": [asdict(each) | {"state": each.state} for each in found.jobs],
    }
