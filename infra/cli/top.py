"""`tidepool top`: machines, jobs and USD per hour, as they are now."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from infra.cli import ledgers
from infra.cli.jobs_view import usd
from infra.cli.ledgers import DatabaseOption, EventsOption, LedgerError
from infra.cli.options import JsonOption
from infra.cli.view import plain_table
from infra.local import cloud
from tidepool.explain import duration
from tidepool.ledger import history
from tidepool.report import now as library
from tidepool.report.costs import plain
from tidepool.report.now import Now

_LINES_BESIDES = 7


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
    try:
        if as_json:
            typer.echo(json.dumps(library.document(_look(file, database)), indent=2))
        elif once or not console.is_terminal:
            console.print(shown(_look(file, database), 0))
        else:
            _follow(file, database, interval, console)
    except LedgerError as error:
        typer.echo(f"tidepool top: {error}", err=True)
        raise typer.Exit(1) from None


def _follow(file: Path | None, database: str, interval: float, console: Console) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(shown(_look(file, database), console.height), refresh=True)
                time.sleep(interval)
        except KeyboardInterrupt:
            pass


def _look(file: Path | None, database: str) -> Now:
    if file is None and not database and ledgers.local().exists() and not cloud.is_up():
        raise LedgerError(
            "the local cloud is down, so nothing is there now; `tidepool report` shows what it had. Or name another "
            "ledger with --database"
        )
    with ledgers.opened(file, database) as store:
        return history.present(store, time.time())


def shown(found: Now, height: int) -> Group:
    """The figures and both tables. height: lines that there are for all of it; 0: as many as it takes."""
    room = max(2, (height - _LINES_BESIDES) // 2) if height else max(len(found.machines), len(found.jobs), 1)
    machines = plain_table("machine", "pool", "type", "state", "jobs", "for", "USD/h", right=("jobs", "for", "USD/h"))
    for machine in found.machines[:room]:
        price = "unknown" if machine.usd_per_hour is None else f"{machine.usd_per_hour:.4f}"
        cells = (machine.machine, machine.pool, machine.instance_type, machine.state, str(machine.jobs or "-"))
        machines.add_row(*map(_text, (*cells, _ago(found, machine.since), price)))
    jobs = plain_table("job", "try", "team", "state", "for", "on", "USD", right=("try", "for", "USD"))
    for job in found.jobs[:room]:
        name = f"{job.dag}.{job.task}" if job.dag else job.pod
        cells = (name, str(job.attempt or ""), job.team, job.state, _ago(found, job.since))
        jobs.add_row(*map(_text, (*cells, job.machine or job.pool, usd(job.usd) if job.placed is not None else "-")))
    return Group(
        Text(_summary(found), style="bold"),
        "",
        machines,
        *_more(len(found.machines) - room),
        "",
        jobs,
        *_more(len(found.jobs) - room),
    )


def _summary(found: Now) -> str:
    running = sum(job.state == "running" for job in found.jobs)
    waiting = len(found.jobs) - running
    told = f"{len(found.machines)} machines, {running} jobs run, {waiting} wait: {found.usd_per_hour():.4f} USD an hour"
    idle = found.usd_per_hour("idle")
    told += f", {idle:.4f} of it idle" if idle else ""
    return told + (f"; the price of {found.unpriced} is unknown" if found.unpriced else "")


def _ago(found: Now, since: float | None) -> str:
    return "-" if since is None else duration(max(0.0, found.time - since))


def _more(count: int) -> list[str]:
    return [f"… and {count} more"] if count > 0 else []


def _text(cell: str) -> Text:
    return Text(plain(cell))
