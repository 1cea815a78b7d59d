"""A stand-in for Grafana: a dashboard's panels as one SVG, of its JSON and of what a real Prometheus answers. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.seam.prometheus import Series
from tidepool.keeper.page.charts import scale
from tidepool.keeper.page.html import Child, Html, tag

SAID = "drawn from the dashboards' JSON and a real Prometheus's answers, without Grafana"
WIDTH, _CELL, _HEAD, _GAP = 1250, 28, 54, 8
_COLUMN = WIDTH / 24
_COLOURS = (
    *("#56a64b", "#f2cc0c", "#3274d9", "#ff780a", "#e02f44"),
    *("#8f3bb8", "#37872d", "#6ed0e0", "#1f60c4", "#b877d9", "#c4162a", "#7c8797"),
)
_STYLE = (
    "html,body{margin:0;background:#f4f5f5}text{font:12px sans-serif;fill:#24292e}.head{font:500 20px sans-serif}"
    ".title{font:500 13px sans-serif}.faint{fill:#5f6770}.end{text-anchor:end}.middle{text-anchor:middle}"
    ".stat{font:500 34px sans-serif;text-anchor:middle}.grid{stroke:#e4e7eb}.limit{stroke:#e02f44;stroke-dasharray:8 5}"
    "polygon,rect{shape-rendering:crispEdges}"
)


def page(board: dict[str, Any], answers: dict[int, list[Series]], since: float, until: float) -> str:
    """HTML. answers: by a panel's id; of a stat {metric, value}, of a graph {metric, values}."""
    panels = [_panel(each, answers[each["id"]], since, until) for each in board["panels"]]
    told = tag("text", f"{_day(since)} to {_day(until)[11:]} UTC; {SAID}", x=WIDTH - 8, y=32, class_="faint end")
    title = tag("text", board["title"], x=8, y=34, class_="head")
    size = {"width": WIDTH, "height": height(board)}
    return f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>" + tag("svg", title, told, *panels, **size)


def height(board: dict[str, Any]) -> int:
    """Of the page, in pixels."""
    return _HEAD + _CELL * max(int(each["gridPos"]["y"] + each["gridPos"]["h"]) for each in board["panels"])


def legend(panel: dict[str, Any], series: Series) -> str:
    """What a series is called: the panel's format with its labels."""
    text = str(panel["targets"][0].get("legendFormat", ""))
    for label, value in series["metric"].items():
        text = text.replace("{{" + label + "}}", value)
    return text


def shown(value: float, unit: str) -> str:
    """A figure as Grafana would write it, in one of the dashboards' units. Raises KeyError for another."""
    if unit == "s":
        size, name = next((each for each in _TIMES if abs(value) >= each[0]), (1.0, "s"))
        return f"{value / size:.3g} {name}"
    before, factor, after = {"currencyUSD": ("$", 1, ""), "percentunit": ("", 100, "%"), "short": ("", 1, "")}[unit]
    value *= factor
    return f"{before}{value:.0f}{after}" if value >= 1000 else f"{before}{value:.3g}{after}"


_TIMES = ((86_400.0, "days"), (3600.0, "hours"), (60.0, "mins"), (1.0, "s"), (0.001, "ms"))


def _panel(panel: dict[str, Any], series: list[Series], since: float, until: float) -> Html:
    grid, half = panel["gridPos"], _GAP / 2
    wide, tall = grid["w"] * _COLUMN - _GAP, grid["h"] * _CELL - _GAP
    box = tag("rect", width=wide, height=tall, rx=2, fill="#fff", stroke="#dfe1e5")
    title = tag("text", panel["title"], x=10, y=20, class_="title")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    if not series:
        inside: Child = tag("text", "No data", x=wide / 2, y=tall / 2 + 6, class_="faint middle")
    elif panel["type"] == "stat":
        assert len(series) == 1, f"{panel['title']} is one figure"
        inside = tag("text", shown(float(series[0]["value"][1]), unit), x=wide / 2, y=tall / 2 + 24, class_="stat")
    else:
        inside = _graph(panel, series, since, until, wide, tall)
    at = f"translate({grid['x'] * _COLUMN + half:.1f} {_HEAD + grid['y'] * _CELL + half:.1f})"
    return tag("g", box, title, inside, transform=at)


