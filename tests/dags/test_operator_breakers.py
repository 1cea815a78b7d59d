"""What attempts find out about a pool, all others know; what cannot be told or read fails no job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.dags.attempts import failed, pools_of
from tests.dags.fake_kubernetes import Clock, Kubernetes, Watch, context, task
from tidepool import Cause, JobFailed
from tidepool.breaker import OPEN_SECONDS, Breaker, State, dump
from tidepool.capacity import BREAKERS_CONFIG_MAP
from tidepool.operators.breakers import Breakers


def lost_on(kubernetes: Kubernetes, **ended: Any) -> JobFailed:
    def script(name: str) -> None:
        kubernetes.end(name, "Failed", 143, "Error")
        pod = kubernetes.pods[name]
        pod.status.reason, pod.status.message = ended.get("reason"), ended.get("message")
        pod.status.conditions = ended.get("conditions")
        Watch.last = kubernetes.json(name)

    kubernetes.script = script
    return failed(task(kubernetes, market=ended.get("market")))


def test_only_a_spot_pool_that_lost_machines_is_told_so(kubernetes: Kubernetes) -> None:
    shut_down = {
        "reason": "Terminated",
        "message": "Pod was terminated in response to imminent node shutdown.",
    }
    preempted = [client.V1PodCondition(type="DisruptionTarget", status="True", reason="PreemptionByScheduler")]

    def told() -> dict[str, int]:
        return {pool: len(each.reclaims) for pool, each in Breakers(kubernetes, "ns").read().items()}  # type: ignore[arg-type]

    assert lost_on(kubernetes, conditions=preempted).cause is Cause.EVICTED
    assert lost_on(kubernetes, market="on-demand", **shut_down).cause is Cause.NODE_LOST
    assert set(told().values()) == {0}
    assert lost_on(kubernetes, market="spot", **shut_down).cause is Cause.SPOT_RECLAIM
    assert told() == {"on-demand-small": 0, "spot-small": 1}


def test_a_pool_that_is_tried_again_is_tried_by_one_attempt_also_where_two_read_it_at_the_same_moment(
    kubernetes: Kubernetes, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    breakers = Breakers(kubernetes, "ns")  # type: ignore[arg-type]
    breakers.tell("spot-small", Breaker.failed)
    clock.now += OPEN_SECONDS
    first, second = task(kubernetes), task(kubernetes)
    launches = [each.attempt.begin(context()).prepare() for each in (first, second)]
    assert all(each.rung.is_probe for each in launches)
    launches[0].first()
    kubernetes.pods.clear()
    launches[1].first()
    assert [pools_of(body) for body in kubernetes.bodies] == [["spot-small"], ["on-demand-small"]]
    assert "Another attempt tries spot-small (spot)" in capsys.readouterr().out


def test_the_only_pool_of_a_job_is_tried_again_by_it_too_and_the_others_know(
    kubernetes: Kubernetes, clock: Clock
) -> None:
    breakers = Breakers(kubernetes, "ns")  # type: ignore[arg-type]
    breakers.tell("spot-small", Breaker.failed)
    clock.now += OPEN_SECONDS
    operator = task(kubernetes, market="spot")
    operator.attempt.begin(context()).prepare().first()
    assert breakers.read()["spot-small"].state(clock.now) is State.OPEN


def test_breakers_are_shared_and_what_others_wrote_meanwhile_is_kept(kubernetes: Kubernetes) -> None:
    one, other = Breakers(kubernetes, "ns"), Breakers(kubernetes, "ns")  # type: ignore[arg-type]
    one.tell("a", Breaker.failed)
    patch, raced = kubernetes.patch_namespaced_config_map, []

    def race(*arguments: Any, **keywords: Any) -> None:
        if not raced:
            raced.append(True)
            other.tell("b", Breaker.failed)
        patch(*arguments, **keywords)

    kubernetes.patch_namespaced_config_map = race  # type: ignore[method-assign]
    one.tell("c", Breaker.failed)
    now = kubernetes.config_maps[BREAKERS_CONFIG_MAP].data
    assert sorted(now) == ["a", "b", "c"]
    assert {breaker.state(breaker.opened) for breaker in one.read().values()} == {State.OPEN}


@pytest.mark.usefixtures("capacity_file")
def test_what_forty_attempts_find_out_at_the_same_moment_is_all_kept() -> None:
    world, one_at_a_time = Kubernetes(), threading.Lock()

    class Api:
        """Whose answers take a moment."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            def call(*arguments: Any, **keywords: Any) -> Any:
                with one_at_a_time:
                    answer = getattr(world, name)(*arguments, **keywords)
                threading.Event().wait(0.002)
                return answer

            return call

    told = [threading.Thread(target=Breakers(Api(), "ns").tell, args=("a", Breaker.lost)) for _ in range(40)]  # type: ignore[arg-type]
    for each in told:
        each.start()
    for each in told:
        each.join(60)
    assert len(Breakers(world, "ns").read()["a"].reclaims) == 40  # type: ignore[arg-type]


def test_what_cannot_be_told_is_said_in_the_log_save_where_there_is_no_place_to_tell_it(
    kubernetes: Kubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    del kubernetes.config_maps[BREAKERS_CONFIG_MAP]
    Breakers(kubernetes, "ns").tell("a", Breaker.lost)  # type: ignore[arg-type]
    assert caplog.text == ""

    def conflict(*_: Any, **__: Any) -> None:
        raise ApiException(status=409, reason="Conflict")

    kubernetes.create_namespaced_config_map(
        "ns", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=BREAKERS_CONFIG_MAP), data={})
    )
    kubernetes.patch_namespaced_config_map = conflict  # type: ignore[method-assign]
    Breakers(kubernetes, "ns").tell("a", Breaker.lost)  # type: ignore[arg-type]
    assert "others do not learn what was found out about pool a" in caplog.text


def test_breakers_that_may_not_be_read_fail_no_job(kubernetes: Kubernetes) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise ApiException(status=403)

    kubernetes.read_namespaced_config_map = forbidden  # type: ignore[method-assign]
    task(kubernetes).execute(context())
    assert pools_of(kubernetes.bodies[0]) == ["spot-small"]


def test_nonsense_in_the_breakers_fails_no_job(kubernetes: Kubernetes) -> None:
    Breakers(kubernetes, "ns").tell("spot-small", Breaker.failed)  # type: ignore[arg-type]
    kubernetes.config_maps[BREAKERS_CONFIG_MAP].data = {"spot-small": "{", "x": dump(Breaker())}
    task(kubernetes).execute(context())
    assert pools_of(kubernetes.bodies[0]) == ["spot-small"]
