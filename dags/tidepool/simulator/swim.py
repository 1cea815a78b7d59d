"""Workload traces of the SWIM suite, such as FB-2009: one job a line, bytes and no runtimes. Read, and made into jobs.

Columns, by tab: job, submit time and gap to the job before (s), map input, shuffle and reduce output (bytes); a seventh
column, paths, is passed over. `fb-2009-0.tsv` is the sample of 5,894 jobs that the suite published (`LICENSE` beside
it; New BSD).
"""

from __future__ import annotations

import math
from pathlib import Path

from tidepool.simulator.assumptions import Assumptions
from tidepool.simulator.workloads import DAY, Job, Workload

COLUMNS = ("job", "submit", "gap", "map input", "shuffle", "reduce output")
BUNDLED = Path(__file__).with_name("fb-2009-0.tsv")
SHOWN = 20
"""So many problems of a file are named; a file of another kind has one on every line."""

LATE_LINES = 0.01
"""Part of a day that the last jobs may be submitted after its end without another day of a fixed cluster."""


class TraceError(Exception):
    """A trace's file can't be used; the message names each line and what is allowed there."""


def read(path: Path, assumptions: Assumptions, largest_cores: int) -> Workload:
    """The jobs of a file in order of their submission.

    A job's work is its bytes through a core, and what a session takes; it uses as many cores as it has tasks, at most
    `largest_cores`. Raises TraceError with everything that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: not UTF-8 text: {error}") from error
    problems: list[str] = []
    rows: list[tuple[str, list[float]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) not in (len(COLUMNS), len(COLUMNS) + 1):
            problems.append(
                f"{path}:{number}: must have {len(COLUMNS)} columns by tab ({', '.join(COLUMNS)}), not {len(cells)}"
            )
            continue
        figures = [_figure(cell, f"{path}:{number}: {COLUMNS[index]}", problems, index) for index, cell in _of(cells)]
        rows.append((cells[0] or f"line{number}", figures))
    if not problems and not rows:
        problems.append(f"{path}: has no job; a line is {', '.join(COLUMNS)}, by tab")
    if problems:
        more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise TraceError("\n".join(problems[:SHOWN] + more))
    rows.sort(key=lambda row: row[1][0])
    jobs = tuple(_job(name, figures, assumptions, largest_cores) for name, figures in rows)
    words = f"{len(jobs):,} jobs, {sum(sum(figures[2:]) for _, figures in rows) / 1e12:.1f} TB"
    days = max(1, math.ceil(jobs[-1].submit / DAY - LATE_LINES))
    return Workload(path.stem, words, jobs, days)


def _of(cells: list[str]) -> list[tuple[int, str]]:
    return [(index, cells[index]) for index in range(1, len(COLUMNS))]


def _figure(cell: str, where: str, problems: list[str], index: int) -> float:
    unit = "seconds" if index < 3 else "bytes"
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        problems.append(f"{where}: must be {unit}, a number and not negative, not {cell!r:.40}")
    return value


def _job(name: str, figures: list[float], assumptions: Assumptions, largest_cores: int) -> Job:
    submit, _, *moved = figures
    tasks = math.ceil(max(moved) / assumptions.split_bytes)
    cores = max(1, min(tasks, largest_cores))
    seconds = assumptions.session_seconds + sum(moved) / assumptions.core_bytes_per_second / cores
    memory = int(assumptions.core_memory_bytes * max(cores, 2))
    return Job(name, submit, round(seconds, 1), cores, memory)
