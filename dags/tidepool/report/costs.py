"""What machines cost, by job, task, DAG, team, pool or day: the parts of the attribution, added up. Pure."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from tidepool.ledger.attribution import (
    CATEGORIES,
    SYSTEM_POOLS,
    Amount,
    Billing,
    Part,
    Window,
    attribute,
    bill,
)
from tidepool.ledger.events import Event
from tidepool.ledger.lives import Lives, PodLife, lives, millis
from tidepool.prices.book import PriceBook

By = Literal["job", "task", "dag", "team", "pool", "day"]
GROUPS: dict[By, tuple[str, ...]] = {
    "job": ("dag", "task", "run", "attempt", "pod"),
    "task": ("dag", "task"),
    "dag": ("dag",),
    "team": ("team",),
    "pool": ("pool",),
    "day": ("day",),
}
"""The columns that name a row, by what is asked for."""

NOBODY = "(nobody)"
TOLERANCE = 0.001
"""Most that the parts may differ from the bill, as a share of it."""


@dataclass
class Row:
    """One line: its name as GROUPS says, how many pods it had and on how many machines, and what it cost."""

    name: tuple[str, ...]
    pods: int = 0
    machines: int = 0
    amounts: dict[str, Amount] = field(default_factory=lambda: {each: Amount() for each in CATEGORIES})

    @property
    def total(self) -> Amount:
        """Of all categories."""
        total = Amount()
        for amount in self.amounts.values():
            total.add(amount)
        return total


@dataclass(frozen=True)
class Costs:
    """The report. rows: dearest first, days in their order. nobody: what belongs to no row, such as idle machines
    where rows are DAGs. total: all rows and nobody. bill: what the machines cost by themselves, figured separately.

    off_the_books: pods that ran on machines of which no event tells; their time is in no bill. unpriced: (instance
    type, market, zone) of machines that had no known price at some time.
    """

    by: By
    since: float
    until: float
    billing: Billing
    rows: tuple[Row, ...]
    nobody: Row
    total: Row
    bill: Amount
    off_the_books: int
    unpriced: tuple[tuple[str, str, str], ...]

    @property
    def difference(self) -> float:
        """By how much of the bill the parts miss it, in time or money, whichever is more."""
        total = self.total.total
        return max(_apart(total.held, self.bill.held), _apart(total.money, self.bill.money))

    @property
    def balanced(self) -> bool:
        """Whether the parts add up to the bill."""
        return self.difference <= TOLERANCE


def costs(
    events: Iterable[Event],
    book: PriceBook,
    by: By,
    since: float,
    until: float,
    billing: Billing = Billing(),  # noqa: B008 - frozen
    system_pools: frozenset[str] = SYSTEM_POOLS,
) -> Costs:
    """The report on the time from `since` to `until` (Unix seconds); what is not over yet counts until then."""
    told = lives(events)
    window = Window(millis(since), millis(until))
    rows: dict[tuple[str, ...] | None, Row] = {None: Row(())}
    total = Row(())
    counted: set[tuple[object, ...]] = set()
    unpriced: set[tuple[str, str, str]] = set()

    def first(*what: object) -> bool:
        new = what not in counted
        counted.add(what)
        return new

    for part in attribute(told, book, window, billing, system_pools):
        name = _name(part, by)
        row = rows.setdefault(name, Row(name or ()))
        for each, scope in ((row, (name,)), (total, ())):
            each.amounts[part.category].add(part.amount)
            each.machines += first("machine", *scope, part.machine.id)
            each.pods += part.pod is not None and first("pod", *scope, part.pod.uid)
        if part.amount.unpriced:
            unpriced.add((part.machine.instance_type, part.machine.market, part.machine.zone))
    nobody = rows.pop(None)
    return Costs(
        by=by,
        since=since,
        until=until,
        billing=billing,
        rows=tuple(sorted(rows.values(), key=_order(by))),
        nobody=nobody,
        total=total,
        bill=bill(told, book, window, billing),
        off_the_books=sum(_astray(pod, told, window) for pod in told.pods.values()),
        unpriced=tuple(sorted(unpriced)),
    )


def document(costs: Costs) -> dict[str, Any]:
    """The report as plain data for JSON: seconds of machines, USD, times in Unix seconds; USD is null if unknown."""
    return {
        "by": costs.by,
        "since": costs.since,
        "until": costs.until,
        "billing": asdict(costs.billing),
        "rows": [_document(row, GROUPS[costs.by]) for row in costs.rows],
        "nobody": _document(costs.nobody, ()),
        "total": _document(costs.total, ()),
        "bill": _amount(costs.bill),
        "difference": costs.difference,
        "balanced": costs.balanced,
        "pods_off_the_books": costs.off_the_books,
        "unpriced": [dict(zip(("instance_type", "market", "zone"), each, strict=True)) for each in costs.unpriced],
    }


def table(costs: Costs) -> str:
    """The report as CSV: its rows and a last one named (nobody). Nothing in it is a spreadsheet's formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = GROUPS[costs.by]
    columns = [f"{category}_{unit}" for category in CATEGORIES for unit in ("seconds", "usd")]
    writer.writerow([*names, "pods", "machines", *columns, "seconds", "usd", "unpriced_seconds"])
    nobody = replace(costs.nobody, name=(NOBODY,) + ("",) * (len(names) - 1))
    for row in (*costs.rows, nobody):
        figures: list[float | None] = []
        for category in CATEGORIES:
            figures += [row.amounts[category].seconds, row.amounts[category].usd]
        total = row.total
        figures += [total.seconds, total.usd, total.unpriced_seconds]
        writer.writerow([*(_cell(each) for each in row.name), row.pods, row.machines, *map(_figure, figures)])
    return text.getvalue()


