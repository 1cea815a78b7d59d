"""Charts as inline SVG: no scripts, colours by class, each with a name for those who can't see it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidepool.keeper.page.html import Child, Html, tag
from tidepool.keeper.page.words import clock

WIDTH = 960
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 8, 10, 24


@dataclass(frozen=True)
class Series:
    """What is stacked: a name for the style sheet, one for people, and a value for every bar."""

    key: str
    name: str
    values: Sequence[float]


def stacked(
    labels: Sequence[str],
    series: Sequence[Series],
    name: str,
    shown: Callable[[float], str],
    on_axis: Callable[[float], str],
) -> Html:
    """Bars that are stacked; labels: of the bars, as people read them. name: what it shows, in a sentence."""
    height, count = 250.0, max(len(labels), 1)
    sums = [sum(each.values[index] for each in series) for index in range(len(labels))]
    top, ticks = scale(max(sums, default=0.0))
    across, up = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    wide = across / count
    gap = min(6.0, wide * 0.22)
    marks: list[Child] = []
    for tick in ticks:
        y = _TOP + up * (1 - tick / top)
        marks.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=_figure(y), y2=_figure(y), class_="grid"))
        marks.append(tag("text", on_axis(tick), x=_LEFT - 8, y=_figure(y + 4), class_="tick end"))
    every = math.ceil(count / 9)
    for index in range(0, len(labels), every):
        x = _LEFT + wide * (index + 0.5)
        marks.append(tag("text", labels[index], x=_figure(x), y=_figure(height - 6), class_="tick middle"))
    bars: list[Child] = []
    for index, label in enumerate(labels):
        x, base = _LEFT + wide * index + gap / 2, _TOP + up
        parts: list[Child] = []
        for each in series:
            tall = up * each.values[index] / top
            if tall > 0:
                base -= tall
                box = {"x": _figure(x), "y": _figure(base), "width": _figure(wide - gap), "height": _figure(tall)}
                parts.append(tag("rect", class_=f"s-{each.key}", **box))
        said = [f"{each.name} {shown(each.values[index])}" for each in series if each.values[index] > 0]
        hover = tag("title", f"{label}: {shown(sums[index])}" + (f" ({', '.join(said)})" if said else ""))
        bars.append(tag("g", hover, parts))
    return tag(
        "svg", marks, bars, viewBox=f"0 0 {WIDTH} {_figure(height)}", role="img", aria_label=name, class_="chart"
    )


def legend(series: Sequence[tuple[str, str, str]], kind: str = "s") -> Html:
    """What the colours mean: (key, name, what is to be said of it). kind: of class in the style sheet."""
    swatch = {"width": 12, "height": 12, "aria_hidden": "true"}
    items = [
        tag(
            "li",
            tag("svg", tag("rect", width=12, height=12, rx=3, class_=f"{kind}-{key}"), **swatch),
            name,
            tag("b", said),
        )
        for key, name, said in series
    ]
    return tag("ul", items, class_="legend")


def spark(values: Sequence[float | None], name: str) -> Html:
    """A line as large as a word."""
    wide, high = 108, 26
    known = [(index, value) for index, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return tag("span", "-", class_="faint")
    low, top = min(value for _, value in known), max(value for _, value in known)
    reach = (top - low) or 1.0
    step = (wide - 6) / (len(values) - 1)
    points = [
        (3 + step * index, high - 4 - (high - 8) * ((value - low) / reach if top > low else 0.5))
        for index, value in known
    ]
    line = tag("polyline", points=" ".join(f"{_figure(x)},{_figure(y)}" for x, y in points))
    end = tag("circle", cx=_figure(points[-1][0]), cy=_figure(points[-1][1]), r=2.5)
    box = {"viewBox": f"0 0 {wide} {high}", "width": wide, "height": high}
    return tag("svg", line, end, role="img", aria_label=name, class_="spark", **box)


def part(value: float, whole: float) -> Html:
    """A bar beside a figure in a table; for eyes only, as the figure says the same."""
    wide = 100 * value / whole if whole else 0.0
    box = tag("rect", width=_figure(max(wide, 0.5)), height=6, rx=2, class_="s-job")
    options = {"viewBox": "0 0 100 6", "preserveAspectRatio": "none"}
    return tag("svg", box, class_="part", aria_hidden="true", **options)


@dataclass(frozen=True)
class Bar:
    """A stretch of time on a row. key: for the style sheet. link: where it leads, if anywhere."""

    begin: float
    end: float
    key: str
    name: str
    label: str = ""
    lane: int = 0
    lanes: int = 1
    link: str | None = None


@dataclass(frozen=True)
class Line:
    """A row of a timeline: its name, what is said below it, its bars and its moments (time, key, name)."""

    name: str
    note: str
    bars: Sequence[Bar]
    marks: Sequence[tuple[float, str, str]] = ()
    link: str | None = None


def timeline(lines: Sequence[Line], since: float, until: float, name: str, left: int = 190) -> Html:
    """Rows of bars over one axis of time."""
    row, top = 34, 26
    height = top + row * len(lines) + 6
    across = WIDTH + 140 - left - _RIGHT
    wide = WIDTH + 140

    def at(time: float) -> float:
        return left + across * (min(max(time, since), until) - since) / (until - since)

    drawn: list[Child] = []
    step = _step(until - since)
    mark = math.ceil(since / step) * step
    while mark <= until:
        x = _figure(at(mark))
        drawn.append(tag("line", x1=x, x2=x, y1=top - 4, y2=height, class_="grid"))
        if left + 12 < at(mark) < wide - 22:
            drawn.append(tag("text", clock(mark, step), x=x, y=14, class_="tick middle"))
        mark += step
    for index, line in enumerate(lines):
        y = top + row * index
        drawn.append(_line(_within(line, since, until), y, row, at))
    return tag("svg", drawn, viewBox=f"0 0 {wide} {height}", role="group", aria_label=name, class_="chart timeline")


def _within(line: Line, since: float, until: float) -> Line:
    """Without what is not seen of it: at the edge, it would look as though it were there."""
    bars = [bar for bar in line.bars if bar.begin < until and (bar.end > since or bar.begin == bar.end == since)]
    return replace(line, bars=bars, marks=[mark for mark in line.marks if since <= mark[0] <= until])


def _line(line: Line, y: float, row: float, at: Callable[[float], float]) -> Html:
    drawn: list[Child] = [
        tag("text", _cut(line.name, 27), tag("title", line.name), x=0, y=_figure(y + 14), class_="name"),
        tag("text", _cut(line.note, 34), x=0, y=_figure(y + 27), class_="tick"),
    ]
    for bar in line.bars:
        x, end = at(bar.begin), at(bar.end)
        tall = (row - 10) / bar.lanes
        wide = max(end - x, 1.5)
        box = {"x": _figure(x), "y": _figure(y + 4 + tall * bar.lane), "width": _figure(wide), "height": _figure(tall)}
        shape: list[Child] = [tag("title", bar.name), tag("rect", rx=min(3, int(tall / 3)), class_=bar.key, **box)]
        fits = int((wide - 8) / 6.4)
        if bar.label and tall >= 11 and fits >= 3:
            place = {"x": _figure(x + 5), "y": _figure(y + 4 + tall * (bar.lane + 0.5) + 4)}
            shape.append(tag("text", _cut(bar.label, fits), class_="label", **place))
        is_link = {"href": bar.link, "aria_label": bar.name} if bar.link else {}
        drawn.append(tag("a" if bar.link else "g", shape, **is_link))
    for time, key, name in line.marks:
        x = at(time)
        points = f"{_figure(x)},{_figure(y + 2)} {_figure(x + 5)},{_figure(y - 5)} {_figure(x - 5)},{_figure(y - 5)}"
        drawn.append(tag("g", tag("title", name), tag("polygon", points=points, class_=key)))
    return tag("g", drawn)


def scale(highest: float) -> tuple[float, list[float]]:
    """The top of an axis that begins at 0, and its ticks."""
    if highest <= 0:
        return 1.0, [0.0]
    rough = highest / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * each for each in (1, 2, 2.5, 5, 10) if size * each >= rough * 0.999)
    count = math.ceil(highest / step - 1e-9)
    return step * count, [step * index for index in range(count + 1)]


def _step(length: float) -> float:
    wanted = length / 9
    steps = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800)
    return next((each for each in steps if each >= wanted), wanted)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"


def _figure(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
