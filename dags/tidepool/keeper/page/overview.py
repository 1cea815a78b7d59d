"""The first page: what was spent, day by day, on which machines and for what."""

from __future__ import annotations

from collections.abc import Iterable

from tidepool.keeper.page import charts, queries, words
from tidepool.keeper.page.charts import Series
from tidepool.keeper.page.html import Child, Html, join, tag
from tidepool.keeper.page.layout import (
    Asked,
    Column,
    Page,
    as_table,
    card,
    empty,
    figure,
    heading,
    periods,
    table,
    tiles,
)
from tidepool.keeper.page.queries import Sum

_TOP = 8
_MARKETS = {"spot": "Spot", "on-demand": "On demand"}


def page(asked: Asked) -> Page:
    """The overview."""
    spent = queries.daily(asked.connection, asked.period)
    head = heading("What it cost", str(asked.period), periods(asked, "./"))
    if not spent:
        hint = "Choose another period, or run a DAG: the books are a few seconds behind what happens."
        return Page("Overview", "./", join(head, _now(asked), empty("No machine was there in this period", hint)))
    markets = sorted({market for _, market, _ in spent}, key=lambda name: (name not in _MARKETS, name != "spot", name))
    by_market = [(name if name in _MARKETS else "other", _MARKETS.get(name, name or "Unknown")) for name in markets]
    return Page(
        "Overview",
        "./",
        join(
            head,
            _tiles(asked, spent),
            _chart(asked, spent, 1, list(zip(markets, by_market, strict=True)), "Cost by market", "by market"),
            _chart(
                asked,
                spent,
                2,
                [(name, (name, title)) for name, title in words.CATEGORIES.items()],
                "Cost by what it was for",
                "by class",
                words.MEANINGS,
            ),
            tag("div", (_shares(asked, by) for by in ("dag", "team", "pool")), class_="three"),
            card(_counted(asked)),
        ),
    )


def _counted(asked: Asked) -> Html:
    """What the costs are of, and what they are not of."""
    billing = queries.billing(asked.connection)
    least = f", each for {billing.minimum_seconds} s at least, as its cloud bills it" if billing.minimum_seconds else ""
    lacking = "" if billing.minimum_seconds else ", and that a cloud may bill a machine for a minute at least"
    size = f"; {billing.volume_gib:g} GiB where it is not" if billing.volume_gib else ""
    said = (
        f"In it: machines while they were there{least}, at the price of their type, market and zone at that time; the "
        f"volumes that came with them where their size is known{size} (gp3, {words.usd(billing.usd_per_gib_month)} a "
        "GiB and month).",
        f"Left out: all other volumes (EBS), such as those of claims, of stopped machines and snapshots; data transfer "
        f"and NAT; load balancers; the control plane; tax{lacking}.",
    )
    return join(tag("h2", "What this counts"), tag("ul", (tag("li", each) for each in said), class_="say"))


def _tiles(asked: Asked, spent: dict[tuple[str, str, str], Sum]) -> Html:
    whole = _added(spent.values())
    jobs = _added(cost for key, cost in spent.items() if key[2] == "job")
    before = queries.total(asked.connection, asked.period.before)
    ends = queries.ends(asked.connection, asked.period)
    over = sum(count for name, count in ends.items() if name)
    failed = over - ends.get("ok", 0)
    worst = sorted(((count, name) for name, count in ends.items() if name not in ("", "ok")), reverse=True)[:1]
    compared = f"{words.change(whole.usd, before.usd)} to the period before" if before.usd else "nothing before it"
    unpriced = f"no price for {words.hours(whole.unpriced)} machine-hours" if whole.unpriced else ""
    return tiles(
        ("Cost", words.cost(whole), unpriced or compared),
        ("Held by jobs", words.share(jobs.seconds, whole.seconds), f"of {words.hours(whole.seconds)} machine-hours"),
        ("Attempts", f"{over:,}", f"{ends.get('', 0):,} not over"),
        ("Failed", words.share(failed, over), f"most: {words.cause(worst[0][1])}" if worst else "none"),
        *_now_tiles(asked),
    )


