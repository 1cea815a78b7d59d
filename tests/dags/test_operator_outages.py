"""A job outlasts an API server that is away: its pod runs on, its log is resumed, and no other error is an outage."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError

from tests.dags.attempts import run, without_waits
from tests.dags.fake_kubernetes import Kubernetes, task


@pytest.fixture
def kubernetes(capacity_file: object, monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    return without_waits(monkeypatch)


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
