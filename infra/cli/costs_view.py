"""A cost report as a table that fits the terminal, and what is to be said about it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.cli import moments
from tidepool.ledger.attribution import CATEGORIES, Amount, Billing
from tidepool.report.costs import GROUPS, By, Costs, Row, plain

_MANY_SECONDS = 36_000
_TITLES = {"unattributed": "unknown"}
_SHORTEST_NAME = 4
_FEWEST_FOR_NAMES = 20
_GAP = "  "


def show(costs: Costs, console: Console, limit: int) -> None:
    """Print the table and the sentences below it. `limit`: most rows; the others are one row together."""
    console.print(table(costs, limit, console.width))
    console.print()
    for line in notes(costs):
        console.print(line, highlight=False, markup=False)


def table(costs: Costs, limit: int, width: int) -> Table:
    """A line a row, what is nobody's, and the sum; categories that nothing belongs to have no column.

    Figures are whole; names share what they leave, and where that is little, shares and pods have no column.
    """
    unit = _unit(costs)
    used = [category for category in CATEGORIES if costs.total.amounts[category].held]
    names = ("job", "try") if costs.by == "job" else GROUPS[costs.by]
    blank = [""] * (len(names) - 1)
    lines = [[*_names(row, costs.by), *_line(row, costs, used, unit)] for row in costs.rows[:limit]]
    if rest := costs.rows[limit:]:
        lines.append([f"({len(rest)} more)", *blank, *_line(_together(rest), costs, used, unit)])
    if costs.nobody.total.held:
        lines.append(["(nobody's)", *blank, "", *_line(costs.nobody, costs, used, unit)[1:]])
    lines.append(["all", *blank, *_line(costs.total, costs, used, unit)])

    titles = [*names, "pods", *(_TITLES.get(category, category) for category in used), "all", "USD", "share"]
    for spare in ("share", "pods", ""):
        widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
        left = width - sum(widths[len(names) :]) - len(_GAP) * (len(widths) - 1)
        if spare and left < min(sum(widths[: len(names)]), _FEWEST_FOR_NAMES):
            index = titles.index(spare)
            for line in (titles, *lines):
                del line[index]
    made = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="bold")
    for title, wide in zip(names, _fitted(widths[: len(names)], left), strict=True):
        made.add_column(title, no_wrap=True, overflow="ellipsis", width=wide)
    for title, wide in zip(titles[len(names) :], widths[len(names) :], strict=True):
        made.add_column(title, justify="right", no_wrap=True, min_width=wide)
    for line in lines:
        if line is lines[-1]:
            made.add_section()
        made.add_row(*map(Text, line), style="bold" if line is lines[-1] else "")
    return made


def _unit(costs: Costs) -> int:
    return 3600 if costs.total.total.seconds >= _MANY_SECONDS else 1


def _names(row: Row, by: By) -> list[str]:
    """The row's name, as text that does nothing; a job is its DAG and task and which attempt, or else its pod."""
    if by == "job":
        dag, task, _, attempt, pod = map(plain, row.name)
        return [f"{dag}.{task}" if dag else pod, "" if attempt == "0" else attempt]
    return [plain(each) or f"(no {name})" for each, name in zip(row.name, GROUPS[by], strict=True)]


def _fitted(widths: list[int], left: int) -> list[int]:
    """Widths that fit into what is left: the longest ones give way first."""
    fitted = list(widths)
    while sum(fitted) > left and max(fitted) > _SHORTEST_NAME:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _line(row: Row, costs: Costs, used: list[str], unit: int) -> list[str]:
    total = row.total
    times = [_figure(row.amounts[category].seconds, unit) for category in used]
    return [str(row.pods), *times, _figure(total.seconds, unit), usd(total), _share(total, costs)]


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
        f"{machines} machine{'' if machines == 1 else 's'} from {moments.shown(costs.since)} to "
        f"{moments.shown(costs.until)}: {bill.seconds:,.1f} machine-seconds, {usd(bill)} USD.",
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
        said.append(f"{costs.off_the_books} pods ran on machines of which no event tells: their time is in no bill.")
    return [*said, _billing(costs.billing)]


def usd(amount: Amount) -> str:
    """Money for people; `unknown` where no part has a price, `?` after it where some part has none."""
    value = amount.usd
    if value is None:
        return "unknown"
    return (f"{value:,.2f}" if value >= 1 else f"{value:.5f}") + ("?" if amount.unpriced else "")


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
