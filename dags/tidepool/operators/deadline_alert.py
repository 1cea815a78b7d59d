"""Deadlines as Airflow knows them: an alert when a DAG run, or a task in it, is not done in time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import TaskInstanceState
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import (
    DagRunLogicalDateDeadline,
    DagRunQueuedAtDeadline,
    DeadlineAlert,
    DeadlineReference,
    FixedDatetimeDeadline,
)

log = logging.getLogger(__name__)

DONE = (TaskInstanceState.SUCCESS, TaskInstanceState.SKIPPED)

PAST_RUNS = 10

RUNTIMES = "tidepool_runtimes"
"""The XCom of each task with a deadline: seconds that its last good runs took, newest first, its own included. An
earlier run's is found by when the run was due, which every run has; Airflow's own durations only by logical date."""


def deadline_alert(
    within: timedelta,
    callback: Callable[..., Awaitable[Any]] | str | None = None,
    *,
    task_id: str | None = None,
    **kwargs: Any,
) -> DeadlineAlert:
    """For a DAG's `deadline`: so long after a run was queued, it must be done.

    callback: an async function (or its dotted name) that is called with **kwargs and Airflow's context if it isn't; a
    notifier such as SmtpNotifier will do. It runs in the triggerer and must be importable there. Else `missed`, which
    writes a line to the triggerer's log. task_id: the task that must be done, instead of the run, for `missed`: Airflow
    itself has deadlines of runs only. Raises ValueError where `within` is not positive, or with both.
    """
    if within <= timedelta(0):
        raise ValueError(f"deadline: must be longer than 0, not {within}")
    if callback is not None and task_id is not None:
        raise ValueError(
            "deadline of a task: Airflow calls callbacks for runs; leave it out, or give the DAG a deadline"
        )
    if callback is None:
        kwargs = {"within": within.total_seconds(), "task_id": task_id}
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=within,
        callback=AsyncCallback(callback or missed, kwargs=kwargs),
        name=f"{task_id or 'run'} within {within}",
    )


def add_task_deadline(dag: Any, task_id: str, within: timedelta) -> None:
    """Give a DAG an alert for one of its tasks, besides those it has."""
    dag.deadline = [*(dag.deadline or []), deadline_alert(within, task_id=task_id)]


async def missed(within: float, task_id: str | None = None, context: dict[str, Any] | None = None) -> str:
    """The default callback, in the triggerer: says which run or task is late. Returns the sentence."""
    run = (context or {}).get("dag_run") or {}
    dag_id, run_id = run.get("dag_id", "?"), run.get("dag_run_id") or run.get("run_id", "?")
    state = run.get("state", "unknown")
    if task_id is not None:
        state = await _state(dag_id, run_id, task_id)
        if state in DONE:
            return f"task {task_id} of run {run_id} of DAG {dag_id} was done in time or later: {state}"
    who = f"task {task_id} of run {run_id} of DAG {dag_id}" if task_id else f"run {run_id} of DAG {dag_id}"
    said = f"{who} missed its deadline: not done {timedelta(seconds=within)} after the run was queued ({state})"
    log.error("%s", said)
    return said


async def _state(dag_id: str, run_id: str, task_id: str) -> str:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from asgiref.sync import sync_to_async

    states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
        dag_id=dag_id, task_ids=[task_id], run_ids=[run_id]
    )
    # A mapped task has one for each of its instances.
    found = [str(state or "not started") for state in states.get(run_id, {}).values()]
    return next((state for state in found if state not in DONE), found[0] if found else "not started")


def due(dag: Any, dag_run: Any) -> datetime | None:
    """When the run must be done by its DAG's deadlines, the earliest of them; None where there is none.

    A task can't see when its run was queued: it is taken to be when the run was due, or for one that was due long ago
    (a backfill) when it started. Deadlines of average runtimes and variables are left out: only the scheduler has them.
    """
    found = [_due(alert, dag_run) for alert in dag.deadline or []]
    return min((time for time in found if time is not None), default=None)


def _due(alert: DeadlineAlert, dag_run: Any) -> datetime | None:
    reference, interval = alert.reference, alert.interval
    if not isinstance(interval, timedelta) or alert.callback.kwargs.get("task_id"):
        return None
    since: datetime | None = None
    if isinstance(reference, DagRunQueuedAtDeadline):
        since = queued_at(dag_run, interval)
    elif isinstance(reference, DagRunLogicalDateDeadline):
        since = dag_run.logical_date
    elif isinstance(reference, FixedDatetimeDeadline):
        since = reference._datetime
    return None if since is None else since + interval


def queued_at(dag_run: Any, within: timedelta) -> datetime:
    """When a run was queued, as far as a task can tell."""
    run_after: datetime = dag_run.run_after
    started: datetime = dag_run.start_date or run_after
    return run_after if started - run_after < within else started


def past_runtimes(ti: Any, count: int = PAST_RUNS, *, has_checkpoints: bool = False) -> tuple[float, ...]:
    """Seconds that the last good runs of this task took, newest first.

    As its earlier runs have left them (`keep_runtime`), else as Airflow has the durations of their last attempts. These
    include the wait for a machine, so they are rather too long; with checkpoints they may be of the end of the work
    only, and a run of several attempts is left out. Of runs without a logical date (by hand, by assets) Airflow tells
    one at most, and no time for its order.
    """
    kept = ti.xcom_pull(key=RUNTIMES, map_indexes=_map_index(ti), include_prior_dates=True)
    if isinstance(kept, (list, tuple)) and kept and all(isinstance(each, (int, float)) for each in kept):
        return tuple(float(each) for each in kept[:count])
    return durations(ti, count, has_checkpoints=has_checkpoints)


def keep_runtime(ti: Any, seconds: float, *, has_checkpoints: bool = False) -> None:
    """After a good run: leave what it took, and what the runs before it took, as an XCom for the next."""
    before = past_runtimes(ti, PAST_RUNS - 1, has_checkpoints=has_checkpoints)
    ti.xcom_push(key=RUNTIMES, value=[round(seconds, 1), *before])


def durations(ti: Any, count: int, *, has_checkpoints: bool = False) -> tuple[float, ...]:
    """Seconds of the last good attempts of this task in earlier runs, newest first, from Airflow's own database."""
    found: list[float] = []
    before = None
    for _ in range(count):
        previous = ti.get_previous_ti(state=TaskInstanceState.SUCCESS, logical_date=before, map_index=_map_index(ti))
        if previous is None:
            break
        is_whole = not has_checkpoints or previous.try_number <= 1
        if previous.duration and is_whole:
            found.append(float(previous.duration))
        before = previous.logical_date
        if before is None:
            break
    return tuple(found)


def _map_index(ti: Any) -> int:
    return -1 if ti.map_index is None else int(ti.map_index)
