"""What jobs return to their DAG: JSON from the pod's status, without a sidecar."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from kubernetes import client

from tests.dags.fake_kubernetes import Kubernetes, Watch, context, task
from tidepool import Cause, JobFailed
from tidepool.result import result


def returns(kubernetes: Kubernetes, text: str, exit_code: int = 0) -> None:
    """Programs end like this."""

    def end(name: str) -> None:
        kubernetes.pods[name].status.phase = "Failed" if exit_code else "Succeeded"
        ended = client.V1ContainerStateTerminated(exit_code=exit_code, reason="Completed", message=text)
        kubernetes.set_state(name, terminated=ended)

    kubernetes.script = end


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"rows": 3}', {"rows": 3}), ('["a", 1]', ["a", 1]), ('"x"\n', "x"), ("null", None), ("", None)],
)
def test_a_task_returns_the_json_that_its_program_left(kubernetes: Kubernetes, text: str, value: Any) -> None:
    returns(kubernetes, text)
    assert task(kubernetes, do_xcom_push=True).execute(context()) == value
    assert kubernetes.pods == {}


def test_the_pod_has_no_sidecar(kubernetes: Kubernetes) -> None:
    operator = task(kubernetes, do_xcom_push=True)
    returns(kubernetes, "1")
    operator.execute(context())
    (body,) = kubernetes.bodies
    assert [container["name"] for container in body["spec"]["containers"]] == ["base"]
    assert [volume["name"] for volume in body["spec"]["volumes"]] == ["scratch"]
    assert operator.do_xcom_push is True


def test_without_do_xcom_push_nothing_is_returned(kubernetes: Kubernetes) -> None:
    returns(kubernetes, '{"rows": 3}')
    assert task(kubernetes).execute(context()) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rows: 3", r"its result in /dev/termination-log is no JSON: .*; it begins with 'rows: 3'"),
        ('["' + "x" * 4094, r"its result in /dev/termination-log is more than 4096 bytes; it begins with '\[\"xxx"),
    ],
)
def test_a_result_that_is_no_json_is_the_programs_failure_and_leaves_no_pod(
    kubernetes: Kubernetes, text: str, words: str
) -> None:
    returns(kubernetes, text)
    with pytest.raises(JobFailed, match=words) as caught:
        task(kubernetes, do_xcom_push=True).execute(context())
    assert caught.value.cause is Cause.APP_ERROR
    assert kubernetes.pods == {}


def test_a_program_that_fails_has_its_own_cause_whatever_it_returned(kubernetes: Kubernetes) -> None:
    returns(kubernetes, "no JSON", exit_code=3)
    with pytest.raises(JobFailed, match="exit code 3") as caught:
        task(kubernetes, do_xcom_push=True).execute(context())
    assert caught.value.cause is Cause.APP_ERROR


def test_a_pod_that_succeeded_while_nobody_looked_has_its_result_still(kubernetes: Kubernetes) -> None:
    kubernetes.put("left", "Succeeded")
    returns(kubernetes, '{"rows": 3}')
    kubernetes.script("left")
    assert task(kubernetes, do_xcom_push=True).execute(context(2)) == {"rows": 3}
    assert kubernetes.bodies == []


def test_a_result_is_read_from_what_was_seen_last_where_the_pod_went_with_its_machine(kubernetes: Kubernetes) -> None:
    returns(kubernetes, '{"rows": 3}')
    end = kubernetes.script

    def gone(name: str) -> None:
        end(name)
        Watch.last = kubernetes.json(name)
        del kubernetes.pods[name]

    kubernetes.script = gone
    assert task(kubernetes, do_xcom_push=True).execute(context()) == {"rows": 3}
    returns(kubernetes, "no JSON")
    end, kubernetes.script = kubernetes.script, gone
    with pytest.raises(JobFailed, match=r"its result in .* is") as caught:
        task(kubernetes, do_xcom_push=True).execute(context(2))
    assert caught.value.cause is Cause.APP_ERROR


def test_a_pod_that_is_about_to_succeed_is_not_marked_as_one_that_did_not(
    kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    returns(kubernetes, '{"rows": 3}')
    end, read = kubernetes.script, kubernetes.read_namespaced_pod
    labels: list[dict[str, str]] = []
    looks = 0

    def behind(name: str) -> None:
        end(name)
        kubernetes.pods[name].status.phase = "Running"

    def later(name: str, namespace: str, **more: Any) -> Any:
        nonlocal looks
        pod = read(name, namespace, **more)
        looks += pod.status.container_statuses[0].state.terminated is not None
        if looks > 8:
            pod.status.phase = "Succeeded"
        return pod

    def deleted(name: str, *_: Any, **__: Any) -> None:
        labels.append(kubernetes.pods.pop(name).metadata.labels)

    kubernetes.script = behind
    monkeypatch.setattr(kubernetes, "read_namespaced_pod", later)
    monkeypatch.setattr(kubernetes, "delete_namespaced_pod", deleted)
    assert task(kubernetes, do_xcom_push=True).execute(context()) == {"rows": 3}
    assert [each.get("already_checked") for each in labels] == [None]


def test_a_deferred_task_returns_it_too(kubernetes: Kubernetes) -> None:
    operator = task(kubernetes, do_xcom_push=True, deferrable=True, get_logs=False)
    with pytest.raises(TaskDeferred):
        operator.execute(context())
    (name,) = kubernetes.pods
    returns(kubernetes, '{"rows": 3}')
    kubernetes.script(name)
    again = task(kubernetes, do_xcom_push=True, deferrable=True, get_logs=False)
    event = {"name": name, "namespace": "tidepool-analytics", "status": "success", "message": ""}
    assert again.trigger_reentry(context(), event) == {"rows": 3}


def test_a_task_that_finds_its_pod_over_when_it_would_defer_returns_it_too(kubernetes: Kubernetes) -> None:
    kubernetes.put("left", "Succeeded")
    returns(kubernetes, '{"rows": 3}')
    kubernetes.script("left")
    operator = task(kubernetes, do_xcom_push=True, deferrable=True, get_logs=False)
    assert operator.execute(context(2)) == {"rows": 3}
    assert kubernetes.bodies == []
    assert kubernetes.deleted == ["left"]


def test_a_task_that_is_woken_for_nothing_and_finds_its_pod_over_returns_it_once(
    kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = task(kubernetes, do_xcom_push=True, deferrable=True, get_logs=False)
    kubernetes.put("p")
    defer = operator.invoke_defer_method

    def ended(**arguments: Any) -> None:
        returns(kubernetes, '{"rows": 3}')
        kubernetes.script("p")
        operator.pod = kubernetes.pods["p"]
        defer(**arguments)

    monkeypatch.setattr(operator, "invoke_defer_method", ended)
    event = {"name": "p", "namespace": "tidepool-analytics", "status": "error", "message": "the API server was away"}
    assert operator.trigger_reentry(context(), event) == {"rows": 3}
    assert kubernetes.deleted == ["p"]


def test_the_containers_own_message_counts_and_only_after_exit_code_0() -> None:
    def status(name: str, code: int, message: str) -> dict[str, Any]:
        return {"name": name, "state": {"terminated": {"exitCode": code, "message": message}}}

    pod = {"status": {"containerStatuses": [status("sidecar", 0, "1"), status("base", 0, "2")]}}
    assert result(pod, "base") == 2
    assert result({"status": {"containerStatuses": [status("base", 1, "2")]}}, "base") is None
    assert result({"status": {"containerStatuses": [{"name": "base", "state": {"running": {}}}]}}, "base") is None
    assert result({}, "base") is None
