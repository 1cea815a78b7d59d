"""`tidepool report`: what machines and jobs cost, from the events of the local cloud, a file or a database."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from infra.cli import costs_view, ledgers, moments, price_lists
from infra.cli.ledgers import DatabaseOption, EventsOption, Source
from infra.cli.options import JsonOption, SinceOption
from infra.cli.price_lists import PricesOption
from infra.cli.told import told
from tidepool.ledger.attribution import Billing
from tidepool.prices import table as price_table
from tidepool.prices.book import PriceBook, PriceError
from tidepool.report import costs
from tidepool.report.costs import Costs

UNBALANCED = 3
_DAY = 86_400.0


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


ByOption = Annotated[Group, typer.Option("--by", help="What a line is.")]
UntilOption = Annotated[
    str, typer.Option("--until", metavar="WHEN", help="As --since; else now, or a file's end.", show_default=False)
]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="For people or for machines; html: one file, of whole days, by everything.",
        show_default="table",
    ),
]
MinimumOption = Annotated[
    int, typer.Option("--minimum", metavar="SECONDS", min=0, help="Least that a machine is billed; AWS: 60.")
]
VolumeOption = Annotated[
    float, typer.Option("--volume", metavar="GIB", min=0, help="Root volume (gp3) of machines that state none.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Most lines of the table; the rest is one.")]


def report(
    by: ByOption = Group.DAG,
    since: SinceOption = "",
    until: UntilOption = "",
    form: FormatOption = None,
    as_json: JsonOption = False,
    file: EventsOption = None,
    database: DatabaseOption = "",
    prices: PricesOption = None,
    minimum: MinimumOption = 0,
    volume: VolumeOption = 0.0,
    limit: LimitOption = 50,
) -> None:
    """Show what machines cost and whose every machine-second was: a job's, image pull, boot, idle, system's, or
    unattributed where something ended and nobody saw when.

    The parts are checked against the bill of the machines. A price that nobody knows is shown as unknown, never as 0.
    Exits with 1 where the events can't be read, 3 where the parts do not add up to the bill within 0.1 %.

    \b
    Examples:
      tidepool report
      tidepool report --by day --since 7d
      tidepool report --by job --since 2026-11-01 --until 2026-11-02 --format csv > jobs.csv
      tidepool report --by team --database ledger.db --json
      tidepool report --minimum 60 --volume 20
      tidepool report --since 30d --format html > report.html
    """
    if as_json and form not in (None, Format.JSON):
        raise typer.BadParameter(f"give one of --json and --format {form}")
    now = time.time()
    begin = moments.parse(since, now, "--since") if since else 0.0
    end = moments.parse(until, now, "--until") if until else now
    if begin >= end:
        raise typer.BadParameter(f"--since must lie before --until, which is {moments.shown(end)}")
    billing = Billing(minimum, volume)
    with told("report", PriceError):
        source = ledgers.events(file, database, begin, end)
        book = price_table.bundled().merged([*source.prices, *price_lists.read(prices)])
    first, last = _period(source, begin, end, bool(until), minimum)
    found = costs.costs(source.events, book, by.value, first, last, billing)
    if not found.bill.held:
        period = f"between {moments.shown(begin)} and" if since else "until"
        typer.echo(source.empty or f"{source.where}: no machine was there {period} {moments.shown(end)}", err=True)
    _print(found, Format.JSON if as_json else form or Format.TABLE, limit, source, book)
    if not found.balanced:
        typer.echo(f"the parts miss the bill by {found.difference:.3%}: that is an error of tidepool's", err=True)
        raise typer.Exit(UNBALANCED)


def _print(found: Costs, form: Format, limit: int, source: Source, book: PriceBook) -> None:
    if form is Format.JSON:
        typer.echo(json.dumps(costs.document(found), indent=2))
    elif form is Format.HTML:
        from tidepool.report.html import html  # the others need none of the keeper

        typer.echo(html(source.events, book, found.billing, found.since, found.until))
    elif form is Format.CSV:
        typer.echo(costs.table(found), nl=False)
    elif found.bill.held:
        costs_view.show(found, Console(highlight=False), limit)


def _period(source: Source, begin: float, end: float, given: bool, least: int) -> tuple[float, float]:
    """From the first event on, where that is later; to the last, where nobody writes any more and no end is given.

    least: seconds after the last event for which a machine may still be billed.
    """
    times = [event.time for event in source.events]
    if not times:
        return begin or end - _DAY, end
    if not given and not source.written and max(times) > begin:
        end = min(end, max(times) + least)
    return (max(begin, min(times)) if min(times) < end else begin), end
