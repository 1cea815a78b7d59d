"""The jobs that are simulated: built-in profiles, stated and seeded, or a trace's."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from tidepool.simulator.assumptions import Assumptions

HOUR = 3600.0
DAY = 24 * HOUR
BUSY_HOURS = 8.0

MEDIAN_SECONDS = 600.0
SPREAD = 0.6
"""Of the jobs' runtimes: the standard deviation of their logarithm; two of three run for 5.5 to 18 minutes."""

MEMORY_SPREAD = 0.3
LANES = (2,) * 12 + (4,) * 8 + (16,) * 4
"""Cores of the jobs of each pipeline: half of the pipelines are small ones, a sixth need a whole large machine."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Seconds; times from the start of the workload.

    submit: when it is asked for; of a job with `after`, how long after the end of that one (an index).
    seconds: that it runs for on `cores`. memory_bytes: that it uses at most.
    """

    name: str
    submit: float
    seconds: float
    cores: int
    memory_bytes: int
    after: int | None = None


@dataclass(frozen=True)
class Workload:
    """Jobs, and what is to be known of them. days: that a cluster which is always there is paid for."""

    name: str
    words: str
    jobs: tuple[Job, ...]
    days: int = 1


def _pipelines(
    name: str, words: str, seed: int, assumptions: Assumptions, hours: float, every: float, days: int
) -> Workload:
    """Pipelines side by side, begun anew `every` so many seconds; each, one job after the other, fills `hours`."""
    rng = random.Random(f"{name} {seed}")  # noqa: S311
    jobs: list[Job] = []
    memories = [_memory(rng, cores, assumptions) for cores in LANES]
    for begin, (number, cores) in itertools.product(range(0, int(days * DAY), int(every)), enumerate(LANES)):
        left, last = hours * HOUR, None
        while left >= 60:
            seconds = min(_seconds(rng), left)
            submit = begin if last is None else assumptions.task_gap_seconds
            task = f"pipeline{number}.task{len(jobs)}"
            jobs.append(Job(task, submit, round(seconds, 1), cores, memories[number], last))
            last = len(jobs) - 1
            left -= seconds + assumptions.task_gap_seconds
    return Workload(name, words, tuple(jobs), days)


def _seconds(rng: random.Random) -> float:
    return min(max(60.0, rng.lognormvariate(0, SPREAD) * MEDIAN_SECONDS), 6 * HOUR)


def _memory(rng: random.Random, cores: int, assumptions: Assumptions) -> int:
    """As jobs of one pipeline use, in bytes."""
    return int(assumptions.core_memory_bytes * cores * min(rng.lognormvariate(0, MEMORY_SPREAD), 2.0))


def seed_profile(seed: int, assumptions: Assumptions) -> Workload:
    """8 busy hours a day for a week: while they last a fixed cluster of the peak's size is as full as it ever gets."""
    words = f"{len(LANES)} pipelines side by side, each one job after the other (median 10 min), 8 hours of 24, 7 days"
    return _pipelines("seed", words, seed, assumptions, BUSY_HOURS, DAY, 7)


def busy(seed: int, assumptions: Assumptions) -> Workload:
    """The same pipelines around the clock."""
    words = f"{len(LANES)} pipelines side by side, each one job after the other (median 10 min), all of 3 days"
    return _pipelines("busy", words, seed, assumptions, 72.0, 3 * DAY, 3)


def small(seed: int, assumptions: Assumptions) -> Workload:
    """Jobs of one core and one minute, without a pause: where a machine for each job costs most."""
    memory, step = int(assumptions.core_memory_bytes / 2), 60.0 + assumptions.task_gap_seconds
    jobs: list[Job] = []
    for lane in range(8):
        for number in range(int(DAY / step)):
            submit = assumptions.task_gap_seconds if number else lane * 5.0
            jobs.append(Job(f"pipeline{lane}.task{number}", submit, 60.0, 1, memory, len(jobs) - 1 if number else None))
    return Workload("small", "8 pipelines of one-minute jobs on one core, around the clock", tuple(jobs))


def ten_minutes(seed: int, assumptions: Assumptions) -> Workload:
    """Jobs of ten minutes by themselves: each one's machine is bought for it and goes before the next comes."""
    rng = random.Random(f"ten-minutes {seed}")  # noqa: S311
    memory = int(assumptions.core_memory_bytes * 2)
    jobs = tuple(Job(f"job{n}", round(n * HOUR + rng.uniform(0, 60), 1), 600.0, 2, memory) for n in range(480))
    return Workload("ten-minutes", "480 jobs of ten minutes, one an hour", jobs, days=20)


def large(seed: int, assumptions: Assumptions) -> Workload:
    """10,000 jobs, 1,000 and more of them at a time."""
    words = "1,250 pipelines of 8 jobs (median 10 min) that start within ten minutes"
    rng = random.Random(f"large {seed}")  # noqa: S311
    jobs: list[Job] = []
    for number in range(1250):
        cores = rng.choice(LANES)
        memory = _memory(rng, cores, assumptions)
        for step in range(8):
            submit = assumptions.task_gap_seconds if step else round(rng.uniform(0, 600), 1)
            after = len(jobs) - 1 if step else None
            jobs.append(Job(f"pipeline{number}.task{step}", submit, round(_seconds(rng), 1), cores, memory, after))
    return Workload("large", words, tuple(jobs))


PROFILES: dict[str, Callable[[int, Assumptions], Workload]] = {
    "seed": seed_profile,
    "busy": busy,
    "small": small,
    "ten-minutes": ten_minutes,
    "large": large,
}
"""The built-in profiles by name."""
