"""A cost report as a table, and what is to be said about it."""

from __future__ import annotations

from rich.console import Console

from infra.cli import moments, words
from infra.cli.tables import Column, FittedTable, figure, name, word
from infra.cli.words import counted
from tidepool.ledger.attribution import CATEGORIES, Amount, Billing
from tidepool.report.costs import GROUPS, By, Costs, Row, plain

_MANY_SECONDS = 36_000
_RANKS = {"job": 3, "idle": 4, "system": 5, "unattributed": 6, "boot": 7, "pull": 8}
"""Of the categories' columns: small ones go before large ones where there is no room for all."""


def show(costs: Costs, console: Console, limit: int) -> None:
    """Print the table and the sentences below it. `limit`: most rows; the others are one row together."""
    console.print(table(costs, limit))
    console.print()
    for line in notes(costs):
        console.print(line, highlight=False, markup=False)


def table(costs: Costs, limit: int) -> FittedTable:
    """A line a row, what is nobody's, and the sum; categories that nothing belongs to have no column."""
    unit = _unit(costs)
    used = [category for category in CATEGORIES if costs.total.amounts[category].held]
    names = _name_columns(costs.by)
    blank = [""] * (len(names) - 1)
    made = FittedTable(
        *names,
        figure("pods", 9),
        *(figure(category, _RANKS[category]) for category in used),
        figure("all", 2),
        figure("USD"),
        figure("share", 10),
    )
    for row in costs.rows[:limit]:
        made.add_row(*_names(row, costs.by), *_line(row, costs, used, unit))
    if rest := costs.rows[limit:]:
        made.add_row(f"({len(rest):,} more)", *blank, *_line(_together(rest), costs, used, unit))
    if costs.nobody.total.held:
        made.add_row("(nobody's)", *blank, "", *_line(costs.nobody, costs, used, unit)[1:])
    made.add_sum("all", *blank, *_line(costs.total, costs, used, unit))
    return made


def _name_columns(by: By) -> list[Column]:
    if by == "job":
        return [name("job"), figure("try", 1)]
    if by == "day":
        return [word("day")]
    return [name(each, least=20 if len(GROUPS[by]) == 1 else 12) for each in GROUPS[by]]


def _unit(costs: Costs) -> int:
    return 3600 if costs.total.total.seconds >= _MANY_SECONDS else 1


def _names(row: Row, by: By) -> list[str]:
    """The row's name, as text that does nothing; a job is its DAG and task and which attempt, or else its pod."""
    if by == "job":
        dag, task, _, attempt, pod = map(plain, row.name)
        return [f"{dag}.{task}" if dag else pod, "" if attempt == "0" else attempt]
    return [plain(each) or f"(no {group})" for each, group in zip(row.name, GROUPS[by], strict=True)]


def _line(row: Row, costs: Costs, used: list[str], unit: int) -> list[str]:
    total = row.total
    times = [_figure(row.amounts[category].seconds, unit) for category in used]
    return [f"{row.pods:,}", *times, _figure(total.seconds, unit), _usd(total), _share(total, costs)]


def _together(rows: tuple[Row, ...]) -> Row:
    """The rows as one; a pod is in one row only, save where rows are days."""
    together = Row(())
    for row in rows:
        together.pods += row.pods
        for category, amount in row.amounts.items():
            together.amounts[category].add(amount)
    return together


def notes(costs: Costs) -> list[str]:
    """The bill, whether the parts add up to it, and what is and is not in it."""
    bill, machines = costs.bill, costs.total.machines
    unit = "hours" if _unit(costs) == 3600 else "seconds"
    said = [
        f"{counted(machines, 'machine')} from {moments.shown(costs.since)} to "
        f"{moments.shown(costs.until)}: {bill.seconds:,.1f} machine-seconds, {_usd(bill)} USD.",
        f"Times are {unit} of machines. The parts add up to it: difference {costs.difference:.4%}.",
    ]
    if costs.unpriced:
        kinds = ", ".join(
            " ".join(plain(each) for each in kind if each) or "of no known type" for kind in costs.unpriced
        )
        said.append(
            f"No price is known for {bill.unpriced_seconds:,.1f} machine-seconds ({kinds}); they are in no sum of USD. "
            "Give a price list with --prices."
        )
    if costs.off_the_books:
        said.append(
            f"No event tells of the machines of {counted(costs.off_the_books, 'pod')}: that time is in no bill."
        )
    return [*said, _billing(costs.billing)]


def _usd(amount: Amount) -> str:
    """Money for people; `unknown` where no part has a price, `?` after it where some part has none."""
    return words.usd(amount.usd) + ("?" if amount.usd is not None and amount.unpriced else "")


def _billing(billing: Billing) -> str:
    least = f"a least bill of {billing.minimum_seconds} s a machine"
    volume = f"root volumes of {billing.volume_gib:g} GiB at {billing.usd_per_gib_month:g} USD a GiB and month"
    inside = [text for text, there in ((least, billing.minimum_seconds), (volume, billing.volume_gib)) if there]
    missing = [
        *([] if billing.minimum_seconds else ["AWS's least bill of 60 s a machine (--minimum 60)"]),
        *([] if billing.volume_gib else ["root volumes that no event states (--volume)"]),
        "public transfer",
        "tax",
    ]
    return (f"In it: {' and '.join(inside)}. " if inside else "") + f"Not in it: {', '.join(missing)}."


def _share(total: Amount, costs: Costs) -> str:
    """Of the money; of the time where no price is known at all."""
    if costs.bill.money and total.usd is None:
        return "-"
    part, whole = (total.money, costs.bill.money) if costs.bill.money else (total.held, costs.bill.held)
    return f"{part / whole:.1%}" if whole else "-"


def _figure(seconds: float, unit: int) -> str:
    digits = 1 if unit == 1 else 2
    return f"{seconds / unit:,.{digits}f}" if seconds else "-"
