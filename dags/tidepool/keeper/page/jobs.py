"""The jobs: which take and waste most, how each has moved, and every attempt of one."""

from __future__ import annotations

from collections.abc import Sequence

from tidepool.keeper.page import charts, queries, words
from tidepool.keeper.page.charts import Bar, Line, Series
from tidepool.keeper.page.html import Html, join, tag
from tidepool.keeper.page.layout import (
    Asked,
    Column,
    Page,
    as_table,
    badge,
    card,
    empty,
    figure,
    heading,
    leaf,
    periods,
    table,
    tiles,
)
from tidepool.keeper.page.queries import Order, Pod, Sum, Task

SIZE = 25
_MOST_PODS = 200
_LONGEST_SEARCH = 200
ORDERS: dict[Order, str] = {"waste": "most wasteful", "cost": "dearest", "time": "slowest"}
WASTE = (
    "Waste is what was paid for attempts that came to nothing, and for good ones the part of what they asked for that "
    "they did not use (CPU or memory, whichever they used more of), where the keeper measured that."
)


def page(asked: Asked) -> Page:
    """The tasks that cost, take or waste most."""
    order: Order = next((each for each in ORDERS if each == asked.query.get("order")), "waste")
    search = asked.query.get("search", "")[:_LONGEST_SEARCH]
    offset = SIZE * (asked.number("page", 1, 10**6, 1) - 1)
    found, count = queries.tasks(asked.connection, asked.period, order, search, SIZE, offset)
    said = f"{asked.period}: {count:,} task{'' if count == 1 else 's'}, the {ORDERS[order]} first"
    head = heading("Jobs", said, periods(asked, "jobs", order=order, search=search))
    kept = {"order": order, "search": search}
    body = [head, _choices(asked, order, search)]
    if found:
        body.append(card(_tasks(asked, found, order, search), leaf(asked, "jobs", SIZE, count, **kept)))
    else:
        body.append(empty("No job was queued", "In this period, or none of that name."))
    return Page("Jobs", "jobs", join(*body, tag("p", WASTE, class_="sub say")))


def _choices(asked: Asked, order: Order, search: str) -> Html | None:
    if asked.is_file:
        return None
    links = []
    for key, name in ORDERS.items():
        address = asked.address("jobs", order=key, search=search)
        current = "true" if key == order else None
        links.append(tag("li", tag("a", name.capitalize(), href=address, aria_current=current)))
    hidden = (
        tag("input", type="hidden", name=key, value=value)
        for key, value in {"order": order, **asked.period.query}.items()
    )
    field = tag("input", type="search", name="search", value=search, maxlength=_LONGEST_SEARCH)
    form = tag(
        "form", hidden, tag("label", "DAG, task or team", field), tag("button", "Search"), action="jobs", role="search"
    )
    return tag("div", tag("ul", links, class_="presets", aria_label="Order"), form, class_="controls head")


def _tasks(asked: Asked, found: Sequence[Task], order: Order, search: str) -> Html:
    moved = queries.trends(asked.connection, asked.period, [(each.dag, each.task) for each in found])

    def column(title: str, key: Order) -> Column:
        link = asked.link(title, "jobs", f"{title}: sort by it", order=key, search=search)
        return Column(link, True, "descending" if key == order else None)

    rows = []
    for each in found:
        trend = moved[(each.dag, each.task)]
        name = f"{each.dag}.{each.task}" if each.dag else each.task or "(no owner)"
        rows.append(
            [
                join(asked.link(name, "task", dag=each.dag, task=each.task), tag("small", each.team)),
                *(f"{each.runs:,}", f"{each.failed:,}" if each.failed else "0"),
                join(words.span(each.mean), tag("small", f"longest {words.span(each.longest)}")),
                words.usd(each.usd),
                join(words.usd(each.waste), tag("small", words.share(each.waste, each.usd))),
                _trend(trend),
            ]
        )
    columns = [
        *(Column("Task"), Column("Runs", True), Column("Failed", True), column("Duration", "time")),
        *(column("USD", "cost"), column("Waste", "waste"), Column("USD a run, over time")),
    ]
    return table(columns, rows, f"Tasks, the {ORDERS[order]} first; durations are those of an attempt")


