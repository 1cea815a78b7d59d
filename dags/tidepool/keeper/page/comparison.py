"""Against a cluster of the peak's size that is always there, with what that assumes."""

from __future__ import annotations

from tidepool.keeper.page import charts, queries, words
from tidepool.keeper.page.html import Html, join, tag
from tidepool.keeper.page.layout import Asked, Column, Page, card, empty, heading, periods, table, tiles
from tidepool.keeper.page.queries import Peak, Sum

ASSUMPTIONS = (
    "The cluster that is always there has the machines of the dearest moment of the period, all on demand, at list "
    "prices, for every hour since the first of the period's machines came. It needs no more than that, and is never "
    "late for lack of a machine.",
    "Nobody scales it at night by hand, and no reservation or savings plan makes it cheaper; with a discount of d, "
    "compare with (1 - d) of its price.",
    "Machines of the system pool are needed either way and stand on neither side.",
    "Volumes count where the machines' events state them; transfer, the control plane and tax are on neither side.",
    "On demand, only while needed: the hours of the machines that were there, at their on-demand prices. What lies "
    "between that and always-on is the schedule's saving; what lies between it and the bill is spot's.",
)


def page(asked: Asked) -> Page:
    """24x7 against what was bought."""
    head = heading("Against 24x7", str(asked.period), periods(asked, "comparison"))
    peak = queries.peak(asked.connection, asked.period, asked.now)
    if peak is None:
        return Page("24x7", "comparison", join(head, empty("No machine was there for jobs", "Choose another period.")))
    cost, on_demand = queries.bought(asked.connection, asked.period)
    length = min(asked.period.until, asked.now) - peak.since
    always = peak.usd_per_hour * length / 3600
    return Page(
        "24x7",
        "comparison",
        join(
            head,
            tiles(
                ("Always on", words.usd(always), f"{words.usd(peak.usd_per_hour)} an hour for {words.span(length)}"),
                ("Bought", words.cost(cost), f"{words.hours(cost.seconds)} machine-hours"),
                ("Saved", words.share(always - (cost.usd or 0), always) if cost.usd is not None else words.UNKNOWN,
                 words.usd(always - cost.usd) if cost.usd is not None else "a price is unknown"),
                ("Peak", f"{sum(count for _, _, count in peak.machines):,} machines", words.moment(peak.moment)),
            ),
            card(_bars(always, on_demand, cost)),
            tag("div", card(_peak(peak)), card(_assumptions(peak, cost)), class_="two"),
        ),
    )  # fmt: skip


def _bars(always: float, on_demand: float, cost: Sum) -> Html:
    whole = max(always, on_demand, cost.usd or 0.0)
    lines = (
        ("Always on", always, "the peak's machines, on demand, all the time"),
        ("On demand, only while needed", on_demand, "the same hours as were bought"),
        ("Bought", cost.usd, "the bill of the machines for jobs"),
    )
    rows = [
        [
            join(name, tag("small", said)),
            words.usd(usd),
            words.share(usd, always),
            tag("div", charts.part(usd or 0.0, whole), class_="wide"),
        ]
        for name, usd, said in lines
    ]
    unseen = tag("span", "Bar", class_="unseen")
    caption = join(tag("h2", "Where the saving comes from"), "USD in the period")
    return table([Column("Cluster"), Column("USD", True), Column("Of always on", True), Column(unseen)], rows, caption)


def _peak(peak: Peak) -> Html:
    rows = [[join(pool, tag("small", kind)), f"{count:,}"] for pool, kind, count in peak.machines]
    caption = join(tag("h2", "The peak"), f"Machines for jobs at {words.moment(peak.moment)}")
    return table([Column("Pool"), Column("Machines", True)], rows, caption)


def _assumptions(peak: Peak, cost: Sum) -> Html:
    said = list(ASSUMPTIONS)
    if peak.unknown:
        said.append(f"{peak.unknown:,} machines have no known on-demand price: always-on is dearer than shown.")
    if cost.unpriced:
        said.append(f"{words.hours(cost.unpriced)} machine-hours that were bought have no known price.")
    return join(tag("h2", "What this assumes"), tag("ul", (tag("li", each) for each in said), class_="say"))
