"""Where an attempt's pod goes: which pool first, where next, and from which rung a later attempt goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.dags.attempts import failed, pools_of
from tests.dags.fake_kubernetes import Clock, Kubernetes, Store, context, task
from tidepool import Cause, JobError
from tidepool.operators import reattach
from tidepool.operators.breakers import Breakers
from tidepool.operators.retry_policy import STORE_KEY

BACKOFF = "pod didn't trigger scale-up: 1 in backoff after failed scale-up"


def only_on(kubernetes: Kubernetes, pool: str) -> None:
    """Only this pool has machines."""
    kubernetes.phase = lambda body: "Running" if pools_of(body) == [pool] else "Pending"


def say(kubernetes: Kubernetes, reason: str, message: str) -> None:
    """The autoscaler's word on every pod that is there."""
    for pod in kubernetes.pods.values():
        event = {"reason": reason, "message": message, "lastTimestamp": datetime.now(UTC).isoformat()}
        kubernetes.events.setdefault(pod.metadata.uid, []).append(event)


@pytest.mark.parametrize("autoscaler", ["says no", "says nothing"])
def test_a_pod_without_a_machine_is_on_the_next_pool_within_90_seconds_in_the_same_attempt(
    kubernetes: Kubernetes, clock: Clock, autoscaler: str
) -> None:
    only_on(kubernetes, "on-demand-small")
    moved: list[float] = []
    create = kubernetes.create_namespaced_pod

    def created(*arguments: Any, **keywords: Any) -> Any:
        moved.append(clock.passed)
        return create(*arguments, **keywords)

    kubernetes.create_namespaced_pod = created  # type: ignore[method-assign]
    if autoscaler == "says no":
        clock.at = [(10, lambda: say(kubernetes, "NotTriggerScaleUp", BACKOFF))]
    task(kubernetes).execute(context())
    assert [pools_of(body) for body in kubernetes.bodies] == [["spot-small"], ["on-demand-small"]]
    assert [body["metadata"]["labels"]["tidepool.dev/pool"] for body in kubernetes.bodies] == [
        "spot-small",
        "on-demand-small",
    ]
    assert moved[1] <= (20 if autoscaler == "says no" else 62)
    assert len(set(kubernetes.created)) == 1  # the same attempt's name: there are never two
    assert kubernetes.most_live == 1


def test_a_pod_that_gets_its_machine_as_it_is_given_up_is_kept(kubernetes: Kubernetes, clock: Clock) -> None:
    kubernetes.phase = lambda body: "Pending"
    delete = kubernetes.delete_namespaced_pod

    def late(name: str, *arguments: Any, **keywords: Any) -> None:
        if len(kubernetes.deleted) == 0 and kubernetes.pods[name].status.phase == "Pending":
            kubernetes.bind(name)
        delete(name, *arguments, **keywords)

    kubernetes.delete_namespaced_pod = late  # type: ignore[method-assign]
    task(kubernetes).execute(context())
    assert len(kubernetes.created) == 1
    assert clock.passed >= 60


def test_the_next_task_passes_over_the_pool_without_machines(kubernetes: Kubernetes) -> None:
    only_on(kubernetes, "on-demand-small")
    task(kubernetes).execute(context())
    task(kubernetes).execute(context(attempt=2))
    assert [pools_of(body) for body in kubernetes.bodies][2:] == [["on-demand-small"]]


def test_a_pool_that_is_full_is_left_without_being_passed_over(kubernetes: Kubernetes, clock: Clock) -> None:
    only_on(kubernetes, "on-demand-small")
    clock.at = [
        (10, lambda: say(kubernetes, "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached"))
    ]
    task(kubernetes).execute(context())
    assert "spot-small" not in Breakers(kubernetes, "ns").read()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "pool"), [({"market": "on-demand"}, "on-demand-small"), ({"market": "spot"}, "spot-small")]
)
def test_a_job_may_pin_its_market(kubernetes: Kubernetes, arguments: dict[str, Any], pool: str) -> None:
    task(kubernetes, **arguments).execute(context())
    assert pools_of(kubernetes.bodies[0]) == [pool]


