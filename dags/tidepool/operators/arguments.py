"""What authors may give a job's operator, and what holds where they give nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tidepool.capacity import Capacity
from tidepool.job import JobError
from tidepool.operators.retry_policy import CauseRetryPolicy
from tidepool.retries import MEMORY_RETRIES, PLATFORM_RETRIES

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


def defaults(capacity: Capacity) -> dict[str, Any]:
    """What differs from KubernetesPodOperator's own defaults."""
    return {
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
    if given.get("retry_policy") is not None:
        return {}
    platform, memory = given.get("platform_retries", PLATFORM_RETRIES), given.get("memory_retries", MEMORY_RETRIES)
    policy = CauseRetryPolicy(made["retries"], platform, memory)
    return {"retries": policy.limits.total, "retry_policy": policy}
