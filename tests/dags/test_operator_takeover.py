"""What an attempt that was killed left: its pod is gone on with, told of or waited for, and there are never two."""

from __future__ import annotations

import datetime
from unittest import mock

import pytest
from kubernetes.client import V1PodCondition

from tests.dags.attempts import failed, run, without_waits
from tests.dags.fake_kubernetes import NOW, Kubernetes, Store, context, task
from tidepool import Cause
from tidepool.operators import reattach
from tidepool.retries import Attempt, dump


@pytest.fixture
def kubernetes(capacity_file: object, monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    return without_waits(monkeypatch)


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