def test_a_market_and_a_pool_that_disagree_are_refused(kubernetes: Kubernetes) -> None:
    with pytest.raises(JobError, match=r"there is no pool 'spot-small'; the job pools are: on-demand-small"):
        task(kubernetes, market="on-demand", pool="spot-small")


def test_a_pod_that_its_machine_refuses_is_asked_for_again(kubernetes: Kubernetes) -> None:
    def refuse(name: str) -> None:
        kubernetes.pods[name].status.phase = "Failed"
        kubernetes.pods[name].status.reason = "OutOfcpu"
        kubernetes.pods[name].status.container_statuses = None

    create = kubernetes.create_namespaced_pod

    def created(body: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        made = create(body, *arguments, **keywords)
        if len(kubernetes.created) == 1:
            refuse(body["metadata"]["name"])
        return made

    kubernetes.create_namespaced_pod = created  # type: ignore[method-assign]
    task(kubernetes).execute(context())
    assert len(kubernetes.created) == 2


# Later attempts.


def test_a_task_that_was_cleared_begins_its_ladder_anew(kubernetes: Kubernetes) -> None:
    store = Store()
    store.set(
        STORE_KEY, [{"number": n, "cause": "spot_reclaim", "pool": "spot-small", "market": "spot"} for n in (1, 2)]
    )
    told = context(3, store)
    told["ti"].max_tries = 2 + 15
    task(kubernetes).execute(told)
    assert pools_of(kubernetes.bodies[0]) == ["spot-small"]


def test_a_pod_that_is_taken_over_goes_on_from_the_rung_that_it_is_on(kubernetes: Kubernetes, clock: Clock) -> None:
    kubernetes.put("left", "Pending", labels={"tidepool.dev/pool": "on-demand-small"})
    kubernetes.phase = lambda body: "Running"
    task(kubernetes).execute(context(2))
    assert clock.passed >= 60  # it waited where it was, and then for whichever comes first
    assert [pools_of(body) for body in kubernetes.bodies] == [["spot-small", "on-demand-small"]]
    assert kubernetes.most_live == 1


def test_a_pod_that_waits_where_this_attempt_would_not_go_is_replaced_at_once(
    kubernetes: Kubernetes, clock: Clock
) -> None:
    lost = {"cause": "spot_reclaim", "pool": "spot-small", "market": "spot"}
    store = Store()
    store.set(STORE_KEY, [{"number": 1, **lost}, {"number": 2, **lost}])
    only_on(kubernetes, "on-demand-small")
    kubernetes.put("left", "Pending", labels={"tidepool.dev/pool": "spot-small", "try_number": "3"})
    task(kubernetes).execute(context(4, store))
    assert kubernetes.deleted[0] == "left"
    assert [pools_of(body) for body in kubernetes.bodies] == [["on-demand-small"]]
    assert clock.passed < 10
    assert Breakers(kubernetes, "ns").read()["on-demand-small"].starts  # type: ignore[arg-type]


def test_a_pod_that_runs_where_this_attempt_would_not_go_is_gone_on_with(kubernetes: Kubernetes) -> None:
    lost = {"cause": "spot_reclaim", "pool": "spot-small", "market": "spot"}
    store = Store()
    store.set(STORE_KEY, [{"number": 1, **lost}, {"number": 2, **lost}])
    kubernetes.put("left", "Running", labels={"tidepool.dev/pool": "spot-small", "try_number": "3"})
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 1, "Error")
    error = failed(task(kubernetes), 4, store)
    assert (error.pool, error.market) == ("spot-small", "spot")
    assert kubernetes.created == []


def test_an_attempt_whose_waiting_pod_a_later_one_took_over_ends_and_leaves_it(
    kubernetes: Kubernetes, clock: Clock
) -> None:
    kubernetes.phase = lambda body: "Pending"

    def take_over() -> None:
        [name] = kubernetes.pods
        reattach.claim(kubernetes, kubernetes.pods[name], 2)  # type: ignore[arg-type]

    clock.at = [(30, take_over)]
    error = failed(task(kubernetes))
    assert (error.cause, error.pool) == (Cause.EVICTED, "")
    assert (len(kubernetes.created), kubernetes.deleted) == (1, [])
    assert clock.passed <= 65
