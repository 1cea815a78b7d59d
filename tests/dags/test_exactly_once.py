"""One live pod for each task, whatever dies and whenever: at every single call to the API server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration, CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError, ProtocolError

from tests.dags.fake_kubernetes import Clock, Kubernetes, context, task
from tidepool.operators import lease, reattach
from tidepool.operators.pod_manager import delete_once
from tidepool.operators.reattach import NotOursError, pod_name
from tidepool.outcome import Cause, JobFailed

OURS = {"dag_id": "d", "task_id": "clean", "run_id": "r"}


class WorkerDied(BaseException):
    """SIGKILL, as far as Python can be killed: not an Exception, so that nothing handles it."""


class Mortal:
    """The API server for a worker that dies with its `last` call, before that is made or before its answer comes."""

    def __init__(self, kubernetes: Kubernetes, last: int, is_made: bool) -> None:
        self._kubernetes, self._left, self._is_made = kubernetes, last, is_made
        self.calls: list[str] = []
        self.is_dead = False
        self.api_client = kubernetes.api_client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if self.is_dead:
                raise WorkerDied
            self.calls.append(name)
            self._left -= 1
            if self._left > 0:
                return getattr(self._kubernetes, name)(*arguments, **keywords)
            self.is_dead = True
            if self._is_made:
                getattr(self._kubernetes, name)(*arguments, **keywords)
            raise WorkerDied

        return call


def calls_of_a_run(kubernetes: Kubernetes) -> int:
    mortal = Mortal(kubernetes, last=1000, is_made=True)
    task(mortal).execute(context())
    return len(mortal.calls)


@pytest.mark.parametrize("is_made", [False, True], ids=["before the call", "before its answer"])
@pytest.mark.parametrize("attempt", [1, 2], ids=["run again as the same attempt", "the next attempt"])
@pytest.mark.parametrize("way", ["runs at once", "waits for a machine", "moves up the ladder"])
def test_a_worker_that_dies_at_any_call_leaves_one_pod_at_most_which_is_gone_on_with(
    capacity_file: object, clock: Clock, kubernetes: Kubernetes, is_made: bool, attempt: int, way: str
) -> None:
    steps = calls_of_a_run(Kubernetes())
    assert steps > 8
    for step in range(1, steps + {"runs at once": 0, "waits for a machine": 8, "moves up the ladder": 30}[way]):
        world = Kubernetes()
        runs: list[str] = []

        def script(name: str, world: Kubernetes = world, runs: list[str] = runs) -> None:
            if world.pods[name].status.phase == "Running":
                runs.append(world.pods[name].metadata.uid)
            world.end(name, "Succeeded")

        def bind(world: Kubernetes = world) -> None:
            for name, pod in list(world.pods.items()):
                here = way == "waits for a machine" or pod.metadata.labels["tidepool.dev/pool"] == "on-demand-small"
                if pod.status.phase == "Pending" and here:
                    world.bind(name)

        world.script = script
        if way != "runs at once":
            world.phase = lambda body: "Pending"
            clock.at = [(clock.passed + after, bind) for after in range(10, 400, 30)]
        arguments = {"startup_check_interval_seconds": 20 if way == "moves up the ladder" else 5}
        try:
            task(Mortal(world, step, is_made), **arguments).execute(context())
        except WorkerDied:
            task(world, **arguments).execute(context(attempt))
        assert world.most_live == 1, step
        assert world.pods == {}, step
        assert len(set(runs)) <= 2, step


class Flaky(Mortal):
    """The same, but the worker lives: the connection broke at one call, before or after that was made."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.calls.append(name)
            self._left -= 1
            if self._left == 0 and not self._is_made:
                raise ProtocolError("connection reset")
            answer = getattr(self._kubernetes, name)(*arguments, **keywords)
            if self._left == 0:
                raise ProtocolError("connection reset")
            return answer

        return call


@pytest.mark.parametrize("is_made", [False, True], ids=["before the call", "before its answer"])
@pytest.mark.parametrize("moves", [False, True], ids=["runs at once", "moves up the ladder"])
def test_a_connection_that_breaks_at_any_call_costs_nothing(
    capacity_file: object, clock: Clock, kubernetes: Kubernetes, is_made: bool, moves: bool
) -> None:
    steps = calls_of_a_run(Kubernetes())
    for step in range(1, steps + 25 * moves):
        world = Kubernetes()
        if moves:
            world.phase = lambda body: (
                "Running" if body["metadata"]["labels"]["tidepool.dev/pool"] == "on-demand-small" else "Pending"
            )
        task(Flaky(world, step, is_made), startup_check_interval_seconds=20).execute(context())
        assert (world.most_live, world.pods) == (1, {}), step
        assert len(world.created) == 1 + moves, step


