"""Jobs as tables, and what to change in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from infra.cli.tables import FittedTable, figure, figures, name
from infra.cli.words import counted, usd
from tidepool.explain import duration
from tidepool.overrides import Override
from tidepool.report.costs import plain
from tidepool.report.tasks import Slow, Waste
from tidepool.rightsize import Advice


def slow(rows: Sequence[Slow], console: Console) -> None:
    """Print one line a job, the one that took most time in all first."""
    table = FittedTable(
        name("job"),
        figure("runs", 4),
        figure("failed", 6),
        figure("P50", 3),
        figure("P90", 5),
        figure("longest", 8),
        figure("waited", 7),
        figure("in all"),
        figure("USD", 1),
        figure("trend", 2),
    )
    for row in rows:
        trend = "-" if row.trend is None else f"{row.trend:+.0%}"
        table.add_row(
            _job(row.dag, row.task),
            f"{row.runs:,}",
            f"{row.failed:,}" if row.failed else "-",
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
    table = FittedTable(
        name("job"),
        figure("runs", 7),
        figure("USD", 1),
        figure("wasted"),
        *figures("lost", "unused", "CPU", rank=2),
        figure("memory", 6),
        figure("used", 5),
    )
    for row in rows:
        used = "-" if row.memory_p99_bytes is None else _gib(row.memory_p99_bytes)
        table.add_row(
            _job(row.dag, row.task),
            f"{row.runs:,}",
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
            told = f"{_job(row.dag, row.task)}: {what} are of its last {row.sampled:,} of {counted(row.pods, 'pod')}"
            console.print(Text(told), soft_wrap=True)


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