def _trend(values: Sequence[float | None]) -> Html:
    known = [value for value in values if value is not None]
    if len(known) < 3:
        return tag("span", "-", class_="faint")
    third = max(1, len(known) // 3)
    said = words.change(sum(known[-third:]) / third, sum(known[:third]) / third)
    name = f"A run's cost, from its first to its last third: {said}"
    return join(charts.spark(values, name), tag("small", said))


def task(asked: Asked) -> Page:
    """One task: what it cost day by day, and its runs."""
    dag, name = asked.query.get("dag", ""), asked.query.get("task", "")
    offset = SIZE * (asked.number("page", 1, 10**6, 1) - 1)
    found, count = queries.runs(asked.connection, asked.period, dag, name, SIZE, offset)
    title = f"{dag}.{name}" if dag else name or "(no owner)"
    said = f"{asked.period}: {count:,} run{'' if count == 1 else 's'}"
    crumbs = asked.link("Jobs", "jobs")
    head = heading(title, said, periods(asked, "task", dag=dag, task=name), crumbs)
    if not found:
        return Page(title, "jobs", join(head, empty("It did not run", "Choose another period.")))
    rows = [
        [
            asked.link(run or "(no run)", "job", dag=dag, task=name, run=run),
            *(words.moment(queued), words.span(length) if length is not None else "not over"),
            *(f"{attempts:,}", f"{failed:,}", words.usd(usd)),
        ]
        for run, queued, length, attempts, failed, usd in found
    ]
    columns = [
        *(Column("Run"), Column("Queued"), Column("Took", True)),
        *(Column("Attempts", True), Column("Failed pods", True), Column("USD", True)),
    ]
    runs = card(
        table(columns, rows, join(tag("h2", "Runs"), "The newest first; from queued to the end of the last attempt")),
        leaf(asked, "task", SIZE, count, dag=dag, task=name),
    )
    return Page(title, "jobs", join(head, _days(asked, dag, name, title), runs))


def _days(asked: Asked, dag: str, name: str, title: str) -> Html:
    spent, period = queries.daily_of(asked.connection, asked.period, dag, name), asked.period
    days = [each.isoformat() for each in period.steps()]
    kinds = [key for key in words.CATEGORIES if any(category == key for _, category in spent)]
    sums = {key: [Sum()] * len(days) for key in kinds}
    for (day, key), cost in spent.items():
        bar = period.bar(day)
        sums[key][bar] = sums[key][bar] + cost
    unit = "day" if period.step == 1 else "week"
    series = [Series(key, words.CATEGORIES[key], [each.usd or 0.0 for each in sums[key]]) for key in kinds]
    chart = charts.stacked(
        [words.day(day) for day in days], series, f"Cost of {title} a {unit}, USD", words.usd, words.tick
    )
    totals = [(each.key, each.name, words.usd(sum(each.values))) for each in series]
    columns = [Column(unit.capitalize()), *(Column(words.CATEGORIES[key], True) for key in kinds)]
    rows = [[words.day(day), *(words.cost(sums[key][number]) for key in kinds)] for number, day in enumerate(days)]
    below = join(charts.legend(totals), as_table(columns, rows, f"Cost a {unit}, USD"))
    return figure("Cost over time", f"USD a {unit}", chart, below)


def job(asked: Asked) -> Page:
    """One run of a task: its attempts, where they ran and why they ended."""
    dag, name, run = (asked.query.get(key, "") for key in ("dag", "task", "run"))
    found = queries.pods(asked.connection, dag, name, run, _MOST_PODS)
    title = f"{dag}.{name}" if dag else name or "(no owner)"
    crumbs = join(asked.link("Jobs", "jobs"), " / ", asked.link(title, "task", dag=dag, task=name))
    if not found:
        said = "The books have no pod of this run."
        return Page(title, "jobs", join(heading(title, run, None, crumbs), empty("Nothing is known", said)))
    starts = [pod.queued for pod in found if pod.queued is not None]
    ends = [pod.ended if pod.ended is not None else asked.now for pod in found]
    since, until = min(starts, default=min(ends)), max(ends)
    held = [pod.usd for pod in found if pod.usd is not None]
    failed = sum(pod.cause not in ("ok", "") for pod in found)
    lost = sum(pod.usd or 0.0 for pod in found if pod.cause not in ("ok", ""))
    attempts = len({pod.attempt for pod in found})
    chart = charts.timeline([_attempt(pod, until) for pod in found], since, until + 1, f"Attempts of {title}")
    kinds = [("wait", "waits for a machine", ""), ("pull", "image pull", ""), ("ok", "runs", ""), ("bad", "failed", "")]
    legend = charts.legend(kinds, "b")
    cut = f" Only the first {_MOST_PODS} pods are shown." if len(found) == _MOST_PODS else ""
    return Page(
        title,
        "jobs",
        join(
            heading(title, run or "(no run)", None, crumbs),
            _tiles(attempts, len(found), failed, until - since, sum(held) if held else None, lost),
            figure("Attempts over time", "From queued to the end." + cut, chart, legend),
            card(_pods(found)),
        ),
    )


def _tiles(attempts: int, pods: int, failed: int, took: float, usd: float | None, lost: float) -> Html:
    """A job at a glance."""
    return tiles(
        ("Attempts", f"{attempts:,}", f"{pods:,} pod{'' if pods == 1 else 's'}"),
        ("Failed pods", f"{failed:,}", f"{words.usd(lost)} lost on them"),
        ("Took", words.span(took), "from queued to the end"),
        ("Cost", words.usd(usd), "its share of its machines"),
    )


def _attempt(pod: Pod, until: float) -> Line:
    queued = pod.queued if pod.queued is not None else pod.placed or 0.0
    over = pod.ended if pod.ended is not None else until
    placed = min(pod.placed if pod.placed is not None else over, over)
    started = min(pod.started if pod.started is not None else over, over)
    key = "b-run" if pod.ended is None else "b-ok" if pod.cause == "ok" else "b-bad"
    bars = [
        Bar(queued, placed, "b-wait", f"Waited {words.span(placed - queued)} for a machine"),
        Bar(placed, started, "b-pull", f"Image pull and start: {words.span(started - placed)}"),
        Bar(started, over, key, f"{words.cause(pod.cause)} after {words.span(over - started)}", words.cause(pod.cause)),
    ]
    return Line(f"Attempt {pod.attempt}", pod.pod, [bar for bar in bars if bar.end > bar.begin])


def _pods(found: Sequence[Pod]) -> Html:
    rows = []
    for pod in found:
        waited = None if pod.queued is None or pod.started is None else pod.started - pod.queued
        ran = None if pod.ended is None or pod.started is None else pod.ended - pod.started
        cores = None if pod.cpu_seconds_used is None or not ran else pod.cpu_seconds_used / ran
        busy = "not measured" if cores is None else f"{cores:.1f} busy"
        kind = " · ".join(filter(None, (pod.instance_type, pod.pool, pod.market)))
        used = "not measured" if pod.memory_peak_bytes is None else f"{words.memory(pod.memory_peak_bytes)} at most"
        rows.append(
            [
                join(f"{pod.attempt}", tag("small", pod.pod)),
                tag("div", badge(pod.cause), tag("small", pod.message), class_="why"),
                join(
                    pod.machine or "none yet",
                    tag("small", kind),
                ),
                join(words.moment(pod.queued), tag("small", f"waited {words.span(waited)}")),
                words.span(ran),
                join(words.memory(pod.memory_bytes), tag("small", used)),
                join(
                    f"{pod.cpu_millis / 1000:g} cores",
                    tag("small", busy),
                ),
                words.usd(pod.usd),
            ]
        )
    columns = [
        *(Column("Attempt"), Column("End"), Column("Machine"), Column("Queued"), Column("Ran", True)),
        *(Column("Memory", True), Column("CPU", True), Column("USD", True)),
    ]
    return table(columns, rows, join(tag("h2", "Attempts"), "What each asked for and used, and why it ended"))