def _now(asked: Asked) -> Html:
    return tiles(*_now_tiles(asked))


def _now_tiles(asked: Asked) -> list[tuple[str, Child, Child]]:
    there = queries.now(asked.connection)
    price = f"{words.usd(there.usd_per_hour)} an hour" + (f", {there.unpriced} of unknown price" * bool(there.unpriced))
    machines = f"{there.machines:,} machine{'' if there.machines == 1 else 's'}"
    return [("Now", machines, f"{price}; {there.running:,} jobs run, {there.waiting:,} wait")]


def _chart(
    asked: Asked,
    spent: dict[tuple[str, str, str], Sum],
    place: int,
    kinds: list[tuple[str, tuple[str, str]]],
    title: str,
    said: str,
    meanings: dict[str, str] | None = None,
) -> Html:
    period = asked.period
    days = [each.isoformat() for each in period.steps()]
    sums = {name: [Sum()] * len(days) for name, _ in kinds}
    for key, cost in spent.items():
        row, bar = sums[key[place]], period.bar(key[0])
        row[bar] = row[bar] + cost
    there = [(name, shown) for name, shown in kinds if any(each.seconds for each in sums[name])]
    series = [Series(key, name, [each.usd or 0.0 for each in sums[kind]]) for kind, (key, name) in there]
    unit = "day" if period.step == 1 else "week"
    labels = [words.day(day) if period.step == 1 else f"week from {words.day(day)}" for day in days]
    axis = [words.day(day) for day in days] if period.step == 1 else labels
    totals = {kind: _added(sums[kind]) for kind, _ in there}
    whole = _added(totals.values())
    name = f"{title}: cost in USD of each {unit}, stacked {said}; {words.cost(whole)} in all"
    chart = charts.stacked([each.removeprefix("week from ") for each in axis], series, name, words.usd, words.tick)
    legend = charts.legend(
        [
            (key, name, f"{words.cost(totals[kind])} ({words.share(totals[kind].usd, whole.usd)})")
            for kind, (key, name) in there
        ]
    )
    rows = [
        [
            label,
            *(words.cost(sums[kind][number]) for kind, _ in there),
            words.cost(_added(sums[kind][number] for kind, _ in there)),
        ]
        for number, label in enumerate(labels)
        for row in [[sums[kind][number] for kind, _ in there]]
    ]
    columns = [Column(unit.capitalize()), *(Column(name, True) for _, (_, name) in there), Column("All", True)]
    sentence = f"USD a {unit}"
    explained: Child = None
    if meanings:
        lines = ((tag("dt", shown[1]), tag("dd", meanings[kind])) for kind, shown in there)
        explained = tag("details", tag("summary", "What the classes mean"), tag("dl", lines, class_="facts"))
    return figure(title, sentence, chart, join(legend, explained, as_table(columns, rows, f"{title}, USD a {unit}")))


def _shares(asked: Asked, by: str) -> Html | None:
    found, count = queries.shares(asked.connection, asked.period, by, _TOP)
    if not found:
        return None
    names = {"dag": "DAG", "team": "Team", "pool": "Pool"}
    highest = max((cost.usd or 0.0) for _, cost in found)
    rows = [
        [
            asked.link(name or f"(no {names[by]})", "jobs", search=name) if by != "pool" and name else name or "(none)",
            words.cost(cost),
            words.hours(cost.seconds),
            charts.part(cost.usd or 0.0, highest),
        ]
        for name, cost in found
    ]
    more = f"The dearest {len(found)} of {count:,}. " if count > len(found) else ""
    what = "all of their machines" if by == "pool" else "what their jobs held of machines"
    caption = join(tag("h2", f"By {names[by]}" if by == "dag" else f"By {by}"), f"{more}{what.capitalize()}")
    columns = [
        Column(names[by]),
        Column("USD", True),
        Column("Hours", True),
        Column(tag("span", "Bar", class_="unseen")),
    ]
    return card(table(columns, rows, caption))


def _added(sums: Iterable[Sum]) -> Sum:
    whole = Sum()
    for each in sums:
        whole = whole + each
    return whole
