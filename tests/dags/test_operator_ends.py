"""How attempts end: the stock operator's real code against a Kubernetes of one namespace in memory."""

from __future__ import annotations

import datetime
from typing import Any
from unittest import mock

import pytest
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from airflow.sdk.exceptions import AirflowTaskTimeout
from urllib3.exceptions import ProtocolError

from tests.dags.attempts import failed, of_pods, run, without_waits
from tests.dags.fake_kubernetes import Kubernetes, Watch, task
from tidepool import Cause, JobFailed
from tidepool.outcome import VERDICT, Seen, conclude


@pytest.fixture
def kubernetes(capacity_file: object, monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    return without_waits(monkeypatch)


def test_a_job_that_succeeds_leaves_no_pod(kubernetes: Kubernetes) -> None:
    run(task(kubernetes))
    assert len(kubernetes.created) == 1
    assert kubernetes.deleted == kubernetes.created


@pytest.mark.parametrize(
    ("exit_code", "reason", "cause"),
    [(1, "Error", Cause.APP_ERROR), (137, "OOMKilled", Cause.OUT_OF_MEMORY), (52, "Error", Cause.OUT_OF_MEMORY)],
)
def test_a_job_that_fails_says_why_and_leaves_no_pod(
    kubernetes: Kubernetes, exit_code: int, reason: str, cause: Cause
) -> None:
    def script(name: str) -> None:
        kubernetes.end(name, "Failed", exit_code, reason)
        Watch.last = kubernetes.api_client.sanitize_for_serialization(kubernetes.pods[name])

    kubernetes.script = script
    assert failed(task(kubernetes)).cause is cause
    assert kubernetes.pods == {}


@pytest.mark.parametrize("pod_ends_as", ["deleted", "Failed", "Succeeded"])
def test_a_stopped_task_is_never_a_success(kubernetes: Kubernetes, pod_ends_as: str) -> None:
    operator = task(kubernetes)

    def script(name: str) -> None:
        pod = kubernetes.pods[name]
        operator.on_kill()
        if pod_ends_as != "deleted":  # the pod is still there for its grace period
            kubernetes.pods[name] = pod
            kubernetes.end(name, pod_ends_as, 143 if pod_ends_as == "Failed" else 0)

    kubernetes.script = script
    assert failed(operator).cause is Cause.CANCELLED
    assert kubernetes.deleted == kubernetes.created


@pytest.mark.parametrize("when", ["before its pod is made", "before the answer"])
def test_a_task_whose_time_is_up_before_it_saw_its_pod_is_timed_out_and_leaves_none(
    kubernetes: Kubernetes, when: str
) -> None:
    create = kubernetes.create_namespaced_pod

    def overtime(*arguments: Any, **keywords: Any) -> None:
        if when == "before the answer":
            create(*arguments, **keywords)
        raise AirflowTaskTimeout("Timeout")

    kubernetes.create_namespaced_pod = overtime  # type: ignore[method-assign]
    error = failed(task(kubernetes, execution_timeout=datetime.timedelta(seconds=1)))
    assert error.cause is Cause.TIMED_OUT
    assert "it ran longer than its execution_timeout of 0:00:01" in error.message
    assert kubernetes.pods == {}


def test_a_stopped_task_is_no_success_where_cleaning_up_is_all_that_is_left(kubernetes: Kubernetes) -> None:
    operator = task(kubernetes)
    operator.pod = kubernetes.put("p")
    operator.on_kill()
    with pytest.raises(JobFailed, match="cancelled"):
        operator.cleanup(pod=operator.pod, remote_pod=operator.pod)


@pytest.mark.parametrize(
    ("last_seen", "cause"),
    [
        ({"status": {"phase": "Running"}, "spec": {"nodeName": "i-1"}}, Cause.UNKNOWN),
        (
            {
                "metadata": {"deletionTimestamp": "2026-11-22T10:00:00Z"},
                "status": {
                    "phase": "Failed",
                    "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}],
                },
            },
            Cause.EVICTED,
        ),
    ],
)
def test_a_pod_that_vanishes_has_the_cause_that_was_seen_last(
    kubernetes: Kubernetes, last_seen: dict[str, Any], cause: Cause
) -> None:
    def script(name: str) -> None:
        Watch.last = last_seen
        del kubernetes.pods[name]

    kubernetes.script = script
    assert failed(task(kubernetes)).cause is cause


def test_a_pod_that_vanishes_after_it_was_seen_to_succeed_is_a_success(kubernetes: Kubernetes) -> None:
    def script(name: str) -> None:
        Watch.last = {"status": {"phase": "Succeeded"}}
        del kubernetes.pods[name]

    kubernetes.script = script
    run(task(kubernetes))


def test_a_pod_without_a_machine_in_time_is_unschedulable(kubernetes: Kubernetes) -> None:
    operator = task(kubernetes)

    def no_machine(**_: Any) -> None:
        unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
        Watch.last = {"status": {"phase": "Pending", "conditions": [unscheduled]}}
        raise PodLaunchTimeoutException("took too long")

    with mock.patch.object(operator, "await_pod_start", no_machine):
        error = failed(operator)
    assert error.cause is Cause.UNSCHEDULABLE
    assert "0/1 nodes are available" in str(error)
    assert kubernetes.pods == {}


def test_an_end_that_the_watch_has_not_seen_is_named_by_what_the_operator_read(kubernetes: Kubernetes) -> None:
    def script(name: str) -> None:
        Watch.last = kubernetes.json(name)
        kubernetes.end(name, "Failed", 137, "OOMKilled")

    kubernetes.script = script
    assert failed(task(kubernetes)).cause is Cause.OUT_OF_MEMORY


def test_a_task_that_times_out_is_timed_out(kubernetes: Kubernetes) -> None:
    def script(name: str) -> None:
        raise AirflowTaskTimeout("Timeout")

    kubernetes.script = script
    assert failed(task(kubernetes)).cause is Cause.TIMED_OUT
    assert kubernetes.pods == {}


# What the task writes on a pod that it gives up.


def overtime(name: str) -> None:
    raise AirflowTaskTimeout("Timeout")


def test_a_pod_that_is_given_up_carries_its_cause_to_whoever_watches(kubernetes: Kubernetes) -> None:
    last, kubernetes.script = of_pods(kubernetes), overtime
    assert failed(task(kubernetes)).cause is Cause.TIMED_OUT
    [pod] = last
    assert pod["metadata"]["annotations"][VERDICT] == "timed_out"
    assert conclude(Seen(pod, gone=True)).cause is Cause.TIMED_OUT


def test_a_pod_that_is_given_up_is_deleted_also_where_nothing_can_be_written_on_it(kubernetes: Kubernetes) -> None:
    kubernetes.script = overtime
    with mock.patch.object(kubernetes, "patch_namespaced_pod", side_effect=ProtocolError("reset")):
        assert failed(task(kubernetes)).cause is Cause.TIMED_OUT
    assert kubernetes.pods == {}


def test_a_pod_that_has_ended_by_itself_says_so_itself(kubernetes: Kubernetes) -> None:
    last = of_pods(kubernetes)

    def ends_at_the_last_moment(name: str) -> None:
        kubernetes.end(name, "Failed", 1, "Error")
        overtime(name)

    kubernetes.script = ends_at_the_last_moment
    failed(task(kubernetes))
    kubernetes.script = lambda name: kubernetes.end(name, "Succeeded")
    run(task(kubernetes), attempt=2)
    assert [VERDICT in pod["metadata"]["annotations"] for pod in last] == [False, False]
