"""What authors may give a job's operator, and what holds where they give nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.xcom_arg import XComArg
from kubernetes.client import ApiClient

from tidepool import capacity as capacity_document
from tidepool import queues
from tidepool.capacity import JOB_PRIORITY_CLASS, LABEL_PREFIX, Capacity
from tidepool.job import Job, JobError
from tidepool.ladder import offered
from tidepool.operators.retry_policy import CauseRetryPolicy
from tidepool.queues import WEIGHTS
from tidepool.retries import MEMORY_RETRIES, PLATFORM_RETRIES
from tidepool.sizing import Placement, place

Claimed = Callable[[Mapping[str, Any], Capacity], Sequence[tuple[Placement, int]]]
"""From a job's arguments to the pods that it has, and how many of each."""

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


IN_POD_SPEC: Mapping[tuple[str, str], str] = {
    ("metadata", "namespace"): "name a `team`",
    ("spec", "affinity"): "name a `pool`",
    ("spec", "nodeName"): "name a `pool`",
    ("spec", "serviceAccount"): "name a `team`",
    ("spec", "serviceAccountName"): "name a `team`",
}
"""The same in `full_pod_spec`."""


def check(
    task: str,
    given: Mapping[str, Any],
    refused: Mapping[str, str],
    durations: Mapping[str, Any] | None = None,
    retries: Mapping[str, Any] | None = None,
) -> None:
    """Raise JobError with all that is wrong: arguments that are not for the author to give, and a duration, such as a
    deadline, or a number of retries that is none; both by name.
    """
    problems = _not_retries(retries or {})
    for name, duration in (durations or {}).items():
        if duration is not None and (not isinstance(duration, timedelta) or duration <= timedelta(0)):
            problems.append(f"{name}: must be a timedelta longer than 0, not {duration!r}")
    found = [f"{name}: {instead}" for name, instead in refused.items() if given.get(name) is not None]
    if found := found + _in_full_pod_spec(given.get("full_pod_spec")):
        problems.append(f"not for the author to give: {'; '.join(found)}")
    if problems:
        raise JobError(f"task {task!r}: " + "; ".join(problems))


def _not_retries(given: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, many in given.items():
        if type(many) is not int or many < 0:
            problems.append(f"{name}: must be a whole number of attempts, 0 for none, not {many!r}")
    return problems


def _in_full_pod_spec(given: Any) -> list[str]:
    """What a `full_pod_spec` says that is not for the author, each with what to do instead."""
    if given is None:
        return []
    pod = ApiClient().sanitize_for_serialization(given)
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    parts = {"metadata": metadata, "spec": spec}
    found = [f"{part}.{key} of full_pod_spec: {why}" for (part, key), why in IN_POD_SPEC.items() if key in parts[part]]
    if any("resources" in container for container in (spec.get("containers") or [])[:1]):
        found.append("the first container's resources of full_pod_spec: ask for `cores`, `memory` and `gpus`")
    for kind in ("labels", "annotations"):
        own = [key for key in metadata.get(kind) or {} if key.startswith(LABEL_PREFIX)]
        found += [
            f"metadata.{kind} {key} of full_pod_spec: the job's owner and place follow from its task" for key in own
        ]
    return found


def program_args(task: str, given: Any) -> list[Any]:
    """The `application_args` as a list; what another task returns is one of its items until the task runs.

    Raises JobError for text, which is a sequence of letters.
    """
    if isinstance(given, XComArg):
        return [given]
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise JobError(f'task {task!r}: application_args: must be a list, such as ["--day", "1"], not {given!r}')
    return list(given)


def flat(args: Any) -> list[str]:
    """A command line as Kubernetes takes it: a list that another task returned is so many arguments, all is text."""
    if isinstance(args, str) or not isinstance(args, Sequence):
        return [str(args)]
    return [text for each in args for text in flat(each)]


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
        "logging_interval": 30,  # of deferred tasks: the stock None reads a log at the end, from a machine that is gone
        "termination_message_policy": "FallbackToLogsOnError",
    }


def alert(dag: Any, task: str, deadline: timedelta | None) -> None:
    """Have Airflow tell where the task is not done in time; there is nobody to tell without a DAG."""
    if dag is None or deadline is None:
        return
    from tidepool.operators.deadline_alert import add_task_deadline  # which few DAG files need

    add_task_deadline(dag, task, deadline)


def of_mapped(kwargs: Mapping[str, Any], made: Mapping[str, Any], claimed: Claimed) -> dict[str, Any]:
    """What a mapped task must have already when the file is parsed: the scheduler reads its retries there.

    kwargs: what `partial` was given; made: what Airflow's made of it. claimed: the pods of one instance.
    """
    dag = made.get("dag")
    given = {**(getattr(dag, "default_args", None) or {}), **(kwargs.get("default_args") or {}), **made}
    alert(dag, made["task_id"], given.get("deadline"))
    queue = _queue_of_mapped(given, claimed)
    if given.get("retry_policy") is not None:
        return queue
    platform, memory = given.get("platform_retries", PLATFORM_RETRIES), given.get("memory_retries", MEMORY_RETRIES)
    counted = {"retries": made["retries"], "platform_retries": platform, "memory_retries": memory}
    check(made["task_id"], {}, {}, retries=counted)
    policy = CauseRetryPolicy(made["retries"], platform, memory)
    return {"retries": policy.limits.total, "retry_policy": policy, **queue}


MAIN_DEFAULTS: Mapping[str, Any] = {"cores": 1, "memory": "2Gi", "market": "on-demand"}
"""What the main pod of a job of several gets where its author says nothing."""

_ASKED = ("cores", "memory", "gpus", "machine", "exclusive", "team")


def placed(given: Mapping[str, Any], capacity: Capacity, main: str = "") -> Placement:
    """Where a job of these arguments goes; main: its main pod, by what the arguments of that begin with.

    Raises JobError where it can't be.
    """
    if main:
        given = {
            "task_id": given["task_id"],
            "team": given.get("team"),
            "exclusive": False,
            **{name: given.get(f"{main}_{name}", default) for name, default in MAIN_DEFAULTS.items()},
        }
    asked = {name: given[name] for name in _ASKED if name in given}
    job = Job(given["task_id"], pool=named_pool(given.get("pool", NO_POOL)), **asked)
    return place(job, offered(capacity, given.get("market"), ""))


def _queue_of_mapped(given: Mapping[str, Any], claimed: Claimed) -> dict[str, Any]:
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
        if claim := queues.claim(claimed(given, capacity), capacity):
            slots = given["pool_slots"] if given.get("pool_slots", 1) != 1 else claim.slots
            named = named_pool(given.get("pool", NO_POOL)) or NO_POOL
            found |= {"pool": QueuedPool(claim.queue.name, named), "pool_slots": slots}
    return found
