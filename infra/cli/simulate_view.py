"""The result of `tidepool simulate` as tables, with what became of the aims and what was assumed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from infra.cli.tables import FittedTable, figure, figures, name
from tidepool.report.costs import plain
from tidepool.simulator import assumptions
from tidepool.simulator.books import SAVINGS, USES, WORK, Books
from tidepool.simulator.comparison import World, aims
from tidepool.simulator.workloads import Workload


def show(workload: Workload, world: World, found: Sequence[Books], short: Sequence[Books], console: Console) -> None:
    """Print everything."""
    spot = world.spot if isinstance(world.spot, str) else world.spot.name
    said = [
        f"{plain(workload.name)}: {workload.words} ({len(workload.jobs):,} jobs); pools of {world.capacity.cluster}; "
        f"spot: {plain(spot)}; seed {world.seed}.",
        "",
        "Saved against 24x7, in % of its bill, and by what; minus is lost:",
    ]
    _say(console, *said)
    console.print(_savings(found))
    _say(console, "", "What the machine time was for, in USD, and billed by useful time:")
    console.print(_uses(found))
    _say(console, "", "How the jobs fared: waits are what they took beyond their running time, in seconds:")
    console.print(_waits(found))
    _say(console, "", "A ten-minute job by itself: machine time billed by useful time, and what the rest was for:")
    console.print(_short(short))
    console.print()
    for aim in aims(workload, found, short):
        reached = f"{aim.value:.1%}" if aim.value < 1 else f"{aim.value:.2f}"
        _say(console, f"- {'holds' if aim.is_met else 'does not hold'}: tidepool {aim.words}: {reached}")
    _say(console, *_losses(world, found))
    _say(console, "", "The policies:")
    for each in found:
        _say(console, f"- {each.policy}: {each.words}")
    _say(console, "- " + _tail(world))
    _say(console, "", "Assumed (--assume NAME=NUMBER):")
    for assumed, value, meaning, source in assumptions.table(world.assumptions):
        _say(console, f"- {assumed}={value:.6g}: {meaning} ({source}).")
    for rule in assumptions.RULES:
        _say(console, f"- {rule}")
    _say(
        console,
        "In the bill: machines by the second, a minute at least, and their root volumes. Not in it: what costs the "
        "same under every policy, such as control plane and system nodes; transfer; tax.",
    )


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        indent = "  " if line.startswith("- ") else ""
        for each in textwrap.wrap(line, console.width, subsequent_indent=indent) or [""]:
            console.print(Text(each))


def _savings(found: Sequence[Books]) -> FittedTable:
    table = FittedTable(name("policy"), figure("USD"), figure("saved"), *figures(*SAVINGS))
    whole = found[0].usd
    for each in found:
        parts = (f"{each.savings[why] / whole:+.1%}" if each.savings[why] else "-" for why in SAVINGS)
        table.add_row(each.policy, f"{each.usd:,.2f}", f"{each.saving:.1%}", *parts)
    return table


def _uses(found: Sequence[Books]) -> FittedTable:
    others = figures("billed/useful", "on spot", "hours")
    table = FittedTable(name("policy"), *figures(*USES, rank=4), *others)
    for each in found:
        money = (f"{each.by_use[use]:,.2f}" for use in USES)
        table.add_row(
            each.policy, *money, f"{each.billed_per_useful:.2f}", f"{each.spot_share:.0%}", f"{each.machine_hours:,.0f}"
        )
    return table


def _waits(found: Sequence[Books]) -> FittedTable:
    machines = figures("reclaims", "machines", "at once", rank=4)
    table = FittedTable(name("policy"), figure("late"), figure("never"), *figures("P50", "P90", "P99"), *machines)
    for each in found:
        waits = (f"{seconds:,.0f}" for seconds in (each.waits.p50, each.waits.p90, each.waits.p99))
        counts = (f"{each.reclaims:,}", f"{each.machines:,}", f"{each.peak:,}")
        table.add_row(each.policy, f"{each.late:,}", f"{each.failed:,}", *waits, *counts)
    return table


def _short(short: Sequence[Books]) -> FittedTable:
    table = FittedTable(name("policy"), figure("billed/useful"), *figures(*USES))
    for each in short:
        useful = each.at_on_demand[WORK]
        parts = (f"{each.at_on_demand[use] / useful:.2f}" for use in USES)
        table.add_row(each.policy, f"{each.billed_per_useful:.2f}", *parts)
    return table


def _losses(world: World, found: Sequence[Books]) -> list[str]:
    fixed, ours = found[0], next(each for each in found if each.policy == "tidepool")
    better = [each.policy for each in found if each.usd < ours.usd]
    said = [f"- tidepool loses here: {', '.join(better)} {'is' if len(better) == 1 else 'are'} cheaper"] * bool(better)
    if ours.usd < fixed.usd and not world.discount:
        said.append(f"- 24x7 would be cheaper with a discount of more than {ours.saving:.0%} (reservations)")
    return said


def _tail(world: World) -> str:
    times = sorted({each.unneeded_time for each in world.pools.values()})
    ours = " to ".join(dict.fromkeys(f"{seconds:.0f} s" for seconds in (times[0], times[-1])))
    return f"idle machines are given back after {ours} by tidepool (unneeded_time), 600 s by default"
