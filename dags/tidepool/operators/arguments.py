"""What authors may give a job's operator, and what holds where they give nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from tidepool import capacity as capacity_document
from tidepool import queues
from tidepool.capacity import JOB_PRIORITY_CLASS, Capacity
from tidepool.job import Job, JobError
from tidepool.ladder import offered
from tidepool.operators.retry_policy import CauseRetryPolicy
from tidepool.queues import WEIGHTS
from tidepool.retries import MEMORY_RETRIES, PLATFORM_RETRIES
from tidepool.sizing import place

NO_POOL = "default_pool"
"""No pool named. Airflow's own default for its argument of this name, which mapped tasks always pass."""

RETRIES = 3

REFUSED: Mapping[str, str] = {
    "affinity": "name a `pool`",
    "container_resources": "ask for `cores`, `memory` and `gpus`",
    "namespace": "name a `team`",
    "pod_template_dict": "use `full_pod_spec`, which is laid over the job's pod",
    "pod_template_file": "use `full_pod_spec`, which is laid over the job's pod",
    "service_account_name": "name a `team`",
}
"""Arguments of KubernetesPodOperator that would silently undo the job's place, size and owner; what to do instead."""


def check(task: str, given: Mapping[str, Any], refused: Mapping[str, str], deadline: timedelta | None) -> None:
    """Raise JobError for arguments that are not for the author to give, and for a deadline that is none."""
    found = [f"{name}: {instead}" for name, instead in refused.items() if given.get(name) is not None]
    if found:
        raise JobError(f"task {task!r}: not for the author to give: {'; '.join(found)}")
    if deadline is not None and (not isinstance(deadline, timedelta) or deadline <= timedelta(0)):
        raise JobError(f"task {task!r}: deadline: must be a timedelta longer than 0, not {deadline!r}")


class QueuedPool(str):
    """Airflow's pool of a mapped task, where its author named one of machines: Airflow reads it off that argument.

    named: what the author named.
    """

    __slots__ = ("named",)
    named: str

    def __new__(cls, queue: str, named: str) -> QueuedPool:
        made = super().__new__(cls, queue)
        made.named = named
        return made


def named_pool(pool: str) -> str | None:
    """The pool of machines that the author named, if any."""
    named = pool.named if isinstance(pool, QueuedPool) else pool
    return None if named == NO_POOL else named


def defaults(capacity: Capacity, given: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from KubernetesPodOperator's own defaults. given: by the author."""
    return {
        "priority_weight": WEIGHTS.get(str(given.get("priority_class_name")), WEIGHTS[JOB_PRIORITY_CLASS]),
        "schedule_timeout_seconds": capacity.schedule_timeout_seconds,  # the stock 120 s is less than a scale-up
        "startup_timeout_seconds": 600,
        "startup_check_interval_seconds": 2,
        "on_finish_action": "delete_pod",
        "log_pod_spec_on_failure": False,
        "termination_message_policy": "FallbackToLogsOnError",
    }


def alert(dag: Any, task: str, deadline: timedelta | None) -> None:
    """Have Airflow tell where the task is not done in time; there is nobody to tell without a DAG."""
    if dag is None or deadline is None:
        return
    from tidepool.operators.deadline_alert import add_task_deadline  # which few DAG files need

    add_task_deadline(dag, task, deadline)


def of_mapped(kwargs: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """What a mapped task must have already when the file is parsed: the scheduler reads its retries there.

    kwargs: what `partial` was given; made: what Airflow's made of it.
    """
    dag = made.get("dag")
    given = {**(getattr(dag, "default_args", None) or {}), **(kwargs.get("default_args") or {}), **made}
    alert(dag, made["task_id"], given.get("deadline"))
    queue = _queue_of_mapped(given)
    if given.get("retry_policy") is not None:
        return queue
    platform, memory = given.get("platform_retries", PLATFORM_RETRIES), given.get("memory_retries", MEMORY_RETRIES)
    policy = CauseRetryPolicy(made["retries"], platform, memory)
    return {"retries": policy.limits.total, "retry_policy": policy, **queue}


def _queue_of_mapped(given: Mapping[str, Any]) -> dict[str, Any]:
    """Airflow's pool, slots and weight of a mapped task, by what all its instances have in common.

    What is wrong with the job is said where its instances are made.
    """
    capacity = capacity_document.load()
    found: dict[str, Any] = {}
    if given.get("priority_weight", 1) == 1:
        found["priority_weight"] = defaults(capacity, given)["priority_weight"]
    if given.get("airflow_pool", NO_POOL) != NO_POOL:
        return {**found, "pool": QueuedPool(given["airflow_pool"], given.get("pool", NO_POOL))}
    with suppress(JobError, TypeError):
        pool = named_pool(given.get("pool", NO_POOL))
        asked = {name: given[name] for name in ("cores", "memory", "gpus", "exclusive", "team") if name in given}
        placement = place(Job(given["task_id"], pool=pool, **asked), offered(capacity, given.get("market"), ""))
        if claim := queues.claim([(placement, 1)], capacity):
            slots = given["pool_slots"] if given.get("pool_slots", 1) != 1 else claim.slots
            found |= {"pool": QueuedPool(claim.queue.name, pool or NO_POOL), "pool_slots": slots}
    return found
