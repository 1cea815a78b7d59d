"""The jobs and the worlds that policies are compared in. All are judgements, stated here; every number is seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tidepool.deadlines import priors, traces
from tidepool.deadlines.policies import RESTART_SECONDS
from tidepool.deadlines.priors import HOUR, Work
from tidepool.deadlines.simulation import Job
from tidepool.deadlines.traces import DAY, Trace

LENGTHS = (0.5, 1.0, 3.0, 6.0, 12.0)
"""Hours of work of the simulated jobs."""

SLACKS = (1.25, 1.5, 2.0, 3.0)
"""Their deadlines, as multiples of the work."""

CHECKPOINT_SECONDS = 600.0

HISTORY_SECONDS = 3 * DAY
"""How far back a policy knows the trace before a job starts."""

WATCHED_HOURS = 100.0
"""Machine-hours of reclaims that a policy knows where reclaims are synthetic."""

PAST_RUNS = 10
RUNTIME_SPREAD = 0.15
"""Of runtimes that aren't known beforehand: the standard deviation of their logarithm."""


@dataclass(frozen=True)
class Scenario:
    """Jobs and the world they run in. per_hour: synthetic reclaims of a machine, besides the trace's."""

    name: str
    trace: Trace
    per_hour: float = 0.0
    has_checkpoints: bool = True
    is_work_known: bool = True

    @property
    def label(self) -> str:
        """The name, and the jobs' kind."""
        return f"{self.name}, {'checkpoints' if self.has_checkpoints else 'no checkpoints'}"


def jobs(scenario: Scenario, repeats: int, seed: int) -> Iterator[Job]:
    """The scenario's jobs: every length with every slack, `repeats` times, at random places of the trace."""
    rng = random.Random(f"{scenario.name} {scenario.has_checkpoints} {seed}")  # noqa: S311
    trace, longest = scenario.trace, max(LENGTHS) * max(SLACKS) * HOUR
    for hours in LENGTHS * repeats:
        for slack in SLACKS:
            deadline = max(hours * slack * HOUR, hours * HOUR + 1.5 * RESTART_SECONDS)
            first = min(trace.start + HISTORY_SECONDS, max(trace.start, trace.end - longest))
            start = rng.uniform(first, max(first, trace.end - deadline))
            work, believed = hours * HOUR, Work([hours * HOUR])
            if not scenario.is_work_known:
                *past, work = [hours * HOUR * rng.lognormvariate(0, RUNTIME_SPREAD) for _ in range(PAST_RUNS + 1)]
                believed = priors.runtime(past, deadline / 2)
            losses, there = trace.seen(max(trace.start, start - HISTORY_SECONDS), start)
            known = priors.reclaims().seen(losses, there)
            if scenario.per_hour:
                known = priors.reclaims().seen(_count(rng, scenario.per_hour * WATCHED_HOURS), WATCHED_HOURS)
            yield Job(
                start=start,
                work=work,
                deadline=deadline,
                believed=believed,
                redo=CHECKPOINT_SECONDS if scenario.has_checkpoints else math.inf,
                reclaimed=tuple(_events(rng, scenario.per_hour, start, start + deadline)),
                reclaims=known,
            )


def _events(rng: random.Random, per_hour: float, start: float, end: float) -> Iterator[float]:
    time = start
    while per_hour and (time := time + rng.expovariate(per_hour) * HOUR) < end:
        yield time


def _count(rng: random.Random, mean: float) -> int:
    """A Poisson number."""
    return sum(1 for _ in _events(rng, mean, 0.0, HOUR))


def built_in(seed: int) -> list[Scenario]:
    """The built-in ones: reclaims of 1, 5 and 10 % an hour and the synthetic traces, with and without checkpoints, and
    jobs whose runtime is known only from past runs."""
    worlds = [Scenario(f"reclaims {rate:.0%}/h", traces.always(60 * DAY), per_hour=rate) for rate in (0.01, 0.05, 0.1)]
    worlds += [Scenario(name, traces.synthetic(name, seed)) for name in traces.PROCESSES]
    worlds += [
        replace(world, name=f"{world.name}, runtime uncertain", is_work_known=False)
        for world in worlds
        if world.name in ("reclaims 5%/h", "mixed")
    ]
    return [*worlds, *(replace(each, has_checkpoints=False) for each in worlds)]


def of_trace(trace: Trace) -> list[Scenario]:
    """A trace of one's own, with and without checkpoints. Raises TraceError where the jobs don't fit into it."""
    longest = max(LENGTHS) * max(SLACKS) * HOUR
    if trace.end - trace.start < longest:
        raise traces.TraceError(
            f"{trace.name}: covers {(trace.end - trace.start) / HOUR:.1f} hours; "
            f"the longest of the simulated jobs has a deadline of {longest / HOUR:.0f} hours and must fit"
        )
    return [Scenario(trace.name, trace), Scenario(trace.name, trace, has_checkpoints=False)]
