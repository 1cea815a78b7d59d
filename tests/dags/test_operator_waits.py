"""How long an attempt waits for its team's quota, a machine, its image and its end, and what it says then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any
from unittest import mock

import pytest
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.sdk.exceptions import TaskDeferred
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.dags.attempts import failed, pools_of
from tests.dags.fake_kubernetes import Clock, Kubernetes, context, task
from tidepool import Cause, JobPodOperator
from tidepool.operators import lease


def test_where_nothing_has_machines_the_pod_waits_for_whichever_comes_first_and_then_says_which(
    kubernetes: Kubernetes, clock: Clock
) -> None:
    kubernetes.phase = lambda body: "Pending"
    kubernetes.script = lambda name: None
    operator = task(kubernetes, schedule_timeout_seconds=600)
    error = failed(operator)
    assert error.cause is Cause.UNSCHEDULABLE
    assert "no machine of spot-small, on-demand-small within schedule_timeout_seconds=600" in error.message
    assert pools_of(kubernetes.bodies[-1]) == ["spot-small", "on-demand-small"]
    assert 600 <= clock.passed <= 605
    assert kubernetes.pods == {}


def test_a_job_that_waited_long_for_its_teams_quota_still_has_all_its_time_for_a_machine(
    kubernetes: Kubernetes, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = kubernetes.create_namespaced_pod

    def refused(*arguments: Any, **keywords: Any) -> Any:
        if clock.passed < 1750:
            error = ApiException(status=403, reason="Forbidden")
            error.body = 'pods "clean" is forbidden: exceeded quota: q'
            raise error
        return create(*arguments, **keywords)

    kubernetes.create_namespaced_pod = refused  # type: ignore[method-assign]
    kubernetes.phase = lambda body: "Pending"
    clock.at = [(1750 + 500, lambda: [kubernetes.bind(name) for name in kubernetes.pods] and None)]
    task(kubernetes).execute(context())
    assert 2250 <= clock.passed < 2270


def waiting(kubernetes: Kubernetes, reason: str, message: str) -> Callable[[dict[str, Any]], str]:
    """Pods get a machine and then hang like this."""

    def phase(body: dict[str, Any]) -> str:
        def hang() -> None:
            pod = kubernetes.pods[body["metadata"]["name"]]
            pod.status.conditions = [client.V1PodCondition(type="PodScheduled", status="True")]
            kubernetes.set_state(
                body["metadata"]["name"], waiting=client.V1ContainerStateWaiting(reason=reason, message=message)
            )

        hangs.append(hang)
        return "Pending"

    hangs: list[Callable[[], None]] = []
    create = kubernetes.create_namespaced_pod

    def created(*arguments: Any, **keywords: Any) -> Any:
        made = create(*arguments, **keywords)
        hangs.pop()()
        return made

    kubernetes.create_namespaced_pod = created  # type: ignore[method-assign]
    return phase


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("reason", "message", "cause", "seconds"),
    [
        ("ErrImagePull", "rpc error: code = NotFound desc = not found", Cause.IMAGE_PULL, (0, 5)),
        ("InvalidImageName", "couldn't parse image name", Cause.IMAGE_PULL, (0, 5)),
        ("ImagePullBackOff", "dial tcp: connection refused", Cause.IMAGE_PULL, (600, 605)),
        ("ContainerCreating", "", Cause.TIMED_OUT, (600, 605)),
        ("CreateContainerConfigError", 'secret "x" not found', Cause.APP_ERROR, (600, 605)),
    ],
)
def test_what_holds_a_pod_up_on_its_machine_is_named_in_its_time(
    kubernetes: Kubernetes,
    clock: Clock,
    reason: str,
    message: str,
    cause: Cause,
    seconds: tuple[int, int],
    deferrable: bool,
) -> None:
    kubernetes.phase = waiting(kubernetes, reason, message)
    error = failed(task(kubernetes, deferrable=deferrable))
    assert error.cause is cause
    assert message in error.message
    assert seconds[0] <= clock.passed <= seconds[1]
    assert kubernetes.pods == {}


def test_a_deferred_task_leaves_the_worker_on_its_last_rung(kubernetes: Kubernetes, clock: Clock) -> None:
    kubernetes.phase = lambda body: "Pending"
    with pytest.raises(TaskDeferred):
        task(kubernetes, deferrable=True, kubernetes_conn_id=None).execute(context())
    assert pools_of(kubernetes.bodies[-1]) == ["spot-small", "on-demand-small"]
    assert len(kubernetes.pods) == 1
    (pod,) = kubernetes.pods.values()
    until = datetime.fromisoformat(pod.metadata.annotations["tidepool.dev/lease"])
    assert until.timestamp() - clock.now == pytest.approx(lease.DEFERRED_SECONDS, abs=1)


def deferred(operator: JobPodOperator, event: dict[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of the trigger that a task leaves to the triggerer, at first or when it comes back."""
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context()) if event is None else operator.trigger_reentry(context(), event)
    found: dict[str, Any] = caught.value.trigger.serialize()[1]
    return found


def test_a_deferred_tasks_log_is_read_while_it_runs(kubernetes: Kubernetes) -> None:
    assert deferred(task(kubernetes, deferrable=True, kubernetes_conn_id=None))["logging_interval"] == 30
    kubernetes.pods.clear()
    given = task(kubernetes, deferrable=True, kubernetes_conn_id=None, logging_interval=5)
    assert deferred(given)["logging_interval"] == 5


def test_a_log_that_cannot_be_read_does_not_end_the_wait_for_a_deferred_pod(
    kubernetes: Kubernetes, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = deferred(task(kubernetes, deferrable=True, kubernetes_conn_id=None, logging_interval=1))
    trigger = KubernetesPodTrigger(**arguments)
    (pod,) = kubernetes.pods.values()
    hook = mock.AsyncMock()
    hook.get_pod.return_value = pod
    hook.read_logs.side_effect = ApiException(status=500, reason="dial tcp: no route to host")
    monkeypatch.setattr(KubernetesPodTrigger, "hook", hook)
    monkeypatch.setattr("airflow.providers.cncf.kubernetes.triggers.pod.asyncio.sleep", mock.AsyncMock())

    async def fired() -> dict[str, Any]:
        return (await anext(aiter(trigger.run()))).payload

    event = asyncio.run(fired())
    assert (event["status"], hook.read_logs.called) == ("error", True)
    again = deferred(task(kubernetes, deferrable=True, kubernetes_conn_id=None), event)
    assert again["logging_interval"] is None  # at its end, as where nobody asks for more
    assert list(kubernetes.pods.values()) == [pod]