def test_the_pod_of_an_attempt_has_one_name_whoever_asks(kubernetes: Kubernetes) -> None:
    task(kubernetes).execute(context())
    task(kubernetes).execute(context())
    task(kubernetes).execute(context(attempt=2))
    first, again, second = kubernetes.created
    assert first == again != second
    assert first == pod_name("clean", "d", "clean", "r", -1, 1)


@pytest.mark.parametrize("base", ["", "UPPER_case.and.dots", "x" * 300, "ä"])
def test_every_name_is_one_that_kubernetes_takes(base: str) -> None:
    name = pod_name(base, "d" * 250, "t", "scheduled__2026-11-22T10:00:00+00:00", 3, 1)
    assert len(name) <= 63
    assert all(letter.isascii() and (letter.isalnum() or letter == "-") for letter in name)
    assert name[0].isalnum()
    assert (
        len(
            {
                pod_name("t", *owner)
                for owner in [("a", "b", "c", 1, 11), ("a", "b", "c", 11, 1), ("ab", "", "c", 1, 11)]
            }
        )
        == 3
    )


def test_a_lost_answer_to_create_is_no_second_pod_and_no_orphan(kubernetes: Kubernetes) -> None:
    kubernetes.failures = [ProtocolError("connection reset")]
    task(kubernetes, durable=False).execute(context())
    assert len(kubernetes.created) == 1
    assert kubernetes.pods == {}


def test_a_pod_of_that_name_that_is_not_ours_is_not_touched(kubernetes: Kubernetes) -> None:
    name = pod_name("clean", "d", "clean", "r", -1, 1)
    kubernetes.put(name, labels={**OURS, "dag_id": "somebody-elses"})
    operator = task(kubernetes, durable=False)
    with pytest.raises(NotOursError, match=r"is there already and not this attempt's; it is of .*somebody-elses"):
        operator.execute(context())
    operator.on_kill()
    assert name in kubernetes.pods


def test_a_pod_of_that_name_that_is_on_its_way_out_is_waited_for(kubernetes: Kubernetes, clock: Clock) -> None:
    name = pod_name("clean", "d", "clean", "r", -1, 1)
    kubernetes.put(name, labels=OURS, deletion_timestamp=datetime.now(UTC))
    clock.at = [(5, lambda: kubernetes.pods.pop(name) and None)]
    task(kubernetes, durable=False).execute(context())
    assert kubernetes.created == [name]
    assert kubernetes.most_live == 1


