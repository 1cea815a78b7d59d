"""The machines over time, with the jobs that were on them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from tidepool.keeper.page import charts, queries, words
from tidepool.keeper.page.charts import Bar, Line
from tidepool.keeper.page.html import Html, href, join, tag
from tidepool.keeper.page.layout import Asked, Column, Page, card, empty, figure, heading, leaf, table
from tidepool.keeper.page.queries import Machine, Pod
from tidepool.ledger.attribution import SYSTEM_POOLS

SIZE = 25
HOURS = {3: "3 hours", 12: "12 hours", 24: "a day", 72: "3 days", 168: "a week"}
_FIRST, _LAST = 100 * 86_400.0, 2e11  # so that what lies before and after has a name too
_MOST_MACHINES, _MOST_PODS, _MOST_LANES = 1200, 2500, 8


def page(asked: Asked) -> Page:
    """The machines that were there in some hours."""
    length = asked.number("hours", 1, 24 * 31, 12)
    until = _until(asked)
    since = until - 3600 * length
    drawn, count = queries.machines(asked.connection, since, until, _MOST_MACHINES, 0)
    said = f"{words.moment(since)[:16]} to {words.moment(until)[:16]}: {count:,} machine{'' if count == 1 else 's'}"
    head = heading("Machines and their jobs", said, _controls(asked, until, length))
    if not drawn:
        return Page("Machines", "machines", join(head, empty("No machine was there", "Look at another time.")))
    pods = queries.pods_on(asked.connection, [each.machine for each in drawn], since, until, _MOST_PODS)
    name = f"Timeline of {len(drawn)} machines with the jobs on them, {said.split(': ')[0]}"
    chart = charts.timeline(_lines(asked, drawn, pods, until), since, until, name)
    cut = []
    if count > len(drawn):
        cut.append(f"Only the first {len(drawn):,} machines are drawn: look at fewer hours.")
    if len(pods) == _MOST_PODS:
        cut.append(f"Only the first {_MOST_PODS:,} jobs are drawn: look at fewer hours.")
    note = "A row is as many machines, one after another; a pool has as many rows as it had machines at once"
    first = SIZE * (asked.number("page", 1, 10**6, 1) - 1)
    some = drawn[first : first + SIZE]
    if count > len(drawn):
        some, _ = queries.machines(asked.connection, since, until, SIZE, first)
    at = {"until": _written(until), "hours": str(length)}
    body = join(
        head,
        figure("Timeline", note, chart, join(_legend(), *(tag("p", each) for each in cut))),
        card(_table(some), leaf(asked, "machines", SIZE, count, **at)),
    )
    return Page("Machines", "machines", body)


def _until(asked: Asked) -> float:
    """The end that was asked for; else now, or the last that is known where nothing is known of now."""
    given = asked.query.get("until", "")
    try:
        asked_for = datetime.fromisoformat(given)
        moment = (asked_for if asked_for.tzinfo else asked_for.replace(tzinfo=UTC)).timestamp()
        if not _FIRST <= moment < _LAST:
            raise ValueError
        return moment
    except (ValueError, OverflowError):
        last = queries.last_moment(asked.connection)
        return asked.now if last is None or last > asked.now - 86_400 else last


def _controls(asked: Asked, until: float, length: int) -> Html | None:
    if asked.is_file:
        return None

    def link(name: str, at: float, hours: int, current: bool = False) -> Html:
        address = href("machines", until=_written(at), hours=hours)
        return tag("li", tag("a", name, href=address, aria_current="true" if current else None))

    lengths = tag("ul", (link(name, until, hours, hours == length) for hours, name in HOURS.items()), class_="presets")
    step = 3600 * length
    moves = tag("ul", link("← earlier", until - step, length), link("later →", until + step, length), class_="presets")
    form = tag(
        "form",
        tag("input", type="hidden", name="hours", value=length),
        tag("label", "Until (UTC)", tag("input", type="datetime-local", name="until", value=_written(until))),
        tag("button", "Show"),
        action="machines",
        aria_label="Time",
    )
    return tag("div", lengths, moves, form, class_="controls")


def _written(time: float) -> str:
    return words.moment(time)[:16].replace(" ", "T")


def _lines(asked: Asked, machines: Sequence[Machine], pods: Sequence[Pod], until: float) -> list[Line]:
    """The rows of each pool: every machine in the first one that is free."""
    of_machine: dict[str, list[Pod]] = {}
    for pod in pods:
        of_machine.setdefault(pod.machine, []).append(pod)
    rows: dict[str, list[tuple[float, list[Machine]]]] = {}
    for machine in machines:
        taken = rows.setdefault(machine.pool, [])
        free = next((number for number, (end, _) in enumerate(taken) if end <= machine.started), len(taken))
        before = taken[free][1] if free < len(taken) else []
        taken[free : free + 1] = [(machine.gone or until, [*before, machine])]
    found = []
    for pool, taken in sorted(rows.items()):
        for number, (_, those) in enumerate(taken):
            bars: list[Bar] = []
            marks: list[tuple[float, str, str]] = []
            for machine in those:
                bars += _life(asked, machine, of_machine.get(machine.machine, []), until)
                if machine.reclaimed:
                    marks.append((machine.reclaimed, "b-mark", f"{machine.machine}: notice that it is reclaimed"))
            kinds = ", ".join(sorted({each.instance_type for each in those}))
            note = f"{len(those)} × {kinds}" if len(those) > 1 else kinds  # noqa: RUF001 - as people write it
            found.append(Line(pool if number == 0 else "", note, bars, marks))
    return found


def _life(asked: Asked, machine: Machine, pods: Sequence[Pod], until: float) -> list[Bar]:
    end = machine.gone or until
    ready = min(machine.ready if machine.ready is not None else end, end)
    there = f"{words.moment(machine.started)} to {words.moment(machine.gone) if machine.gone else 'now'}"
    kind = "b-system" if machine.pool in SYSTEM_POOLS else "b-life"
    bars = [Bar(machine.started, end, kind, f"{machine.machine}: {there}, {words.cost(machine.cost)}")]
    if machine.started < ready:
        bars.append(Bar(machine.started, ready, "b-boot", f"Boot: {words.span(ready - machine.started)}"))
    lanes = _lanes(pods, end)
    count = min(max((lane for _, lane in lanes), default=0) + 1, _MOST_LANES)
    for pod, lane in lanes:
        bars += _bars(asked, pod, min(lane, count - 1), count, end)
    return bars


def _bars(asked: Asked, pod: Pod, lane: int, lanes: int, end: float) -> list[Bar]:
    placed, over = pod.placed or 0.0, pod.ended if pod.ended is not None else end
    started = min(pod.started if pod.started is not None else over, over)
    link = asked.address("job", dag=pod.dag, task=pod.task, run=pod.run)
    title = f"{pod.dag}.{pod.task}" if pod.dag else pod.pod
    ran = "not over" if pod.ended is None else words.cause(pod.cause)
    name = f"{title}, attempt {pod.attempt}: {ran}, {words.span(over - placed)}, {words.usd(pod.usd)}"
    key = "b-run" if pod.ended is None else "b-ok" if pod.cause == "ok" else "b-bad"
    waited = [Bar(placed, started, "b-pull", f"{title}: image pull", "", lane, lanes)] if started > placed else []
    return [*waited, Bar(started, over, key, name, title, lane, lanes, link)]


def _lanes(pods: Sequence[Pod], end: float) -> list[tuple[Pod, int]]:
    """Pods side by side where they were there at the same time."""
    free: list[float] = []
    found = []
    for pod in pods:
        over = pod.ended if pod.ended is not None else end
        lane = next((number for number, since in enumerate(free) if since <= (pod.placed or 0.0)), len(free))
        free[lane : lane + 1] = [over]
        found.append((pod, lane))
    return found


def _legend() -> Html:
    kinds = (("ok", "job, ended well"), ("bad", "job, failed"), ("run", "job, running"), ("pull", "image pull"))
    more = (("boot", "boot"), ("life", "idle"), ("system", "system"), ("mark", "▼ reclaim notice"))
    return charts.legend([(key, name, "") for key, name in (*kinds, *more)], "b")


def _table(found: Sequence[Machine]) -> Html:
    columns = [
        *(Column("Machine"), Column("Pool"), Column("Market"), Column("From"), Column("To")),
        *(Column("There", True), Column("Jobs", True), Column("USD", True)),
    ]
    rows = [
        [
            join(each.machine, tag("small", f"{each.instance_type} {each.zone}")),
            *(each.pool, each.market, words.moment(each.started)),
            words.moment(each.gone) if each.gone else "still there",
            words.span((each.gone or 0) - each.started) if each.gone else "-",
            *(f"{each.jobs:,}", words.cost(each.cost)),
        ]
        for each in found
    ]
    return table(columns, rows, join(tag("h2", "The same as a table"), "Cost of its whole life"))
