"""`tidepool top`: machines, jobs and USD per hour, as they are now."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from infra.cli import ledgers
from infra.cli.ledgers import DatabaseOption, EventsOption, LedgerError
from infra.cli.options import JsonOption
from infra.cli.tables import FittedTable, figure, name, word
from infra.cli.told import told
from infra.cli.words import counted, rate, usd
from infra.local import cloud
from tidepool.explain import duration
from tidepool.ledger import history
from tidepool.report import now as library
from tidepool.report.costs import plain
from tidepool.report.now import Now

_LINES_BESIDES = 9


def top(
    once: Annotated[bool, typer.Option("--once", help="Show it once, also on a terminal.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.5, help="Seconds between two looks.")] = 2.0,
    file: EventsOption = None,
    database: DatabaseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the machines that are there, the jobs that wait and run, and what the machines cost an hour.

    On a terminal it is looked again every few seconds until Ctrl-C; into a pipe it is written once. What it shows is
    what the keeper has written down, a few seconds ago. Machines that are idle are waiting to be given back.

    \b
    Examples:
      tidepool top
      tidepool top --once --database postgresql+psycopg://keeper@db/tidepool
      tidepool top --json
    """
    console = Console(highlight=False)
    with told("top"):
        if console.is_terminal and not once and not as_json:
            _follow(file, database, interval, console)
            return
        found, empty = _look(file, database)
        if empty:
            typer.echo(empty, err=True)
        if as_json:
            typer.echo(json.dumps(library.document(found), indent=2))
        elif not empty:
            console.print(shown(found, 0))


def _follow(file: Path | None, database: str, interval: float, console: Console) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                found, empty = _look(file, database)
                live.update(Text(empty) if empty else shown(found, console.height), refresh=True)
                time.sleep(interval)
        except KeyboardInterrupt:
            pass


def _look(file: Path | None, database: str) -> tuple[Now, str]:
    """What is there, and why the ledger has nothing of any time."""
    if file is None and not database and ledgers.local().exists() and not cloud.is_up():
        raise LedgerError(
            "the local cloud is down, so nothing is there now; `tidepool report` shows what it had. Or name another "
            "ledger with --database"
        )
    with ledgers.opened(file, database) as store:
        return history.present(store, time.time()), ledgers.why_empty(store, file, database)


def shown(found: Now, height: int) -> Group:
    """The figures and a table of what there is. height: lines that there are for all of it; 0: as many as it takes."""
    room = max(2, (height - _LINES_BESIDES) // 2) if height else max(len(found.machines), len(found.jobs), 1)
    parts: list[RenderableType] = [Text(_summary(found), style="bold")]
    if found.machines:
        parts += ["", _machines(found, room), *_more(len(found.machines) - room)]
    if found.jobs:
        parts += ["", _jobs(found, room), *_more(len(found.jobs) - room)]
    return Group(*parts)


def _machines(found: Now, room: int) -> FittedTable:
    table = FittedTable(
        name("machine", least=19),
        name("pool", 2, 12),
        name("type", 4, 12),
        word("state"),
        figure("jobs", 5),
        figure("for", 3),
        figure("USD/h"),
    )
    for machine in found.machines[:room]:
        where = map(plain, (machine.machine, machine.pool, machine.instance_type))
        jobs = str(machine.jobs or "-")
        table.add_row(*where, machine.state, jobs, _ago(found, machine.since), rate(machine.usd_per_hour))
    return table


def _jobs(found: Now, room: int) -> FittedTable:
    table = FittedTable(
        name("job"),
        figure("try", 6),
        name("team", 4, 10),
        word("state"),
        figure("for", 2),
        name("on", 3, 14),
        figure("USD"),
    )
    for job in found.jobs[:room]:
        whose = plain(f"{job.dag}.{job.task}" if job.dag else job.pod)
        cost = usd(job.usd) if job.placed is not None else "-"
        place = plain(job.machine or job.pool)
        attempt = str(job.attempt or "")
        table.add_row(whose, attempt, plain(job.team), job.state, _ago(found, job.since), place, cost)
    return table


def _summary(found: Now) -> str:
    running = sum(job.state == "running" for job in found.jobs)
    waiting = len(found.jobs) - running
    jobs = f"{counted(running, 'job')} running, {waiting:,} waiting"
    told = f"{counted(len(found.machines), 'machine')}, {jobs}: {rate(found.usd_per_hour())} USD an hour"
    idle = found.usd_per_hour("idle")
    told += f", {rate(idle)} of it idle" if idle else ""
    return told + (f"; the price of {found.unpriced} is unknown" if found.unpriced else "")


def _ago(found: Now, since: float | None) -> str:
    return "-" if since is None else duration(max(0.0, found.time - since))


def _more(count: int) -> list[str]:
    return [f"… and {count:,} more"] if count > 0 else []