def plain(text: str) -> str:
    """The text without anything that a terminal or a reader acts upon: controls, line ends, changes of direction."""
    return "".join("\ufffd" if unicodedata.category(each) in _ACTS else each for each in text)


_ACTS = ("Cc", "Cf", "Cs", "Zl", "Zp")
_FORMULA = ("=", "+", "-", "@")


def _cell(text: str) -> str:
    shown = plain(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"


def _document(row: Row, names: tuple[str, ...]) -> dict[str, Any]:
    named: dict[str, Any] = dict(zip(names, row.name, strict=True))
    if "attempt" in named:
        named["attempt"] = int(named["attempt"])
    categories = {category: _amount(amount) for category, amount in row.amounts.items()}
    return {**named, "pods": row.pods, "machines": row.machines, **_amount(row.total), "categories": categories}


def _amount(amount: Amount) -> dict[str, float | None]:
    return {"seconds": amount.seconds, "usd": amount.usd, "unpriced_seconds": amount.unpriced_seconds}


def _name(part: Part, by: By) -> tuple[str, ...] | None:
    """The row that a part belongs to; None where it is nobody's."""
    if by == "pool":
        return (part.machine.pool,)
    if by == "day":
        return (datetime.fromtimestamp(part.day / 1000, UTC).date().isoformat(),)
    return None if part.pod is None else tuple(str(getattr(part.pod, column)) for column in GROUPS[by])


def _order(by: By) -> Callable[[Row], tuple[Any, ...]]:
    if by == "day":
        return lambda row: row.name
    return lambda row: (-row.total.money, -row.total.held, row.name)


def _astray(pod: PodLife, told: Lives, window: Window) -> bool:
    """Whether a pod ran in the window on a machine that no event tells of."""
    if pod.placed is None or pod.machine in told.machines:
        return False
    return pod.placed < window.until and (pod.over is None or pod.over > window.since)


def _apart(parts: int, whole: int) -> float:
    return 0.0 if parts == whole else abs(parts - whole) / max(abs(whole), 1)
