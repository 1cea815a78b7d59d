from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.dags.fake_kubernetes import Clock
from tidepool.operators import pod_watch
from tidepool.operators.pod_manager import JobPodManager, is_transient, outlast
from tidepool.operators.pod_watch import PodWatch

LIMIT_SECONDS = 10


def pod(phase: str, version: int = 1, **metadata: str) -> dict[str, Any]:
    return {"metadata": {"name": "p", "resourceVersion": str(version), **metadata}, "status": {"phase": phase}}


class Api:
    """Answers the list and the watch from a script: lists of pods, watch events, or errors, one round after another."""

    def __init__(self, *rounds: tuple[list[dict[str, Any]] | BaseException, list[tuple[str, dict[str, Any]]]]) -> None:
        self.rounds = list(rounds)
        self.api_client = client.ApiClient()

    def list_namespaced_pod(self, namespace: str, **arguments: Any) -> Any:
        """The pods of a namespace.

        :return: V1PodList
        """
        assert (namespace, arguments["field_selector"]) == ("ns", "metadata.name=p")
        if not arguments.get("watch"):
            listed = self.rounds[0][0]
            if isinstance(listed, BaseException):
                self.rounds.pop(0)
                raise listed
            return SimpleNamespace(data=json.dumps({"items": listed, "metadata": {"resourceVersion": "1"}}))
        events = self.rounds.pop(0)[1]

        def stream(**_: Any) -> Iterator[bytes]:
            for kind, item in events:
                yield json.dumps({"type": kind, "object": item}).encode() + b"\n"

        return SimpleNamespace(stream=stream, close=lambda: None, release_conn=lambda: None)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_watch, "RETRY_SECONDS", 0)
    monkeypatch.setattr(pod_watch, "LOG_DRAIN_SECONDS", 0)


def watched(*rounds: Any) -> PodWatch:
    """A watch that has come to its end by itself."""
    ended = threading.Event()
    watch = PodWatch(Api(*rounds), "p", "ns", ended.set)
    watch.start()
    watch.join(LIMIT_SECONDS)
    assert not watch.is_alive()
    assert ended.is_set()
    return watch


def test_what_was_seen_last_outlives_the_pod() -> None:
    evicted = pod("Failed", 3, deletionTimestamp="2026-11-22T10:00:00Z")
    watch = watched(([pod("Pending")], [("MODIFIED", pod("Running", 2)), ("DELETED", evicted)]))
    assert watch.last == evicted
    assert watch.is_gone


def test_a_final_phase_is_the_end() -> None:
    watch = watched(([pod("Running")], [("MODIFIED", pod("Succeeded", 2))]))
    assert (watch.last, watch.is_gone) == (pod("Succeeded", 2), False)


def test_a_pod_that_had_ended_before_is_seen_as_it_ended() -> None:
    assert watched(([pod("Succeeded")], [])).last == pod("Succeeded")


def test_it_goes_on_after_an_outage_and_after_a_watch_that_ran_out() -> None:
    watch = watched(
        (ApiException(status=503), []),
        ([pod("Running")], []),
        (ConnectionError("refused"), []),
        ([pod("Running", 5)], [("MODIFIED", pod("Failed", 6))]),
    )
    assert watch.last == pod("Failed", 6)


def test_a_pod_that_went_during_an_outage_has_ended() -> None:
    watch = watched(([pod("Running")], []), (ApiException(status=503), []), ([], []))
    assert (watch.last, watch.is_gone) == (pod("Running"), True)


def test_a_stopped_watch_calls_nobody() -> None:
    called = threading.Event()
    watch = PodWatch(Api(([pod("Succeeded")], [])), "p", "ns", called.set)
    watch.stop()
    watch.run()
    assert not called.is_set()


def test_following_a_log_that_never_ends_can_be_cut_off_from_outside() -> None:
    manager = JobPodManager(kube_client=client.CoreV1Api())
    manager.stop_following()  # nothing is followed yet
    shut = threading.Event()
    manager._followed = SimpleNamespace(shutdown=shut.set)  # type: ignore[assignment]
    manager.stop_following()
    assert shut.is_set()


@pytest.mark.parametrize(("status", "seconds", "again"), [(503, 0, True), (404, 0, False), (400, 0, False)])
def test_only_what_may_pass_is_tried_again(status: int, seconds: float, again: bool) -> None:
    assert is_transient(ApiException(status=status), seconds) is again


@pytest.mark.parametrize("status", [401, 403])
def test_no_is_believed_only_after_a_while(status: int) -> None:
    assert is_transient(ApiException(status=status), 5)
    assert not is_transient(ApiException(status=status), 60)


def test_a_no_after_a_long_wait_for_an_answer_is_not_believed_at_once(clock: Clock) -> None:
    """As when the API server was started again meanwhile, and has not read its roles yet."""

    def asked() -> str:
        if not clock.passed:
            clock.sleep(100)
            raise HTTPError("no answer")
        if clock.passed < 110:
            raise ApiException(status=403)
        return "created"

    assert outlast(asked) == "created"


def test_a_no_that_is_repeated_is_believed(clock: Clock) -> None:
    def asked() -> None:
        raise ApiException(status=403)

    with pytest.raises(ApiException):
        outlast(asked)
    assert 30 <= clock.passed <= 32
