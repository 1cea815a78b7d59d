"""The market that a task's deadline demands, from what Airflow and the team's breakers know as an attempt begins."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from tidepool import ladder
from tidepool.breaker import Breaker, State, lately
from tidepool.capacity import Market, Pool
from tidepool.deadlines import placement
from tidepool.deadlines.placement import Choice, History
from tidepool.labels import DEADLINE, utc
from tidepool.operators import deadline_alert as alerts
from tidepool.operators.deadline_alert import due, past_runtimes, queued_at
from tidepool.retries import PLATFORM, Attempt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Known:
    """What the author says of the job, and what its earlier attempts were. Durations are the author's arguments.

    deadline: the task's own, from when its run was queued; without it the DAG's, less what comes after the task.
    platform_retries: the attempts that it has for what it can't help.
    """

    deadline: timedelta | None = None
    expected: timedelta | None = None
    checkpoint_every: timedelta | None = None
    attempts: Sequence[Attempt] = ()
    platform_retries: int = 0

    @property
    def is_done_with_spot(self) -> bool:
        """Whether it lost so many attempts on spot machines that no deadline keeps it there."""
        has_checkpoints = self.checkpoint_every is not None
        return ladder.is_done_with_spot(
            self.attempts, ladder.lost_on_spot_at_most(has_checkpoints, self.platform_retries)
        )

    @property
    def redo(self) -> float:
        """Seconds of work that a reclaim makes undone at most; without checkpoints math.inf."""
        return math.inf if self.checkpoint_every is None else self.checkpoint_every.total_seconds()

    @property
    def saved(self) -> float:
        """Seconds of work that earlier attempts have surely saved."""
        return sum(placement.kept(attempt.seconds, self.redo) for attempt in self.attempts)

    @property
    def taken(self) -> float:
        """Seconds that earlier attempts worked at what this one goes on with."""
        return 0.0 if math.isinf(self.redo) else sum(attempt.seconds for attempt in self.attempts)


def choice(
    context: Any, dag: Any, pools: Sequence[Pool], breakers: Mapping[str, Breaker], known: Known, step: float
) -> Choice | None:
    """Where the attempt that begins now goes; None where it has no deadline or choice of markets, or had its spot.

    pools: that it fits, in the order of the capacity document. step: seconds until this is asked again after a wait.
    """
    firsts: dict[Market, Pool] = {}
    for pool in pools:
        firsts.setdefault(pool.market, pool)
    is_open = len(firsts) == 2 and not known.is_done_with_spot
    limits = _limits(context, dag, known.deadline) if is_open else None
    if limits is None:
        return None
    begins, ends = limits
    now = time.time()
    reclaims, hours = lately(breakers, pools, now)
    spot = [pool for pool in pools if pool.market == "spot"]
    past = _answer(context["ti"], partial(past_runtimes, has_checkpoints=known.checkpoint_every is not None))
    return placement.market(
        History(past, reclaims, hours),
        ends,
        now,
        allotted=max(1.0, ends - begins),
        spot_price=firsts["spot"].usd_per_hour,
        on_demand_price=firsts["on-demand"].usd_per_hour,
        expected=known.expected.total_seconds() if known.expected is not None else None,
        saved=known.saved,
        checkpoint_every=known.redo,
        spot_is_there=any(breakers.get(pool.name, Breaker()).state(now) is not State.OPEN for pool in spot),
        step=step,
    )


def keep_runtime(context: Any, known: Known, ran: float) -> None:
    """After a good run, whose last attempt ran so many seconds: leave what it took for the next run's choice.

    Nothing where that is not known: the pod of a deferred attempt went with its machine, and what it did was kept.
    """
    has_checkpoints = known.checkpoint_every is not None
    if has_checkpoints and any(attempt.cause in PLATFORM and not attempt.seconds for attempt in known.attempts):
        return
    try:
        alerts.keep_runtime(context["ti"], known.taken + ran, has_checkpoints=has_checkpoints)
    except Exception as error:  # noqa: BLE001 - the job is done
        log.warning("what the run took cannot be kept: %s", error)


def annotation(context: Any, dag: Any, deadline: timedelta | None) -> dict[str, str]:
    """Of the pod: when its task must be done, its own deadline or its DAG's; the keeper tells who will be late."""
    run = context.get("dag_run")
    if run is None:
        return {}
    ends = queued_at(run, deadline) + deadline if deadline is not None else due(dag, run) if dag is not None else None
    return {} if ends is None else {DEADLINE: utc(ends.timestamp())}


def _limits(context: Any, dag: Any, deadline: timedelta | None) -> tuple[float, float] | None:
    """From when to when the task has time, as Unix seconds."""
    run = context.get("dag_run")
    if run is None:
        return None
    if deadline is not None:
        queued = queued_at(run, deadline).timestamp()
        return queued, queued + deadline.total_seconds()
    of_run = due(dag, run) if dag is not None else None
    if of_run is None:
        return None
    ti = context["ti"]
    after = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    ends = placement.task_deadline(of_run.timestamp(), ti.task_id, after, lambda task: _last(ti, task))
    return (run.start_date or run.run_after).timestamp(), ends


def _last(ti: Any, task: str) -> float:
    """How long another task of the DAG took the last time, its machine included; 0 where it never ran."""
    other = ti.model_copy(update={"task_id": task, "map_index": -1})
    return next(iter(_answer(other, partial(alerts.durations, count=1))), 0.0)


def _answer(ti: Any, ask: Callable[[Any], tuple[float, ...]]) -> tuple[float, ...]:
    """What Airflow says of past runs; nothing where it does not answer, as no deadline is worth the job."""
    try:
        return ask(ti)
    except Exception as error:  # noqa: BLE001
        log.warning("past runs of task %s cannot be read: %s", ti.task_id, error)
        return ()
