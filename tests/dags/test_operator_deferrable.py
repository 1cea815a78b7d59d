"""Every kind of job may be deferred: it leaves the worker, and comes back to its pod's end as one that stayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from tests.dags.fake_kubernetes import NAMESPACE, Kubernetes, connect, context
from tidepool import (
    Cause,
    DaskClusterOperator,
    DaskPodOperator,
    JobError,
    JobFailed,
    JobPodOperator,
    SparkClusterOperator,
    SparklingWaterPodOperator,
    SparkPodOperator,
)

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "job": (JobPodOperator, {"image": "i:1"}),
    "command": (JobPodOperator, {"image": "i:1", "cmds": ["true"]}),
    "spark": (SparkPodOperator, {"application": "a.py"}),
    "spark with executors": (SparkPodOperator, {"application": "a.py", "executors": 1}),
    "spark cluster": (SparkClusterOperator, {"application": "a.py", "executors": (1, 3)}),
    "dask": (DaskPodOperator, {"application": "a.py", "image": "i:1"}),
    "sparkling water": (SparklingWaterPodOperator, {"application": "a.py", "image": "i:1"}),
}


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, kubernetes: Kubernetes) -> Callable[..., Any]:
    """Makes the operator, anew for each time that a worker has the task."""
    kind, what = KINDS[request.param]

    def make(**more: Any) -> Any:
        given = {"task_id": "clean", "deferrable": True, "kubernetes_conn_id": None, **what}
        return connect(kind(**given | more), kubernetes)

    return make


def left(operator: JobPodOperator) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context())
    return caught.value


def event_of(deferred: TaskDeferred, **more: Any) -> dict[str, Any]:
    trigger = deferred.trigger.serialize()[1]
    assert (deferred.method_name, trigger["pod_namespace"]) == ("trigger_reentry", NAMESPACE)
    return {"name": trigger["pod_name"], "namespace": trigger["pod_namespace"], **more}


def test_its_pod_is_left_running_and_is_gone_after_its_good_end(
    kubernetes: Kubernetes, made: Callable[..., Any]
) -> None:
    deferred = left(made())
    assert list(kubernetes.pods) == kubernetes.created
    (name,) = kubernetes.pods
    kubernetes.end(name, "Succeeded")
    assert made().trigger_reentry(context(), event_of(deferred, status="success")) is None
    assert (kubernetes.pods, kubernetes.created) == ({}, [name])


def test_its_bad_end_is_named(kubernetes: Kubernetes, made: Callable[..., Any]) -> None:
    deferred = left(made())
    (name,) = kubernetes.pods
    kubernetes.end(name, "Failed", 137, "OOMKilled")
    with pytest.raises(JobFailed) as caught:
        made().trigger_reentry(context(), event_of(deferred, status="failed", message="Container state failed"))
    assert caught.value.cause is Cause.OUT_OF_MEMORY
    assert kubernetes.pods == {}


def test_its_next_attempt_takes_its_pod_over(kubernetes: Kubernetes, made: Callable[..., Any]) -> None:
    left(made())
    (name,) = kubernetes.pods
    with pytest.raises(TaskDeferred):
        made().execute(context(2))
    assert (list(kubernetes.pods), kubernetes.created) == ([name], [name])


@pytest.mark.usefixtures("capacity_file")
def test_a_dask_job_of_several_pods_is_not_as_its_task_replaces_workers() -> None:
    with pytest.raises(JobError, match="deferrable: not with workers' pods"):
        DaskClusterOperator(task_id="t", application="a.py", image="i:1", deferrable=True)