def _graph(panel: dict[str, Any], series: list[Series], since: float, until: float, wide: float, tall: float) -> Html:
    defaults = panel["fieldConfig"]["defaults"]
    custom, unit = defaults["custom"], defaults["unit"]
    series = sorted(series, key=lambda each: legend(panel, each))
    times = sorted({at for each in series for at, _ in each["values"]})
    rows = [{at: float(value) for at, value in each["values"]} for each in series]
    limits = [step["value"] for step in defaults.get("thresholds", {}).get("steps", ()) if step["value"] is not None]
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    tops = [sum(row.get(at, 0.0) for row in rows) if stacked else max(row.get(at, 0.0) for row in rows) for at in times]
    top, ticks = scale(max(*tops, custom.get("axisSoftMax", 0.0)))
    names = [(legend(panel, each), list(row.values())) for each, row in zip(series, rows, strict=True)]
    beside = 168 + 7 * max(len(name) for name, _ in names)
    left, right, upper, lower = 72.0, wide - beside - 16, 36.0, tall - 26

    def x(at: float) -> float:
        return left + (at - since) / (until - since) * (right - left)

    def y(value: float) -> float:
        return lower - value / top * (lower - upper)

    drawn: list[Child] = []
    for tick in ticks:
        drawn.append(tag("line", x1=left, x2=right, y1=y(tick), y2=y(tick), class_="grid"))
        drawn.append(tag("text", shown(tick, unit), x=left - 6, y=y(tick) + 4, class_="faint end"))
    every = 1 if (right - left) / (until - since) * 3600 > 48 else 2
    for hour in range(int(since // 3600) + 1, int(until // 3600) + 1, every):
        drawn.append(tag("text", _day(hour * 3600.0)[11:], x=x(hour * 3600.0), y=lower + 18, class_="faint middle"))
    floor = dict.fromkeys(times, 0.0)
    for number, row in enumerate(rows):
        upto = {at: row.get(at, 0.0) + floor[at] for at in times} if stacked else row
        drawn += (
            _bars(upto, floor, x, y, number)
            if custom["drawStyle"] == "bars"
            else _lines(upto, floor, x, y, number, custom)
        )
        floor = upto if stacked else floor
    drawn += [
        tag("line", x1=left, x2=right, y1=y(limit), y2=y(limit), class_="limit") for limit in limits if limit <= top
    ]
    return tag("g", drawn, _table(names, panel["options"]["legend"]["calcs"], unit, wide, beside))


def _lines(upto: dict[float, float], floor: dict[float, float], x: Any, y: Any, number: int, custom: Any) -> list[Html]:
    """A line with a break wherever a point is missing, and what is under it."""
    colour, found, run = _COLOURS[number % len(_COLOURS)], [], []
    times = list(upto)
    usual = min((b - a for a, b in itertools.pairwise(times)), default=0.0)
    for index, at in enumerate(times):
        run.append(at)
        if index + 1 == len(times) or times[index + 1] - at > usual * 1.5:
            line = " ".join(f"{x(each):.1f},{y(upto[each]):.1f}" for each in run)
            back = " ".join(f"{x(each):.1f},{y(floor.get(each, 0.0)):.1f}" for each in reversed(run))
            found.append(tag("polygon", points=f"{line} {back}", fill=colour, opacity=custom["fillOpacity"] / 100))
            found.append(tag("polyline", points=line, fill="none", stroke=colour, stroke_width=custom["lineWidth"]))
            run = []
    return found


def _bars(upto: dict[float, float], floor: dict[float, float], x: Any, y: Any, number: int) -> list[Html]:
    times = list(floor)
    wide = max(x(times[1]) - x(times[0]) - 1, 1) if len(times) > 1 else 4
    return [
        tag(
            "rect",
            x=f"{x(at) - wide / 2:.1f}",
            y=f"{y(value):.1f}",
            width=f"{wide:.1f}",
            height=f"{y(floor[at]) - y(value):.1f}",
            fill=_COLOURS[number % len(_COLOURS)],
        )
        for at, value in upto.items()
        if value > floor[at]
    ]


def _table(
    names: Sequence[tuple[str, list[float]]], calcs: Sequence[str], unit: str, wide: float, beside: float
) -> list[Html]:
    """The legend: each series with what the panel wants to be said of its values."""
    left, places = wide - beside, (wide - 82, wide - 10)
    found = []
    for calc, at in zip(calcs, places, strict=True):
        name, reduced = _CALCS[calc]
        found.append(tag("text", name, x=at, y=36, class_="faint end"))
        found += [
            tag("text", shown(reduced(values), unit), x=at, y=54 + 17 * number, class_="end")
            for number, (_, values) in enumerate(names)
        ]
    for number, (name, _) in enumerate(names):
        y = 54 + 17 * number
        found.append(tag("rect", x=left, y=y - 6, width=12, height=4, fill=_COLOURS[number % len(_COLOURS)]))
        found.append(tag("text", name, x=left + 18, y=y))
    return found


_CALCS: dict[str, tuple[str, Callable[[list[float]], float]]] = {
    "lastNotNull": ("Last", lambda values: values[-1]),
    "max": ("Max", max),
    "sum": ("Total", sum),
}


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
