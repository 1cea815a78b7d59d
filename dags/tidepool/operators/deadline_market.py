"""The market that a task's deadline demands, from what Airflow and the team's breakers know as an attempt begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from tidepool import ladder
from tidepool.capacity import Market, Pool
from tidepool.deadlines import placement
from tidepool.deadlines.placement import Choice, History
from tidepool.labels import DEADLINE, utc
from tidepool.ladder import Breaker, State
from tidepool.operators.deadline_alert import due, past_runtimes, queued_at

log = logging.getLogger(__name__)


def choice(
    context: Any,
    dag: Any,
    pools: Sequence[Pool],
    breakers: Mapping[str, Breaker],
    deadline: timedelta | None,
    step: float,
) -> Choice | None:
    """Where the attempt that begins now goes; None where it has no deadline, or no choice of markets.

    deadline: the task's own, from when its run was queued; without it the DAG's, less what comes after the task.
    pools: that it fits, in the order of the capacity document. step: seconds until this is asked again after a wait.
    """
    firsts: dict[Market, Pool] = {}
    for pool in pools:
        firsts.setdefault(pool.market, pool)
    limits = _limits(context, dag, deadline) if len(firsts) == 2 else None
    if limits is None:
        return None
    begins, ends = limits
    now = time.time()
    reclaims, hours = ladder.lately(breakers, pools, now)
    spot = [pool for pool in pools if pool.market == "spot"]
    return placement.market(
        History(runtimes=_runtimes(context["ti"]), reclaims=reclaims, spot_hours=hours),
        ends,
        now,
        allotted=max(1.0, ends - begins),
        spot_price=firsts["spot"].usd_per_hour,
        on_demand_price=firsts["on-demand"].usd_per_hour,
        spot_is_there=any(breakers.get(pool.name, Breaker()).state(now) is not State.OPEN for pool in spot),
        step=step,
    )


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
    """How long another task of the DAG took the last time; 0 where it never ran."""
    return next(iter(_runtimes(ti.model_copy(update={"task_id": task, "map_index": -1}), 1)), 0.0)


def _runtimes(ti: Any, count: int = 10) -> tuple[float, ...]:
    """As `past_runtimes`; none where Airflow does not answer, as no deadline is worth the job."""
    try:
        return past_runtimes(ti, count)
    except Exception as error:  # noqa: BLE001
        log.warning("past runs of task %s cannot be read: %s", ti.task_id, error)
        return ()
