"""`tidepool report`: what machines and jobs cost, from the events of the local cloud, a file or a database."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.cli import costs_view, moments
from infra.local import cloud, paths
from infra.local.state import Cloud
from tidepool.ledger import journal
from tidepool.ledger.attribution import Billing
from tidepool.ledger.events import Event, EventError
from tidepool.prices import book as price_book
from tidepool.prices import table as price_table
from tidepool.prices.book import Price, PriceError
from tidepool.report import costs

LEDGER_VARIABLE = "TIDEPOOL_LEDGER"
UNBALANCED = 3


class Group(StrEnum):
    """What a line of the report is."""

    JOB = "job"
    TASK = "task"
    DAG = "dag"
    TEAM = "team"
    POOL = "pool"
    DAY = "day"


class Format(StrEnum):
    """How the report is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    HTML = "html"


@dataclass(frozen=True)
class Source:
    """Events, the prices that are kept with them, where they are from, and whether somebody still writes them."""

    events: list[Event]
    prices: list[Price]
    where: str
    written: bool


class ReportError(Exception):
    """There is nothing that could be reported on; the message says where that was looked for and what to do."""


def report(
    by: Annotated[Group, typer.Option("--by", help="What a line is.")] = Group.DAG,
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="90m, 24h, 7d, 2026-11-01 or 2026-11-01T08:30 (UTC).")
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="WHEN", help="As --since; else now, or a file's end.")] = "",
    form: Annotated[
        Format,
        typer.Option("--format", help="For people or for machines; html: one file, of whole days, by everything."),
    ] = Format.TABLE,
    file: Annotated[
        Path | None,
        typer.Option("--events", metavar="FILE", help="A file of events, as lines of JSON.", dir_okay=False),
    ] = None,
    database: Annotated[
        str,
        typer.Option(
            "--database",
            metavar="URL",
            help="The ledger: a SQLite file, sqlite:///… or postgresql+psycopg://…",
            envvar=LEDGER_VARIABLE,
        ),
    ] = "",
    prices: Annotated[
        Path | None,
        typer.Option("--prices", metavar="FILE", help="A price list (CSV) that comes before the bundled one."),
    ] = None,
    minimum: Annotated[
        int, typer.Option("--minimum", metavar="SECONDS", min=0, help="Least that a machine is billed; AWS: 60.")
    ] = 0,
    volume: Annotated[
        float, typer.Option("--volume", metavar="GIB", min=0, help="Root volume (gp3) of machines that state none.")
    ] = 0.0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most lines of the table; the rest is one.")] = 50,
) -> None:
    """Show what machines cost and whose every machine-second was: a job's, image pull, boot, idle, system or unknown.

    The parts are checked against the bill of the machines. A price that nobody knows is shown as unknown, never as 0.
    Exits with 0 where there is a report, 1 where there are no events or they can't be read, 3 where the parts do not
    add up to the bill within 0.1 %.

    \b
    Examples:
      tidepool report
      tidepool report --by day --since 7d
      tidepool report --by job --since 2026-11-01 --until 2026-11-02 --format csv > jobs.csv
      tidepool report --by team --database ledger.db --format json
      tidepool report --minimum 60 --volume 20
      tidepool report --since 30d --format html > report.html
    """
    now = time.time()
    begin = moments.parse(since, now, "--since") if since else 0.0
    end = moments.parse(until, now, "--until") if until else now
    if begin >= end:
        raise typer.BadParameter(f"--since must lie before --until, which is {moments.shown(end)}")
    try:
        source = _read(file, database, begin, end)
        begin, end = _period(source, begin, end, bool(until), minimum)
        book = price_table.bundled().merged([*source.prices, *_listed(prices)])
        found = costs.costs(source.events, book, by.value, begin, end, Billing(minimum, volume))
    except (ReportError, EventError, PriceError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if not found.bill.held:
        period = f"between {moments.shown(begin)} and {moments.shown(end)}"
        typer.echo(f"{source.where}: no machine was there {period}", err=True)
    if form is Format.JSON:
        typer.echo(json.dumps(costs.document(found), indent=2))
    elif form is Format.HTML:
        from tidepool.report.html import html  # the others need no SQLAlchemy

        typer.echo(html(source.events, book, Billing(minimum, volume), begin, end))
    elif form is Format.CSV:
        typer.echo(costs.table(found), nl=False)
    elif found.bill.held:
        costs_view.show(found, Console(highlight=False), limit)
    if not found.balanced:
        typer.echo(f"the parts miss the bill by {found.difference:.3%}: that is an error of tidepool's", err=True)
        raise typer.Exit(UNBALANCED)


def _period(source: Source, begin: float, end: float, given: bool, least: int) -> tuple[float, float]:
    """From the first event on, where that is later; to the last, where nobody writes any more and no end is given.

    least: seconds after the last event for which a machine may still be billed.
    """
    times = [event.time for event in source.events]
    if not times:
        return begin, end
    if not given and not source.written and max(times) > begin:
        end = min(end, max(times) + least)
    return (max(begin, min(times)) if min(times) < end else begin), end


def _read(file: Path | None, database: str, since: float, until: float) -> Source:
    if file is None:
        return _read_database(database, since, until) if database else _read_local(since, until)
    if not (told := journal.read(file)):
        raise ReportError(f"nothing to report: {file} {'has no events' if file.exists() else 'does not exist'}")
    return Source(told, [], str(file), written=False)


def _read_local(since: float, until: float) -> Source:
    """The local cloud's ledger, which stays when that is taken down."""
    path = Cloud(paths.state()).events
    if not path.exists():
        raise ReportError(
            f"nothing to report: {path} does not exist; `tidepool demo` makes some. Or name a file with --events, or a "
            "ledger with --database"
        )
    return dataclasses.replace(_read_database(str(path), since, until), where=str(path), written=cloud.is_up())


def _read_database(url: str, since: float, until: float) -> Source:
    from sqlalchemy.exc import SQLAlchemyError  # files need none of it

    from tidepool.ledger.store import Store, StoreError

    try:
        store = Store.open(url, make=False)
        try:
            told, kept = list(store.read(since, until)), store.prices()
        finally:
            store.close()
    except StoreError as error:
        raise ReportError(str(error)) from error
    except SQLAlchemyError as error:
        raise ReportError(f"the ledger can't be read: {str(getattr(error, 'orig', error)).strip()}") from error
    if not told and not since:
        raise ReportError("nothing to report: the ledger has no events yet; the keeper writes them")
    return Source(told, kept, "the ledger", written=True)


def _listed(file: Path | None) -> Iterable[Price]:
    if file is None:
        return []
    try:
        return price_book.loads(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError as error:
        raise ReportError(f"{file}: no UTF-8: {error}") from error
