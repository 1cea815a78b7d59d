"""One call of an operator in a DAG file's source, with the values of its arguments, to the job's pods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from infra.contract.problem import advised
from infra.contract.python_values import has_unknown
from infra.contract.shape import malformed
from infra.contract.template import Member, Reading, Template
from tidepool import cluster, dask_conf, ladder, sizing, spark_cluster_conf
from tidepool import pod as pods
from tidepool.capacity import Capacity
from tidepool.image import default_image
from tidepool.job import Job, JobError
from tidepool.sizing import Placement


@dataclass(frozen=True)
class Kind:
    """One of tidepool's operators. image: which it takes where none is given; empty: one must be.

    Of jobs of several pods: main: what the arguments of the main pod begin with; members: the argument that says how
    many others there are; role: what those are; drives: the main pod runs as Spark's driver.
    """

    image: str = ""
    main: str = ""
    members: str = ""
    role: str = ""
    drives: bool = False


KINDS = {
    "JobPodOperator": Kind(),
    "SparkPodOperator": Kind("spark"),
    "DaskPodOperator": Kind("dask"),
    "SparklingWaterPodOperator": Kind("h2o"),
    "SparkClusterOperator": Kind("spark", "driver", "executors", spark_cluster_conf.ROLE, drives=True),
    "SparkApplicationOperator": Kind("spark", "driver", "executors", spark_cluster_conf.ROLE),
    "DaskClusterOperator": Kind("dask", "scheduler", "workers", dask_conf.ROLE),
}

STOCK_OPERATOR = "KubernetesPodOperator"
STOCK_TIMEOUT_SECONDS = 120
"""How long KubernetesPodOperator waits for a machine unless told otherwise (provider 10.25.0)."""

MAIN_DEFAULTS = {"cores": 1, "memory": "2Gi", "market": "on-demand"}
MEMBERS_DEFAULT = 2
"""What the operators of several pods ask for where their author says nothing."""

JOB_FIELDS = tuple(each.name for each in fields(Job) if each.name != "task")

_DECISIVE = {
    *JOB_FIELDS,
    *(f"{kind.main}_{name}" for kind in KINDS.values() if kind.main for name in MAIN_DEFAULTS),
    *(kind.members for kind in KINDS.values() if kind.members),
    "affinity",
    "container_resources",
    "container_security_context",
    "full_pod_spec",
    "hostnetwork",
    "image",
    "init_containers",
    "market",
    "namespace",
    "node_selector",
    "pod_template_dict",
    "pod_template_file",
    "priority_class_name",
    "security_context",
    "service_account_name",
    "tolerations",
    "volumes",
}
"""Arguments without which nothing can be said of the pod."""


def read(reading: Reading, where: str, operator: str, given: dict[str, Any], capacity: Capacity) -> None:
    """Put a job into a reading, or what is wrong with it, or why nothing can be said of it."""
    task = given["task_id"] if isinstance(given.get("task_id"), str) else "?"
    kind = KINDS.get(operator)
    if kind is None and operator != STOCK_OPERATOR:
        reading.unread.append(f"{where}: task {task!r}: what {operator} launches is not known before the file runs")
        return
    unknown = sorted(name for name, value in given.items() if name in _DECISIVE and has_unknown(value))
    if unknown:
        reading.unread.append(f"{where}: task {task!r}: {', '.join(unknown)} not known before the file runs")
        return
    template = Template(where, f"task {task!r}", {})
    try:
        pod = _bare_pod(given) if kind is None else _main_pod(kind, task, given, capacity)
        _lay_over(pod, given)
        if wrong := malformed(pod):
            reading.problems.append(template.problem("malformed", f"its pod is none: {'; '.join(wrong)}", "Correct it"))
            return
        pod, members = _members(kind, task, given, pod, capacity) if kind and kind.members else (pod, ())
    except JobError as error:
        reading.problems.append(advised(where, "job", str(error), "Ask for what the stack's pools have"))
        return
    wait = given.get("schedule_timeout_seconds")
    if wait is None and kind is not None:
        wait = capacity.schedule_timeout_seconds
    elif wait is None:
        wait = given.get("startup_timeout_seconds", STOCK_TIMEOUT_SECONDS)
    limit = given.get("execution_timeout")
    reading.templates.append(
        Template(
            where=where,
            subject=template.subject,
            pod=pod,
            schedule_timeout_seconds=wait if isinstance(wait, int) else None,
            execution_timeout_seconds=limit.total_seconds() if isinstance(limit, timedelta) else None,
            members=members,
        )
    )


def _main_pod(kind: Kind, task: str, given: Mapping[str, Any], capacity: Capacity) -> dict[str, Any]:
    image = given.get("image")
    if not image and not kind.image:
        raise JobError(f"task {task!r}: it has no image")
    if isinstance(image, str):
        image = capacity.images.get(image, image)
    image = image or default_image(task, kind.image, capacity)
    asked = given
    if kind.main:
        asked = {name: given.get(f"{kind.main}_{name}", default) for name, default in MAIN_DEFAULTS.items()}
        asked |= {"exclusive": False, "team": given.get("team")}
    return pods.manifest(_placement(task, asked, capacity), image, capacity)


def _members(
    kind: Kind, task: str, given: Mapping[str, Any], pod: dict[str, Any], capacity: Capacity
) -> tuple[dict[str, Any], tuple[Member, ...]]:
    """The main pod as it is with members, and those."""
    fewest, most = _count(kind, task, given)
    made = cluster.member(pod, _placement(task, given, capacity), capacity, kind.role)
    many = str(most) if fewest == most else f"{fewest} to {most}"
    member = Member(f"each of {many} {kind.members}", max(1, fewest), made)
    return spark_cluster_conf.driver(pod, made) if kind.drives else pod, (member,)


def _count(kind: Kind, task: str, given: Mapping[str, Any]) -> tuple[int, int]:
    asked = given.get(kind.members, MEMBERS_DEFAULT)
    if kind.members == "executors":
        return spark_cluster_conf.executor_count(task, tuple(asked) if isinstance(asked, list) else asked)
    if type(asked) is not int or asked < 1:
        raise JobError(f"task {task!r}: {kind.members} must be a whole number of at least 1, not {asked!r}")
    return asked, asked


def _placement(task: str, asked: Mapping[str, Any], capacity: Capacity) -> Placement:
    job = Job(task=task, **{name: asked[name] for name in JOB_FIELDS if asked.get(name) is not None})
    return sizing.place(job, ladder.offered(capacity, asked.get("market"), task))


def _bare_pod(given: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "base", "image": given.get("image")}]}
    if given.get("affinity"):
        spec["affinity"] = given["affinity"]
    if given.get("container_resources"):
        spec["containers"][0]["resources"] = given["container_resources"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default"}, "spec": spec}


def _lay_over(pod: dict[str, Any], given: Mapping[str, Any]) -> None:
    """What KubernetesPodOperator's own arguments make of the pod."""
    metadata, spec, container = pod["metadata"], pod["spec"], pod["spec"]["containers"][0]
    for argument, target, key in (
        ("namespace", metadata, "namespace"),
        ("node_selector", spec, "nodeSelector"),
        ("service_account_name", spec, "serviceAccountName"),
        ("priority_class_name", spec, "priorityClassName"),
        ("hostnetwork", spec, "hostNetwork"),
        ("init_containers", spec, "initContainers"),
        ("security_context", spec, "securityContext"),
        ("container_security_context", container, "securityContext"),
    ):
        if given.get(argument):
            target[key] = given[argument]
    for key in ("tolerations", "volumes"):
        if more := given.get(key):
            spec[key] = [*(spec.get(key) or []), *more] if isinstance(more, list) else more
    more = given.get("annotations")
    if more and not has_unknown(more):
        own = metadata.get("annotations") or {}
        metadata["annotations"] = own | more if isinstance(more, dict) else more