def test_a_pod_of_that_name_that_was_kept_after_its_end_makes_room(kubernetes: Kubernetes) -> None:
    name = pod_name("clean", "d", "clean", "r", -1, 1)
    kubernetes.put(name, labels={**OURS, "already_checked": "True"})
    kubernetes.end(name, "Failed", 1)
    task(kubernetes).execute(context())
    assert kubernetes.deleted == [name, name]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_task_that_is_stopped_while_its_pod_is_created_leaves_none(
    kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    operator = task(kubernetes)
    create = kubernetes.create_namespaced_pod

    def stopped(*arguments: Any, **keywords: Any) -> Any:
        if when == "before":
            operator.on_kill()
        made = create(*arguments, **keywords)
        if when == "after":
            operator.on_kill()
        return made

    monkeypatch.setattr(kubernetes, "create_namespaced_pod", stopped)
    with pytest.raises(JobFailed) as caught:
        operator.execute(context())
    assert caught.value.cause is Cause.CANCELLED
    assert kubernetes.pods == {}


@pytest.mark.parametrize(
    ("states", "cause"),
    [
        ({"r": {"clean": "running"}}, Cause.EVICTED),
        ({"r": {"clean": "failed"}}, Cause.CANCELLED),
        ({"r": {"clean": None}}, Cause.CANCELLED),
        ({}, Cause.CANCELLED),
    ],
)
def test_a_worker_that_has_to_go_is_not_a_task_that_was_cancelled(
    kubernetes: Kubernetes, states: dict[str, Any], cause: Cause
) -> None:
    operator, told = task(kubernetes), context()
    told["ti"].get_task_states.return_value = states
    kubernetes.script = lambda name: operator.on_kill()
    with pytest.raises(JobFailed) as caught:
        operator.execute(told)
    assert caught.value.cause is cause


@pytest.mark.parametrize(
    "said",
    [EOFError("the worker was killed"), BrokenPipeError(), {"r": {"clean": None}}, {"r": {"clean": "queued"}}],
    ids=["no worker", "no worker's socket", "reset by a new scheduler", "queued again"],
)
def test_an_attempt_that_nobody_hears_of_leaves_what_it_has_done_to_the_next(kubernetes: Kubernetes, said: Any) -> None:
    orphan = context()
    orphan["ti"].get_task_states.side_effect = [said] if isinstance(said, dict) else said
    task(kubernetes).execute(orphan)
    assert [pod.status.phase for pod in kubernetes.pods.values()] == ["Succeeded"]
    task(kubernetes).execute(context(2))
    assert len(kubernetes.created) == 1
    assert kubernetes.pods == {}


def test_a_deletion_is_not_repeated_behind_the_operators_back() -> None:
    """A listener that hangs up on whoever asks counts how often it is asked."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    asked.append(connection.recv(6))
                    connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        client = CoreV1Api(ApiClient(Configuration(host=f"http://127.0.0.1:{server.getsockname()[1]}")))
        delete_once(client)
        with pytest.raises(HTTPError):
            client.delete_namespaced_pod("clean", "tidepool-jobs")
        assert asked == [b"DELETE"]


@pytest.fixture
def quota(kubernetes: Kubernetes, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> str:
    """A team's quota that is used up for 100 seconds, in the API server's words."""
    said = 'pods "clean" is forbidden: exceeded quota: quota, requested: pods=1, used: pods=4, limited: pods=4'
    create = kubernetes.create_namespaced_pod

    def refused(*arguments: Any, **keywords: Any) -> Any:
        if clock.passed < 100:
            error = ApiException(status=403, reason="Forbidden")
            error.body = said
            raise error
        return create(*arguments, **keywords)

    monkeypatch.setattr(kubernetes, "create_namespaced_pod", refused)
    monkeypatch.setattr(reattach, "outlast", lambda call: call())
    return said


@pytest.mark.usefixtures("quota")
def test_a_job_waits_for_its_teams_quota(kubernetes: Kubernetes, clock: Clock) -> None:
    task(kubernetes).execute(context())
    assert len(kubernetes.created) == 1
    assert clock.passed >= 100


def test_a_job_that_waits_too_long_for_its_teams_quota_says_so(kubernetes: Kubernetes, quota: str) -> None:
    with pytest.raises(JobFailed, match=f"the team's quota is used up: {quota}") as caught:
        task(kubernetes, schedule_timeout_seconds=60).execute(context(2))
    assert caught.value.cause is Cause.UNSCHEDULABLE


def test_a_pods_lease_is_renewed_until_its_task_lets_go(kubernetes: Kubernetes, clock: Clock) -> None:
    kubernetes.put("p")
    renewed, again = threading.Event(), 0

    class Api:
        def patch_namespaced_pod(self, *arguments: Any, **keywords: Any) -> None:
            nonlocal again
            again += 1
            if again == 1:
                raise ApiException(status=503)
            kubernetes.patch_namespaced_pod(*arguments, **keywords)
            renewed.set()

    # The real class: the fixture has put a stand-in in its place.
    keeper = lease_class(Api(), "p", "ns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "RENEW_SECONDS", 0)
        keeper.start()
        assert renewed.wait(10)
        keeper.stop()
        keeper.join(10)
    assert not keeper.is_alive()
    until = datetime.fromisoformat(kubernetes.pods["p"].metadata.annotations["tidepool.dev/lease"])
    assert until.timestamp() - clock.now == pytest.approx(lease.LEASE_SECONDS, abs=1)


lease_class = lease.Lease


def test_a_pod_has_a_lease_from_its_first_moment(kubernetes: Kubernetes) -> None:
    task(kubernetes).execute(context())
    assert "tidepool.dev/lease" in kubernetes.bodies[0]["metadata"]["annotations"]
