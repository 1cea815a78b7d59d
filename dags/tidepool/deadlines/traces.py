"""When spot machines could be had: traces read from files, and synthetic ones from stated, seeded processes.

A trace is a list of (start, end, machines available), in seconds; between its rows there are none.
"""

from __future__ import annotations

import csv
import json
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tidepool.deadlines.priors import HOUR

COLUMNS = ("start", "end", "machines")
DAY = 24 * HOUR
DAYS = 60
"""Length of a synthetic trace."""

SHOWN = 20
"""So many problems of a file are named; a file of another kind has one on every line."""


class TraceError(Exception):
    """A trace's file can't be used; the message names each line and what is allowed there."""


class Span(NamedTuple):
    """From `start` to before `end` so many machines could be had."""

    start: float
    end: float
    machines: int


@dataclass(frozen=True)
class Trace:
    """Spans in order of time, without overlap."""

    name: str
    spans: tuple[Span, ...]

    @property
    def start(self) -> float:
        """Seconds on the trace's clock, as is `end`."""
        return self.spans[0].start

    @property
    def end(self) -> float:
        """When its last span is over."""
        return self.spans[-1].end

    @cached_property
    def changes(self) -> list[float]:
        """When a machine becomes available (even index) and when it no longer is (odd)."""
        found: list[float] = []
        for span in self.spans:
            if span.machines < 1:
                continue
            if found and found[-1] == span.start:
                found[-1] = span.end
            else:
                found += [span.start, span.end]
        return found

    @property
    def share(self) -> float:
        """The share of the time in which a machine was available."""
        changes = self.changes
        return sum(end - start for start, end in zip(changes[::2], changes[1::2], strict=True)) / (
            self.end - self.start
        )

    def at(self, time: float) -> tuple[bool, float]:
        """Whether a machine is available, and when that changes next; never again is math.inf."""
        index = bisect_right(self.changes, time)
        return index % 2 == 1, self.changes[index] if index < len(self.changes) else math.inf

    def seen(self, start: float, end: float) -> tuple[int, float]:
        """What one would have seen meanwhile: losses, and hours with machines."""
        first, last = bisect_right(self.changes, start), bisect_right(self.changes, end)
        is_there, before, seconds = first % 2 == 1, start, 0.0
        for change in (*self.changes[first:last], end):
            seconds += change - before if is_there else 0.0
            is_there, before = not is_there, change
        return sum(index % 2 for index in range(first, last)), seconds / HOUR


def always(seconds: float) -> Trace:
    """A machine at any time."""
    return Trace("always", (Span(0.0, seconds, 1),))


def synthetic(name: str, seed: int) -> Trace:
    """One of PROCESSES, from its process and the seed."""
    rng = random.Random(f"{name} {seed}")  # noqa: S311
    process, time, spans = PROCESSES[name], 0.0, list[Span]()
    while time < DAYS * DAY:
        on, off = process(rng, time)
        spans += [Span(time, time + on, 1), Span(time + on, time + on + off, 0)]
        time += on + off
    return Trace(name, tuple(spans))


def _about(rng: random.Random, hours: float) -> float:
    """Seconds with this mean: log-normal with sigma 1, so many are short and a few are long. A minute at least."""
    return max(60.0, rng.lognormvariate(math.log(hours * HOUR) - 0.5, 1.0))


def _steady(on: float, off: float) -> Callable[[random.Random, float], tuple[float, float]]:
    return lambda rng, time: (_about(rng, on), _about(rng, off))


