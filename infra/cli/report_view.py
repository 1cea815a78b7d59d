"""A report as text: tables and sentences that fit 80 columns."""

from __future__ import annotations

from fractions import Fraction

from rich.console import Console
from rich.table import Table

from tidepool.report import timeline
from tidepool.report.timeline import HOURS_PER_DAY, Machine, Report

_TIMES = (
    ("queued", "queued"),
    ("asked", "machine_asked"),
    ("ready", "machine_ready"),
    ("running", "running"),
    ("done", "done"),
    ("gone", "machine_gone"),
)


def show(report: Report, console: Console) -> None:
    """Print the jobs' timelines, the machines, the sums and the comparison."""
    console.print("\n[bold]Each job's timeline[/bold], in seconds after the first was queued")
    console.print(jobs_table(report))
    console.print("\n[bold]Machines bought for jobs[/bold], in seconds")
    console.print(machines_table(report))
    console.print()
    for line in comparison_lines(report) + bench_lines(report):
        console.print(line, highlight=False, markup=False)


def jobs_table(report: Report) -> Table:
    """One line an attempt. asked, ready and gone are its machine's; negative where that was there before the job."""
    table = _table(("job", 14), ("try", 3), *((title, 7) for title, _ in _TIMES), ("end", 13))
    origin = min((job.queued for job in report.jobs if job.queued is not None), default=0)
    for job in report.jobs:
        times = [getattr(job, name) for _, name in _TIMES]
        cells = ["-" if time is None else f"{(time - origin) / 1000:.1f}" for time in times]
        end = job.cause if job.cause in ("", "ok") else f"[red]{job.cause}[/red]"
        table.add_row(job.task or job.pod, str(job.attempt or "-"), *cells, end or "not over")
    return table


def machines_table(report: Report) -> Table:
    """One line a machine and their sum; used + idle = bought in every line, as shown."""
    table = _table(("machine", 19), ("pool", 15), ("USD/h", 7), ("bought", 7), ("used", 7), ("idle", 7), ("USD", 9))
    sums = [0, 0]
    for machine in report.machines:
        bought, used = _tenths(machine)
        sums = [sums[0] + bought, sums[1] + used]
        cost = _usd(machine.cost(machine.bought))
        price = "unknown" if machine.usd_per_hour is None else f"{float(machine.usd_per_hour):.4f}"
        table.add_row(machine.id, machine.pool, price, *_split(bought, used), cost)
    table.add_section()
    bought_usd = _usd(report.comparison.bought) if report.comparison.unpriced < len(report.machines) else _usd(None)
    table.add_row("all", "", "", *_split(*sums), bought_usd, style="bold")
    return table


def comparison_lines(report: Report) -> list[str]:
    """What was bought against what a cluster of the peak's size costs that is always on."""
    comparison, peak = report.comparison, report.peak
    if not report.machines:
        return ["No machine was bought."]
    share = report.used / report.bought if report.bought else 0
    size = " + ".join(f"{count} of {pool}" for pool, count in peak.machines.items())
    price, period = float(peak.usd_per_hour), comparison.period / 1000
    unknown = f"The price of {comparison.unpriced} machines is unknown: they are in no figure of money."
    return [
        f"Bought: {report.bought / 1000:.1f} machine-seconds for {_usd(comparison.bought)} USD, "
        f"{share:.0%} of it used by jobs.",
        f"A 24x7 cluster of the same peak size ({size}: {price:.4f} USD/h on demand):",
        f"  for the same {period:.0f} s: {price:.4f} x {period:.0f} / 3600 = {_usd(comparison.always_on)} USD"
        f"{_times(comparison.always_on, comparison.bought)}",
        f"  for a day with one such run: {price:.4f} x {HOURS_PER_DAY} = {_usd(comparison.always_on_day)} USD"
        f"{_times(comparison.always_on_day, comparison.bought)}",
        "Prices are the capacity document's. Not counted: the system machine, which is",
        "needed either way, and that AWS bills at least 60 s of a machine.",
        *([unknown] if comparison.unpriced else []),
    ]


def bench_lines(report: Report) -> list[str]:
    """How long machines and jobs were waited for."""
    figures = timeline.bench(report)
    return [
        f"{what}: {_spread(lengths)}"
        for what, lengths in (
            ("Machine asked to Ready", figures.launch_to_ready),
            ("Job queued to running, a machine bought", figures.queued_to_running),
        )
        if lengths
    ]


def _spread(lengths: tuple[int, ...]) -> str:
    ordered = sorted(lengths)
    middle = ordered[len(ordered) // 2] / 1000
    return f"{middle:.1f} s (median of {len(ordered)}), {ordered[-1] / 1000:.1f} s at most"


def _table(*columns: tuple[str, int]) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True, padding=(0, 1), header_style="bold")
    for index, (title, width) in enumerate(columns):
        left = index == 0 or title in ("pool", "end")
        table.add_column(title, justify="left" if left else "right", no_wrap=True, overflow="ellipsis", max_width=width)
    return table


def _tenths(machine: Machine) -> tuple[int, int]:
    """bought and used in tenths of a second; idle is shown as their difference, so that each line adds up."""
    return round(machine.bought / 100), round(machine.used / 100)


def _split(bought: int, used: int) -> list[str]:
    return [f"{tenths / 10:.1f}" for tenths in (bought, used, bought - used)]


def _usd(amount: Fraction | None) -> str:
    if amount is None:
        return "unknown"
    return f"{float(amount):.2f}" if amount >= 1 else f"{float(amount):.5f}"


def _times(dear: Fraction, cheap: Fraction) -> str:
    ratio = float(dear / cheap) if cheap else 0.0
    return f", {ratio:,.0f} times as much" if ratio >= 10 else f", {ratio:.1f} times as much" if ratio else ""
