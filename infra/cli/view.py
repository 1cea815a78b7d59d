"""What machines and jobs are doing now, from the events: as states, as lines of change, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from infra.cli.tables import FittedTable, figure, name, word
from tidepool.ledger.events import REAPER_KINDS, Event

_STYLES = {"asked": "yellow", "ready": "cyan", "running": "green", "idle": "magenta", "gone": "dim"}
_JOB_STYLES = {"queued": "yellow", "launched": "cyan", "running": "green", "done": "dim"}


@dataclass(frozen=True)
class MachineNow:
    """state: asked, ready (no job yet), running (a job is), idle (none any more), gone; since: Unix seconds."""

    id: str
    pool: str
    market: str
    instance_type: str
    state: str
    since: float


@dataclass(frozen=True)
class JobNow:
    """state: queued, launched (it has a machine), running, done (then `cause` says how); since: Unix seconds."""

    name: str
    pod_uid: str
    attempt: int
    machine: str
    state: str
    cause: str
    since: float


@dataclass(frozen=True)
class Board:
    """All machines and jobs in the order in which they came."""

    machines: tuple[MachineNow, ...] = ()
    jobs: tuple[JobNow, ...] = ()

    def left(self, pools: Iterable[str]) -> list[MachineNow]:
        """The machines of these pools that are not gone."""
        wanted = set(pools)
        return [machine for machine in self.machines if machine.pool in wanted and machine.state != "gone"]


def board(events: Iterable[Event]) -> Board:
    """The board after these events. Pods of no DAG are shown by their name."""
    told = sorted(events, key=lambda event: event.time)
    pods: dict[str, dict[str, Event]] = {}
    machines: dict[str, dict[str, Event]] = {}
    for event in told:
        if event.kind in REAPER_KINDS:
            continue
        table = machines if event.kind.startswith("machine.") else pods
        table.setdefault(event.key[1], {}).setdefault(event.kind, event)
    jobs = tuple(_job(facts) for facts in pods.values())
    asked = [facts for facts in machines.values() if "machine.asked" in facts]
    return Board(tuple(_machine(facts, jobs) for facts in asked), jobs)


def _job(facts: dict[str, Event]) -> JobNow:
    first, last = next(iter(facts.values())), list(facts.values())[-1]
    ended = facts.get("pod.ended") or facts.get("pod.gone")
    if ended:
        state, last = "done", ended
    elif "pod.running" in facts:
        state = "running"
    else:
        state = "launched" if "pod.scheduled" in facts else "queued"
    machine = next((event.machine for event in facts.values() if event.machine), "")
    name = first.task or first.pod
    return JobNow(name, first.pod_uid, first.attempt, machine, state, ended.cause if ended else "", last.time)


def _machine(facts: dict[str, Event], jobs: tuple[JobNow, ...]) -> MachineNow:
    asked = facts["machine.asked"]
    own = [job for job in jobs if job.machine == asked.machine]
    running = [job.since for job in own if job.state == "running"]
    done = [job.since for job in own if job.state == "done"]
    state, since = "asked", asked.time
    if "machine.ready" in facts:
        state, since = "ready", facts["machine.ready"].time
    if running:
        state, since = "running", min(running)
    elif done:  # the next job may be launched already: until it runs the machine idles
        state, since = "idle", max(done)
    if "machine.gone" in facts:
        state, since = "gone", facts["machine.gone"].time
    return MachineNow(asked.machine, asked.pool, asked.market, asked.instance_type, state, since)


def changes(before: Board, after: Board) -> list[tuple[float, str]]:
    """(Unix seconds, sentence) for everything whose state is another in `after`."""
    old_machines = {machine.id: machine.state for machine in before.machines}
    old_jobs = {job.pod_uid: job.state for job in before.jobs}
    said = [
        (machine.since, f"machine {machine.id} {machine.state}  ({_kind(machine)})")
        for machine in after.machines
        if old_machines.get(machine.id) != machine.state
    ]
    for job in after.jobs:
        if old_jobs.get(job.pod_uid) != job.state:
            attempt = f", try {job.attempt}" if job.attempt > 1 else ""
            place = f" on {job.machine}" if job.machine and job.state in ("launched", "running") else ""
            cause = f": {job.cause}" if job.cause else ""
            said.append((job.since, f"job {job.name}{attempt} {job.state}{cause}{place}"))
    return sorted(said)


def _kind(machine: MachineNow) -> str:
    return ", ".join(part for part in (machine.pool, machine.market, machine.instance_type) if part)


def tables(now: Board, time: float) -> Group:
    """The board as two tables for a live display; `time` in Unix seconds."""
    machines = FittedTable(name("machine"), name("pool", 2, 12), name("type", 3, 12), word("state"), figure("for", 1))
    for machine in now.machines:
        state = Text(machine.state, _STYLES[machine.state])
        spent = "" if machine.state == "gone" else _seconds(time - machine.since)
        machines.add_row(machine.id, machine.pool, machine.instance_type, state, spent)
    jobs = FittedTable(name("job"), figure("try", 2), word("state"), name("on", 3, 12), figure("for", 1))
    for job in now.jobs:
        style = "red" if job.cause not in ("", "ok") else _JOB_STYLES[job.state]
        state = Text(f"{job.state}{': ' + job.cause if job.cause else ''}", style)
        spent = "" if job.state == "done" else _seconds(time - job.since)
        jobs.add_row(job.name, str(job.attempt or ""), state, job.machine, spent)
    return Group(machines, "", jobs)


def _seconds(seconds: float) -> str:
    return f"{max(0, seconds):.0f} s"