def _daily(rng: random.Random, time: float) -> tuple[float, float]:
    hour, weekday = time % DAY / HOUR, int(time // DAY) % 7
    if weekday < 5 and 8 <= hour < 18:
        return _about(rng, 0.5), _about(rng, 2)
    until_morning = ((8 - hour) % 24) * HOUR
    return min(_about(rng, 12), until_morning + 60), _about(rng, 0.5)


def _storms(rng: random.Random, time: float) -> tuple[float, float]:
    if rng.random() < 0.1:
        return _about(rng, 24), _about(rng, 0.15)
    return _about(rng, 0.25), _about(rng, 0.15)


PROCESSES: dict[str, Callable[[random.Random, float], tuple[float, float]]] = {
    "ample": _steady(12, 1),
    "mixed": _steady(3, 2),
    "scarce": _steady(1, 4),
    "daily": _daily,
    "storms": _storms,
}
"""Seconds with and then without machines, by the time at which they start. Means in hours: ample 12 and 1; mixed 3 and
2; scarce 1 and 4; daily 0.5 and 2 in working hours, 12 and 0.5 else; storms: 24 hours of quiet in one of ten spans,
else 0.25 and 0.15. Not measured: chosen to cover the 4 to 78 % of published traces, and better days than those."""


def read(path: Path) -> Trace:
    """A trace from a file: tab- or comma-separated `start end machines`, or the JSON of the NSDI 24 paper's traces.

    Rows are in order of time; a first line with the three names and lines with # are skipped. The JSON has
    `metadata.gap_seconds` and `data`, the machines available in each gap.
    Raises TraceError with everything that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: not UTF-8 text: {error}") from error
    problems: list[str] = []
    spans = _from_json(path, text, problems) if text.lstrip()[:1] == "{" else _from_rows(path, text, problems)
    if not problems and not any(span.machines for span in spans):
        problems.append(f"{path}: has no row with a machine; rows are {', '.join(COLUMNS)}, such as 0, 3600, 1")
    if problems:
        more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise TraceError("\n".join(problems[:SHOWN] + more))
    return Trace(path.stem, tuple(spans))


def _from_json(path: Path, text: str, problems: list[str]) -> list[Span]:
    try:
        document: Any = json.loads(text)
        gap, data = document["metadata"]["gap_seconds"], document["data"]
    except json.JSONDecodeError as error:
        problems.append(f"{path}:{error.lineno}: not JSON: {error.msg}")
        return []
    except (KeyError, TypeError):
        problems.append(f"{path}: must have metadata.gap_seconds and data")
        return []
    if isinstance(gap, bool) or not isinstance(gap, (int, float)) or not 0 < gap < math.inf:
        problems.append(f"{path}: metadata.gap_seconds: must be a number above 0, not {gap!r}")
    elif not isinstance(data, list):
        problems.append(f"{path}: data: must be a list of whole numbers, not {data!r:.40}")
    else:
        for index, count in enumerate(data):
            if type(count) is not int or count < 0:
                problems.append(f"{path}: data[{index}]: must be a whole number, not negative, not {count!r}")
    return [] if problems else [Span(index * gap, (index + 1) * gap, count) for index, count in enumerate(data)]


def _from_rows(path: Path, text: str, problems: list[str]) -> list[Span]:
    spans: list[Span] = []
    for line, cells in _rows(text):
        where = f"{path}:{line}"
        if len(cells) != len(COLUMNS):
            problems.append(f"{where}: must have 3 columns ({', '.join(COLUMNS)}), by tab or comma, not {len(cells)}")
            continue
        span = _span(cells, where, problems)
        if span is None:
            continue
        if spans and span.start < spans[-1].end:
            problems.append(f"{where}: starts at {cells[0]}, before the row above it ends ({spans[-1].end:g})")
        spans.append(span)
    return spans


def _span(cells: list[str], where: str, problems: list[str]) -> Span | None:
    before = len(problems)
    numbers = []
    for name, cell in zip(COLUMNS[:2], cells[:2], strict=True):
        try:
            numbers.append(float(cell))
        except ValueError:
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            problems.append(f"{where}: {name}: must be seconds, such as 3600, not {cell!r}")
    if not cells[2].isdecimal():
        problems.append(f"{where}: machines: must be a whole number, not negative, not {cells[2]!r}")
    if len(problems) == before and numbers[1] <= numbers[0]:
        problems.append(f"{where}: end: must be after start ({cells[0]}), not {cells[1]}")
    return None if len(problems) > before else Span(numbers[0], numbers[1], int(cells[2]))


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line that says something."""
    delimiter = "\t" if "\t" in text else ","
    for line, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
        cells = [cell.strip() for cell in row]
        if any(cells) and not cells[0].startswith("#") and tuple(cell.lower() for cell in cells) != COLUMNS:
            yield line, cells
