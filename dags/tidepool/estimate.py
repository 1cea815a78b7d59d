"""What a DAG's next run will take and cost, before it runs. Pure.

A task with enough past runs of its present size is estimated from those, any other from a cold start: from its shape
and from what similar jobs took, or else from stated priors. Each has a distribution of its time, from when it is asked
for to its end, and of the machine-seconds that it holds; a run of the DAG is drawn from them many times. The time of a
draw is that of the longest path through its tasks. Tasks are drawn independently of each other, which makes the P90
of a DAG with many tasks rather too low where one large input makes all of them long.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidepool.deadlines import priors
from tidepool.deadlines.priors import Work
from tidepool.history import PodRecord, TaskRun, quantile

ENOUGH = 3
"""Good runs of the present size: with fewer it is a cold start."""

LOOKED_AT = 20
"""The last runs that count."""

PRIOR_SECONDS = 600.0
"""What a job runs for of which nothing is known: a judgement."""

PRIOR_WAIT_SECONDS = 110.0
"""From when its pod is asked for to its start on a machine to be bought: 12 s until the launch, 68 to boot, 30 to pull
(tidepool.simulator.assumptions)."""

BOOT_SECONDS = 68.0
"""Of a machine, from its launch until it is ready: nobody's, and paid."""

DRAWS = 2000


@dataclass(frozen=True)
class Pods:
    """Pods of one kind that a job has. part: of a machine that one of them holds. usd_per_hour: a machine of the first
    pool that it goes to."""

    count: int
    cpu_millis: int
    memory_bytes: int
    part: float
    pool: str
    market: str
    usd_per_hour: float


@dataclass(frozen=True)
class Shape:
    """A task as the DAG file says it. downstream: tasks right after it. pods: of a job, the main one first; empty: it
    is no job, or `unknown` says why its pods aren't known. copies: of a mapped task, as far as the file lists them.
    limit_seconds: of an attempt."""

    task: str
    team: str = ""
    downstream: tuple[str, ...] = ()
    pods: tuple[Pods, ...] = ()
    copies: int = 1
    limit_seconds: float | None = None
    unknown: str = ""


@dataclass(frozen=True)
class Known:
    """What the ledger has: the task's own runs, oldest first; and good pods of similar jobs, `whose` says of which."""

    runs: Sequence[TaskRun] = ()
    similar: Sequence[PodRecord] = ()
    whose: str = ""


@dataclass(frozen=True)
class Spread:
    """Half of the runs are below p50, nine of ten below p90."""

    p50: float
    p90: float


@dataclass(frozen=True)
class TaskEstimate:
    """basis: "history", "cold start", "no job" or "unknown"; the last two count as nothing. why: what it follows from,
    in words. critical: in what share of the draws it was on the longest path."""

    task: str
    basis: str
    why: str
    seconds: Spread
    usd: Spread
    pool: str
    market: str
    usd_per_hour: float
    critical: float


@dataclass(frozen=True)
class Estimate:
    """overhead: what machines cost besides while they boot and idle, as a share; overhead_why: what that follows from.
    It is in no other figure."""

    dag: str
    tasks: tuple[TaskEstimate, ...]
    seconds: Spread
    usd: Spread
    overhead: float
    overhead_why: str
    draws: int
    seed: int


@dataclass(frozen=True)
class _Model:
    basis: str
    why: str
    seconds: Work
    held: Work


def estimate(
    dag: str,
    shapes: Sequence[Shape],
    known: Mapping[str, Known],
    overhead: float | None = None,
    idle_seconds: float = 20.0,
    seed: int = 1,
    draws: int = DRAWS,
) -> Estimate:
    """The next run of a DAG. known: by task. overhead: of the ledger; without it, one boot and `idle_seconds` of idle
    time for each job's machine, which is the most that it can be."""
    models = {shape.task: _model(shape, known.get(shape.task, Known())) for shape in shapes if shape.pods}
    order = _ordered(shapes)
    chance = random.Random(seed)  # noqa: S311 - the same seed gives the same figures
    ends: list[float] = []
    costs: list[float] = []
    took: dict[str, list[float]] = {shape.task: [] for shape in shapes}
    cost: dict[str, list[float]] = {shape.task: [] for shape in shapes}
    critical = dict.fromkeys(took, 0)
    for _ in range(draws):
        seconds, usd = {}, 0.0
        for shape in shapes:
            length, money = _draw(shape, models.get(shape.task), chance)
            seconds[shape.task] = length
            took[shape.task].append(length)
            cost[shape.task].append(money)
            usd += money
        end, path = _longest(order, seconds)
        for task in path:
            critical[task] += 1
        ends.append(end)
        costs.append(usd)
    share, why = (
        (overhead, "machines of the ledger") if overhead is not None else _cold_overhead(shapes, cost, idle_seconds)
    )
    return Estimate(
        dag=dag,
        tasks=tuple(
            _told(shape, models.get(shape.task), took[shape.task], cost[shape.task], critical[shape.task] / draws)
            for shape in order
        ),
        seconds=_spread(ends),
        usd=_spread(costs),
        overhead=share,
        overhead_why=why,
        draws=draws,
        seed=seed,
    )


def document(found: Estimate) -> dict[str, Any]:
    """For JSON: seconds, USD and shares."""
    return asdict(found)


