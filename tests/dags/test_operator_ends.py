"""How attempts end: the stock operator's real code against a Kubernetes of one namespace in memory."""

from __future__ import annotations

import datetime
import inspect
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from kubernetes.client import V1ContainerStateWaiting, V1PodCondition
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError

from tests.dags.fake_kubernetes import NAMESPACE, NOW, Kubernetes, Store, Watch, context, task
from tidepool import Cause, JobFailed, SparkPodOperator
from tidepool.operators import job_pod, lease, reattach
from tidepool.outcome import VERDICT, Seen, conclude
from tidepool.retries import Attempt, dump

OVERTIME = "execution_timeout deadline"
"""What the trigger's message says where the task's time, and not that of its start, is up."""


@pytest.fixture
def kubernetes(capacity_file: object, monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    monkeypatch.setattr("tidepool.operators.attempt.PodWatch", Watch)
    monkeypatch.setattr(lease, "Lease", Watch)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    return Kubernetes()


def run(operator: SparkPodOperator, attempt: int = 1) -> None:
    operator.execute(context(attempt))


def failed(operator: SparkPodOperator, attempt: int = 1) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        run(operator, attempt)
    return caught.value


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


def test_an_error_that_is_not_about_the_pod_stays_what_it_is(kubernetes: Kubernetes) -> None:
    operator = task(kubernetes)
    with (
        mock.patch.object(operator, "await_pod_start", side_effect=ApiException(status=400, reason="Bad Request")),
        mock.patch.object(operator, "cleanup"),
        pytest.raises(ApiException, match="Bad Request"),
    ):
        run(operator)


@pytest.mark.parametrize(
    "outage",
    [
        [ProtocolError("connection refused")] * 30,
        [ApiException(status=503, reason="not ready")] * 30,
        [ApiException(status=403, reason="roles not read yet")] * 5,
    ],
)
def test_a_job_outlasts_an_outage_of_the_api_server(kubernetes: Kubernetes, outage: list[BaseException]) -> None:
    def script(name: str) -> None:
        kubernetes.failures = list(outage)
        kubernetes.end(name, "Succeeded")

    kubernetes.script = script
    run(task(kubernetes))
    assert len(kubernetes.created) == 1


def test_a_log_that_cannot_be_read_for_a_while_is_resumed(kubernetes: Kubernetes) -> None:
    operator = task(kubernetes)
    read, broken = kubernetes.read_namespaced_pod_log, [ApiException(status=502, reason="Bad Gateway")] * 20

    def flaky(*arguments: Any, **keywords: Any) -> Any:
        if broken:
            raise broken.pop()
        return read(*arguments, **keywords)

    with mock.patch.object(kubernetes, "read_namespaced_pod_log", flaky):
        run(operator)
    assert not broken
    assert len(kubernetes.created) == 1


def test_a_lost_answer_to_create_makes_no_second_pod(kubernetes: Kubernetes) -> None:
    kubernetes.failures = []
    operator = task(kubernetes, durable=False)
    create = kubernetes.create_namespaced_pod

    def lost_once(*arguments: Any, **keywords: Any) -> Any:
        if not kubernetes.created:
            create(*arguments, **keywords)
            raise ProtocolError("connection reset")
        return create(*arguments, **keywords)

    with mock.patch.object(kubernetes, "create_namespaced_pod", lost_once):
        run(operator)
    assert len(kubernetes.created) == 1


def test_the_next_attempt_goes_on_with_the_pod_that_a_killed_one_left(kubernetes: Kubernetes) -> None:
    kubernetes.put("left")
    run(task(kubernetes), attempt=2)
    assert kubernetes.created == []
    assert kubernetes.deleted == ["left"]


def test_a_pod_that_succeeded_while_nobody_looked_is_not_run_again(kubernetes: Kubernetes) -> None:
    kubernetes.put("left")
    kubernetes.end("left", "Succeeded")
    run(task(kubernetes), attempt=2)
    assert kubernetes.created == []


def test_a_pod_that_failed_while_nobody_looked_is_told_and_not_run_again_beyond_what_its_author_granted(
    kubernetes: Kubernetes,
) -> None:
    kubernetes.put("left")
    kubernetes.end("left", "Failed", 1)
    assert failed(task(kubernetes), attempt=2).cause is Cause.APP_ERROR
    assert (kubernetes.created, kubernetes.deleted) == ([], ["left"])


@pytest.mark.parametrize("reason", ["its machine's", "before the task was cleared", "told already"])
def test_a_pod_that_failed_while_nobody_looked_is_run_again_where_that_end_does_not_count(
    kubernetes: Kubernetes, reason: str
) -> None:
    store, told = Store(), context(attempt=2)
    left = kubernetes.put("left", labels={"try_number": "1"})
    kubernetes.end("left", "Failed", 1)
    if reason == "its machine's":
        left.status.conditions = [
            V1PodCondition(type="DisruptionTarget", status="True", reason="EvictionByEvictionAPI")
        ]
    elif reason == "before the task was cleared":
        told["ti"].max_tries = 2 + 15 - 1
    else:
        store.set("tidepool_attempts", dump([Attempt(1, Cause.APP_ERROR)]))
        told = context(attempt=2, store=store)
    task(kubernetes).execute(told)
    assert len(kubernetes.created) == 1
    assert kubernetes.deleted == ["left", *kubernetes.created]


def test_a_pod_on_its_way_out_is_waited_for_and_not_gone_on_with(
    kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes.put("left", deletion_timestamp=datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30))
    order: list[str] = []

    def sleep(_: float) -> None:
        if kubernetes.pods.pop("left", None):
            order.append("left is gone")

    monkeypatch.setattr(reattach.time, "sleep", sleep)
    operator = task(kubernetes)
    create = kubernetes.create_namespaced_pod
    with mock.patch.object(
        kubernetes, "create_namespaced_pod", lambda *a, **k: order.append("created") or create(*a, **k)
    ):
        run(operator, attempt=2)
    assert order == ["left is gone", "created"]


def test_a_pod_that_never_goes_away_does_not_hold_the_job_up_for_ever(kubernetes: Kubernetes) -> None:
    stuck = kubernetes.put("stuck", deletion_timestamp=NOW - datetime.timedelta(hours=1))
    run(task(kubernetes), attempt=2)
    assert len(kubernetes.created) == 1
    assert stuck.metadata.labels["already_checked"] == "True"


def test_of_two_pods_of_one_task_the_newer_is_kept(kubernetes: Kubernetes) -> None:
    kubernetes.put("newer")
    kubernetes.put("older", creation_timestamp=NOW - datetime.timedelta(minutes=1))
    run(task(kubernetes), attempt=2)
    assert kubernetes.created == []
    assert kubernetes.deleted == ["older", "newer"]


def test_an_attempt_that_was_taken_over_leaves_the_pod_alone(kubernetes: Kubernetes) -> None:
    old, new = task(kubernetes), task(kubernetes)

    def script(name: str) -> None:
        new.get_or_create_pod(kubernetes.pods[name], context(attempt=2))
        old.on_kill()
        assert name in kubernetes.pods
        kubernetes.end(name, "Succeeded")

    kubernetes.script = script
    assert failed(old, attempt=1).cause is Cause.CANCELLED
    assert kubernetes.deleted == []


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


def test_an_end_that_the_watch_has_not_seen_is_named_by_what_the_operator_read(kubernetes: Kubernetes) -> None:
    def script(name: str) -> None:
        Watch.last = kubernetes.json(name)
        kubernetes.end(name, "Failed", 137, "OOMKilled")

    kubernetes.script = script
    assert failed(task(kubernetes)).cause is Cause.OUT_OF_MEMORY


# What the task writes on a pod that it gives up.


def of_pods(kubernetes: Kubernetes) -> list[dict[str, Any]]:
    """Collects each pod as it is deleted, as a watch would see it last."""
    last: list[dict[str, Any]] = []
    delete = kubernetes.delete_namespaced_pod

    def deleted(name: str, namespace: str, body: Any = None, **more: Any) -> None:
        last.append(kubernetes.json(name))
        last[-1]["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z"
        delete(name, namespace, body, **more)

    kubernetes.delete_namespaced_pod = deleted  # type: ignore[method-assign]
    return last


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


def test_a_task_that_times_out_is_timed_out(kubernetes: Kubernetes) -> None:
    def script(name: str) -> None:
        raise AirflowTaskTimeout("Timeout")

    kubernetes.script = script
    assert failed(task(kubernetes)).cause is Cause.TIMED_OUT
    assert kubernetes.pods == {}
