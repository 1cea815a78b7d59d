"""A report as text: tables, and sentences that fit 80 columns."""

from __future__ import annotations

from fractions import Fraction

from rich.console import Console
from rich.text import Text

from infra.cli.tables import FittedTable, figure, name, word
from infra.cli.words import UNKNOWN, counted, rate, usd
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
_RANKS = {"asked": 2, "ready": 3, "running": 1, "gone": 4}
"""Of those columns that can be spared where there is no room for all."""


def show(report: Report, console: Console) -> None:
    """Print the jobs' timelines, the machines, the sums and the comparison."""
    console.print("\n[bold]Each job's timeline[/bold], in seconds after the first was queued")
    console.print(jobs_table(report))
    console.print("\n[bold]Machines bought for jobs[/bold], in seconds")
    console.print(machines_table(report))
    console.print()
    for line in comparison_lines(report) + bench_lines(report):
        console.print(line, highlight=False, markup=False)


def jobs_table(report: Report) -> FittedTable:
    """One line an attempt. asked, ready and gone are its machine's; negative where that was there before the job."""
    columns = (figure(title, _RANKS.get(title, 0)) for title, _ in _TIMES)
    table = FittedTable(name("job", least=14), figure("try", 5), *columns, word("end"))
    origin = min((job.queued for job in report.jobs if job.queued is not None), default=0)
    for job in report.jobs:
        times = [getattr(job, name) for _, name in _TIMES]
        cells = ["-" if time is None else f"{(time - origin) / 1000:.1f}" for time in times]
        end = Text(job.cause or "not over", "" if job.cause in ("", "ok") else "red")
        table.add_row(job.task or job.pod, str(job.attempt or "-"), *cells, end)
    return table


def machines_table(report: Report) -> FittedTable:
    """One line a machine and their sum; used + idle = bought in every line, as shown."""
    sums_ = (figure("USD/h", 3), figure("bought", 1), figure("used", 2), figure("idle", 2), figure("USD"))
    table = FittedTable(name("machine", least=19), name("pool", 4, 15), *sums_)
    sums = [0, 0]
    for machine in report.machines:
        bought, used = _tenths(machine)
        sums = [sums[0] + bought, sums[1] + used]
        cost = usd(machine.cost(machine.bought))
        table.add_row(machine.id, machine.pool, rate(machine.usd_per_hour), *_split(bought, used), cost)
    is_known = report.comparison.unpriced < len(report.machines)
    table.add_sum("all", "", "", *_split(*sums), usd(report.comparison.bought) if is_known else UNKNOWN)
    return table


def comparison_lines(report: Report) -> list[str]:
    """What was bought against what a cluster of the peak's size costs that is always on."""
    comparison, peak = report.comparison, report.peak
    if not report.machines:
        return ["No machine was bought."]
    share = report.used / report.bought if report.bought else 0
    size = " + ".join(f"{count} of {pool}" for pool, count in peak.machines.items())
    price, period = float(peak.usd_per_hour), comparison.period / 1000
    machines = counted(comparison.unpriced, "machine")
    unknown = f"The price of {machines} is unknown: no figure of money has that in it."
    return [
        f"Bought: {report.bought / 1000:.1f} machine-seconds for {usd(comparison.bought)} USD, "
        f"{share:.0%} of it used by jobs.",
        f"A 24x7 cluster of the same peak size ({size}: {price:.4f} USD/h on demand):",
        f"  for the same {period:.0f} s: {price:.4f} x {period:.0f} / 3600 = {usd(comparison.always_on)} USD"
        f"{_times(comparison.always_on, comparison.bought)}",
        f"  for a day with one such run: {price:.4f} x {HOURS_PER_DAY} = {usd(comparison.always_on_day)} USD"
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


def _tenths(machine: Machine) -> tuple[int, int]:
    """bought and used in tenths of a second; idle is shown as their difference, so that each line adds up."""
    return round(machine.bought / 100), round(machine.used / 100)


def _split(bought: int, used: int) -> list[str]:
    return [f"{tenths / 10:.1f}" for tenths in (bought, used, bought - used)]


def _times(dear: Fraction, cheap: Fraction) -> str:
    ratio = float(dear / cheap) if cheap else 0.0
    return f", {ratio:,.0f} times as much" if ratio >= 10 else f", {ratio:.1f} times as much" if ratio else ""