def _model(shape: Shape, known: Known) -> _Model:
    main = shape.pods[0]
    good = [run for run in known.runs if run.is_good and run.seconds > 0][-LOOKED_AT:]
    same = [run for run in good if run.first.size == (main.cpu_millis, main.memory_bytes) and run.held_seconds > 0]
    if len(same) >= ENOUGH:
        seconds, held = [run.seconds for run in same], [run.held_seconds for run in same]
        return _Model(
            "history",
            f"{len(same)} runs of its own",
            priors.runtime(seconds, quantile(seconds, 0.5)),
            priors.runtime(held, quantile(held, 0.5)),
        )
    weight = sum(pods.count * pods.part for pods in shape.pods)
    wait, own = PRIOR_WAIT_SECONDS, [run.ran for run in good if run.ran > 0]
    alike = [pod.seconds for pod in known.similar if pod.seconds > 0]
    if own:
        guess = quantile(own, 0.5)
        why = f"{len(own)} run{'' if len(own) == 1 else 's'} of its own" + ("" if same else ", of another size")
    elif alike:
        guess, why = quantile(alike, 0.5), f"{len(alike)} jobs of {known.whose}"
    else:
        guess, why = PRIOR_SECONDS, f"no job that was seen: {PRIOR_SECONDS / 60:.0f} min are supposed"
    if shape.limit_seconds is not None and guess > shape.limit_seconds:
        guess, why = shape.limit_seconds, f"{why}, and its execution_timeout"
    waits = [pod.waited for pod in known.similar if pod.waited is not None]
    if waits:
        wait = quantile(waits, 0.5)
    # Runs of another size say about as much as one of this.
    ran = priors.runtime(own if same else [guess][: len(own)], guess)
    limit = shape.limit_seconds or math.inf
    return _Model(
        "cold start",
        why,
        Work([wait + min(limit, each) for each in ran.seconds]),
        Work([weight * min(limit, each) for each in ran.seconds]),
    )


def _draw(shape: Shape, model: _Model | None, chance: random.Random) -> tuple[float, float]:
    """Seconds and USD of one run of a task. A long one costs more: both are drawn together."""
    if model is None:
        return 0.0, 0.0
    price = _price(shape) / 3600
    length, money = 0.0, 0.0
    for _ in range(shape.copies if model.basis == "cold start" else 1):  # a past run has all its copies in it
        place = chance.random()
        length = max(length, model.seconds.seconds[int(place * len(model.seconds.seconds))])
        money += price * model.held.seconds[int(place * len(model.held.seconds))]
    return length, money


def _price(shape: Shape) -> float:
    """USD of a machine-hour, on average over what its pods hold."""
    held = sum(pods.count * pods.part for pods in shape.pods)
    return sum(pods.count * pods.part * pods.usd_per_hour for pods in shape.pods) / held if held else 0.0


def _cold_overhead(
    shapes: Sequence[Shape], cost: Mapping[str, Sequence[float]], idle_seconds: float
) -> tuple[float, str]:
    held = sum(quantile(cost[shape.task], 0.5) for shape in shapes)
    most = sum(
        shape.copies * pods.count * pods.part * pods.usd_per_hour * (BOOT_SECONDS + idle_seconds) / 3600
        for shape in shapes
        for pods in shape.pods
    )
    why = f"at most: a boot of {BOOT_SECONDS:.0f} s and {idle_seconds:.0f} s of idle time for each job"
    return (most / held if held else 0.0), why


def _ordered(shapes: Sequence[Shape]) -> list[Shape]:
    """Each task before those after it."""
    by_name = {shape.task: shape for shape in shapes}
    before = dict.fromkeys(by_name, 0)
    for shape in shapes:
        for task in shape.downstream:
            before[task] += 1
    ready = [task for task, count in before.items() if not count]
    ordered = []
    while ready:
        shape = by_name[ready.pop(0)]
        ordered.append(shape)
        for task in shape.downstream:
            before[task] -= 1
            if not before[task]:
                ready.append(task)
    return ordered


def _longest(order: Sequence[Shape], seconds: Mapping[str, float]) -> tuple[float, list[str]]:
    """When all tasks are done, and the tasks of the path that took so long."""
    starts: dict[str, tuple[float, str]] = {}
    last, end = "", 0.0
    for shape in order:
        done = starts.get(shape.task, (0.0, ""))[0] + seconds[shape.task]
        if done >= end:
            last, end = shape.task, done
        for task in shape.downstream:
            if done >= starts.get(task, (0.0, ""))[0]:
                starts[task] = (done, shape.task)
    path = []
    while last:
        path.append(last)
        last = starts.get(last, (0.0, ""))[1]
    return end, path


def _told(
    shape: Shape, model: _Model | None, took: Sequence[float], cost: Sequence[float], critical: float
) -> TaskEstimate:
    why = "" if model is None else model.why
    if model is not None and model.basis == "cold start" and shape.copies > 1:
        why += f", {shape.copies} copies"
    main = shape.pods[0] if shape.pods else None
    return TaskEstimate(
        task=shape.task,
        basis=model.basis if model else "unknown" if shape.unknown else "no job",
        why=why or shape.unknown or "its time is not counted",
        seconds=_spread(took),
        usd=_spread(cost),
        pool=main.pool if main else "",
        market=main.market if main else "",
        usd_per_hour=main.usd_per_hour if main else 0.0,
        critical=critical,
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(quantile(values, 0.5), quantile(values, 0.9))
