"""Tables of jobs that fit the terminal, and what to change in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidepool.explain import duration
from tidepool.overrides import Override
from tidepool.report.costs import plain
from tidepool.report.tasks import Slow, Waste
from tidepool.rightsize import Advice

_LONGEST_NAME = 32


def slow(rows: Sequence[Slow], console: Console) -> None:
    """Print one line a job, the one that took most time in all first."""
    table = _table("job", "runs", "failed", "P50", "P90", "longest", "waited", "in all", "USD", "trend")
    for row in rows:
        trend = "-" if row.trend is None else f"{row.trend:+.0%}"
        _add(
            table,
            _job(row.dag, row.task),
            str(row.runs),
            str(row.failed or "-"),
            *(duration(each) for each in (row.p50, row.p90, row.longest)),
            "-" if row.waited is None else duration(row.waited),
            duration(row.total),
            usd(row.usd),
            trend,
        )
    console.print(table)
    _sampled(rows, "P50, P90, longest, waited and trend", console)


def waste(rows: Sequence[Waste], console: Console) -> None:
    """Print one line a job, the most wasteful first, and below the table what to change in each."""
    table = _table("job", "runs", "USD", "wasted", "lost", "unused", "CPU", "memory", "used")
    for row in rows:
        used = "-" if row.memory_p99_bytes is None else _gib(row.memory_p99_bytes)
        _add(
            table,
            _job(row.dag, row.task),
            str(row.runs),
            usd(row.usd),
            usd(row.wasted_usd),
            usd(row.lost_usd) if row.lost_usd else "-",
            usd(row.unused_usd) if row.unused_usd else "-",
            "-" if row.cpu is None else f"{row.cpu:.0%}",
            _gib(row.memory_bytes),
            used,
        )
    console.print(table)
    told = [line for row in rows for line in _lines(row)]
    if told:
        console.print("\n[bold]What to change[/bold]")
        for line in told:
            console.print(Text(line), soft_wrap=True)
    _sampled(rows, "CPU, memory, used and what to change", console)
    if any(row.cpu is None for row in rows):
        console.print("\nNobody measured what those with - used: that takes the keeper, and jobs of 20 s or more.")


def right_size(rows: Sequence[Waste], done: Mapping[str, str], console: Console) -> None:
    """Print what each job should have, and what was done about it."""
    for row in rows:
        lines = [*_lines(row), *([f"{_job(row.dag, row.task)}: {row.refused}"] if row.refused else [])]
        for line in lines or [f"{_job(row.dag, row.task)}: nothing to change, or too little is known"]:
            console.print(Text(line), soft_wrap=True)
        if row.task in done:
            console.print(Text(f"  {done[row.task]}"), soft_wrap=True)


def overrides(found: Sequence[Override], console: Console) -> None:
    """Print one line an override."""
    for each in found:
        state = f"rolled back: {each.rolled_back}" if each.rolled_back else each.why
        console.print(Text(f"{_job(each.dag, each.task)}: {each.words} ({plain(state)})"), soft_wrap=True)


def _sampled(rows: Sequence[Slow | Waste], what: str, console: Console) -> None:
    """Say of which pods the figures are that are not of all."""
    for row in rows:
        if row.sampled < row.pods:
            told = f"{_job(row.dag, row.task)}: {what} are of its last {row.sampled} of {row.pods:,} pods"
            console.print(Text(told), soft_wrap=True)


def usd(value: float | None) -> str:
    """Money for people; `unknown` where nobody knows it."""
    if value is None:
        return "unknown"
    return f"{value:,.2f}" if value >= 1 or not value else f"{value:.4f}"


def _lines(row: Waste) -> list[str]:
    told = [f"{_job(row.dag, row.task)}: {_advice(each)}" for each in row.advice]
    if row.lost:
        causes = ", ".join(f"{count} by {plain(cause)}" for cause, count in row.lost.items())
        told.append(f"{_job(row.dag, row.task)}: attempts lost: {causes}")
    return told


def _advice(advice: Advice) -> str:
    saves = f"; saves {usd(advice.saves_usd)} USD a run" if advice.saves_usd else ""
    how = f" [{advice.override.words}]" if advice.override else ""
    return f"{plain(advice.words)}{saves}{how}"


def _job(dag: str, task: str) -> str:
    return plain(f"{dag}.{task}")


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        is_name = column == columns[0]
        table.add_column(
            column,
            justify="left" if is_name else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=_LONGEST_NAME if is_name else None,
        )
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))
