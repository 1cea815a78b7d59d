"""How deferred attempts end: by what the trigger says and what is there of the pod."""

from __future__ import annotations

import datetime
import inspect
from pathlib import Path
from unittest import mock

import pytest
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.sdk.exceptions import TaskDeferred
from kubernetes.client import V1ContainerStateWaiting, V1PodCondition

from tests.dags.attempts import of_pods, run, without_waits
from tests.dags.fake_kubernetes import NAMESPACE, Kubernetes, context, task
from tidepool import Cause, JobFailed
from tidepool.operators import job_pod
from tidepool.outcome import VERDICT

OVERTIME = "execution_timeout deadline"
"""What the trigger's message says where the task's time, and not that of its start, is up."""


@pytest.fixture
def kubernetes(capacity_file: object, monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    return without_waits(monkeypatch)


@pytest.mark.parametrize("status", ["success", "failed"])
def test_a_deferred_task_that_was_stopped_is_never_a_success(kubernetes: Kubernetes, status: str) -> None:
    operator = task(kubernetes, deferrable=True)
    event = {"status": status, "name": "gone", "namespace": NAMESPACE, "message": ""}
    operator._killed = True
    with pytest.raises(JobFailed, match="cancelled"):
        operator.trigger_reentry(context(), event)


def test_a_deferred_task_whose_pod_is_gone_says_so(kubernetes: Kubernetes) -> None:
    operator = task(kubernetes, deferrable=True)
    event = {"status": "failed", "name": "gone", "namespace": NAMESPACE, "message": ""}
    with pytest.raises(JobFailed) as caught:
        operator.trigger_reentry(context(), event)
    assert caught.value.cause is Cause.UNKNOWN


def test_a_deferred_task_whose_pod_went_with_its_machine_says_so(kubernetes: Kubernetes) -> None:
    placed = {
        "reason": "Scheduled",
        "message": f"Successfully assigned {NAMESPACE}/gone to i-9",
        "eventTime": "2026-11-22T10:00:00.123456Z",
        "involvedObject": {"kind": "Pod", "name": "gone", "uid": "u"},
    }
    kubernetes.events["involvedObject.kind=Pod,involvedObject.name=gone"] = [placed]
    kubernetes.nodes = {}
    operator = task(kubernetes, deferrable=True)
    event = {"status": "error", "name": "gone", "namespace": NAMESPACE, "message": "404"}
    with pytest.raises(JobFailed, match="its machine i-9 is gone") as caught:
        operator.trigger_reentry(context(), event)
    assert caught.value.cause is Cause.NODE_LOST
    again = {"metadata": {"creationTimestamp": "2026-11-22T11:00:00Z"}}
    kubernetes.nodes = {"i-9": again}
    with pytest.raises(JobFailed, match="its machine i-9 is gone"):
        operator.trigger_reentry(context(), event)


def test_a_deferred_task_whose_pod_is_gone_with_its_result_has_not_succeeded(kubernetes: Kubernetes) -> None:
    event = {"status": "success", "name": "gone", "namespace": NAMESPACE}
    with pytest.raises(JobFailed, match="gone before its result was read") as caught:
        task(kubernetes, deferrable=True, do_xcom_push=True).trigger_reentry(context(), event)
    assert caught.value.cause is Cause.UNKNOWN
    assert task(kubernetes, deferrable=True).trigger_reentry(context(), event) is None


def test_a_deferred_task_says_how_its_pod_failed(kubernetes: Kubernetes) -> None:
    kubernetes.put("p")
    kubernetes.end("p", "Failed", 1, "Error")
    operator = task(kubernetes, deferrable=True)
    event = {"status": "failed", "name": "p", "namespace": NAMESPACE, "message": "Container failed"}
    with pytest.raises(JobFailed) as caught:
        operator.trigger_reentry(context(), event)
    assert caught.value.cause is Cause.APP_ERROR
    assert kubernetes.pods == {}


def test_the_trigger_gets_no_second_configuration_beside_the_connections(
    kubernetes: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider's hook refuses two, and its operator takes the environment's besides."""
    (tmp_path / "config").write_text("{kind: Config}")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    for given, wanted in ((None, None), (str(tmp_path / "config"), {"kind": "Config"})):
        operator = task(kubernetes, deferrable=True, config_file=given)
        operator.convert_config_file_to_dict()
        assert operator._config_dict == wanted


def test_a_deferred_task_that_runs_out_of_its_time_is_timed_out(kubernetes: Kubernetes) -> None:
    last = of_pods(kubernetes)
    kubernetes.put("p")
    operator = task(kubernetes, deferrable=True, execution_timeout=datetime.timedelta(hours=1))
    event = {"status": "timeout", "name": "p", "namespace": NAMESPACE, "message": f"exceeded the {OVERTIME}."}
    with pytest.raises(JobFailed) as caught:
        operator.trigger_reentry(context(), event)
    assert caught.value.cause is Cause.TIMED_OUT
    assert kubernetes.pods == {}
    assert last[0]["metadata"]["annotations"][VERDICT] == "timed_out"


def test_a_deferred_task_without_a_machine_in_time_does_not_wait_for_a_result(kubernetes: Kubernetes) -> None:
    last = of_pods(kubernetes)
    kubernetes.put("p", "Pending").status.conditions = [
        V1PodCondition(type="PodScheduled", status="False", message="0/1 nodes are available")
    ]
    operator = task(kubernetes, deferrable=True, do_xcom_push=True, get_logs=False)
    event = {"status": "timeout", "name": "p", "namespace": NAMESPACE, "message": "not scheduled in time"}
    with (
        mock.patch.object(job_pod.JobPodManager, "await_pod_completion") as waited,
        pytest.raises(JobFailed, match="0/1 nodes are available") as caught,
    ):
        operator.trigger_reentry(context(), event)
    assert not waited.called
    assert caught.value.cause is Cause.UNSCHEDULABLE
    assert last[0]["metadata"]["annotations"][VERDICT] == "unschedulable"


def test_a_deferred_task_whose_image_does_not_come_says_so(kubernetes: Kubernetes) -> None:
    last = of_pods(kubernetes)
    pod = kubernetes.put("p", "Pending")
    pod.spec.node_name = "i-1"
    pod.status.conditions = [V1PodCondition(type="PodScheduled", status="True")]
    kubernetes.set_state("p", waiting=V1ContainerStateWaiting(reason="ImagePullBackOff", message="refused"))
    operator = task(kubernetes, deferrable=True, do_xcom_push=True, get_logs=False)
    event = {"status": "error", "name": "p", "namespace": NAMESPACE, "message": "Image cannot be pulled"}
    event["stack_trace"] = f"Traceback …\n{PodLaunchFailedException.__name__}: Image cannot be pulled"
    with pytest.raises(JobFailed) as caught:
        operator.trigger_reentry(context(), event)
    assert caught.value.cause is Cause.IMAGE_PULL
    assert last[0]["metadata"]["annotations"][VERDICT] == "image_pull"


def test_the_providers_trigger_says_so_in_these_words() -> None:
    assert inspect.getsource(KubernetesPodTrigger).count(OVERTIME) >= 3


def test_deferring_is_not_an_end(kubernetes: Kubernetes) -> None:
    operator = task(kubernetes, deferrable=True)
    with (
        mock.patch.object(
            operator, "invoke_defer_method", side_effect=TaskDeferred(trigger=mock.Mock(), method_name="m")
        ),
        pytest.raises(TaskDeferred),
    ):
        run(operator)
    assert len(kubernetes.pods) == 1
