"""One attempt after another: where each goes, with what size, and whether there is another."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.sdk import DAG, ExceptionRetryPolicy, RetryAction
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.serialization.serialized_objects import DagSerialization
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError

from tests.dags.fake_kubernetes import Clock, Kubernetes, Store, Watch, context, task
from tidepool import Cause, JobError, JobFailed, JobPodOperator, SparkPodOperator
from tidepool import capacity as document
from tidepool.breaker import OPEN_SECONDS, Breaker, State, dump
from tidepool.capacity import BREAKERS_CONFIG_MAP, Capacity, Pool
from tidepool.operators import evidence, lease, reattach
from tidepool.operators.breakers import Breakers
from tidepool.operators.retry_policy import STORE_KEY, CauseRetryPolicy
from tidepool.outcome import Outcome

GIB = 1024**3
BACKOFF = "pod didn't trigger scale-up: 1 in backoff after failed scale-up"


def failed(operator: JobPodOperator, attempt: int = 1, store: Store | None = None) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        operator.execute(context(attempt, store))
    return caught.value


def pools_of(body: dict[str, Any]) -> list[str]:
    affinity = body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [each["values"][0] for term in affinity["nodeSelectorTerms"] for each in term["matchExpressions"]]


def only_on(kubernetes: Kubernetes, pool: str) -> None:
    """Only this pool has machines."""
    kubernetes.phase = lambda body: "Running" if pools_of(body) == [pool] else "Pending"


def say(kubernetes: Kubernetes, reason: str, message: str) -> None:
    """The autoscaler's word on every pod that is there."""
    for pod in kubernetes.pods.values():
        event = {"reason": reason, "message": message, "lastTimestamp": datetime.now(UTC).isoformat()}
        kubernetes.events.setdefault(pod.metadata.uid, []).append(event)


# The ladder.


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


def test_where_a_pod_landed_that_might_land_anywhere_is_read_from_its_machine(kubernetes: Kubernetes) -> None:
    kubernetes.phase = lambda body: "Running" if len(pools_of(body)) > 1 else "Pending"
    kubernetes.nodes = {"i-1": node() | {"metadata": {"labels": {"tidepool.dev/pool": "on-demand-small"}}}}
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 1, "Error")
    error = failed(task(kubernetes))
    assert (error.pool, error.market) == ("on-demand-small", "on-demand")


def test_where_a_pod_landed_is_known_also_where_nodes_carry_no_label_of_tidepools(
    kubernetes: Kubernetes, capacity: Capacity, capacity_file: Path
) -> None:
    own = {name: dataclasses.replace(pool, labels={"group": name}) for name, pool in capacity.pools.items()}
    capacity_file.write_text(document.dumps(dataclasses.replace(capacity, pools=own)), encoding="utf-8")
    kubernetes.phase = lambda body: "Running" if len(pools_of(body)) > 1 else "Pending"
    kubernetes.nodes = {"i-1": node() | {"metadata": {"labels": {"group": "on-demand-small"}}}}
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 1, "Error")
    error = failed(task(kubernetes))
    assert (error.pool, error.market) == ("on-demand-small", "on-demand")


# The clocks of a pod that has its machine.


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


# Size.


def test_after_want_of_memory_the_next_attempt_has_half_as_much_again_and_so_has_spark(
    kubernetes: Kubernetes, capacity_file: Any, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(pool("small"), pool("large", cpu_millis=3900, memory_bytes=15 * GIB, priority=10))
    capacity_file.write_text(document.dumps(capacity), encoding="utf-8")
    store = Store()

    def dies(name: str) -> None:
        kubernetes.end(name, "Failed", 137, "OOMKilled")

    kubernetes.script = dies
    for attempt in (1, 2, 3):
        policy = CauseRetryPolicy(author=0)
        error = failed(task(kubernetes, memory="4Gi"), attempt, store)
        decision = policy.evaluate(error, attempt, policy.limits.total, context(attempt, store))
        assert decision.action is (RetryAction.FAIL if attempt == 3 else RetryAction.RETRY)
    limits = [body["spec"]["containers"][0]["resources"]["limits"]["memory"] for body in kubernetes.bodies]
    assert limits == ["4096Mi", "6144Mi", "9216Mi"]
    assert [pools_of(body) for body in kubernetes.bodies] == [["small"], ["small"], ["large"]]
    commands = [body["spec"]["containers"][0]["args"] for body in kubernetes.bodies]
    heaps = [int(next(each for each in args if "driver.memory" in each).partition("=")[2][:-1]) for args in commands]
    assert heaps == sorted(heaps)
    assert heaps[2] > 2 * heaps[0]
    assert all("spark.master=local[2,4]" in args for args in commands)
    assert all("{{" not in part for part in commands[2])


def test_a_job_that_asked_for_no_size_gets_the_whole_next_larger_machine(
    kubernetes: Kubernetes, capacity_file: Any, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(pool("small"), pool("large", cpu_millis=3900, memory_bytes=15 * GIB, priority=10))
    capacity_file.write_text(document.dumps(capacity), encoding="utf-8")
    store = Store()
    store.set(STORE_KEY, [{"number": 1, "cause": "out_of_memory", "memory_bytes": 6912 * 1024**2}])
    task(kubernetes).execute(context(2, store))
    assert pools_of(kubernetes.bodies[0]) == ["large"]
    assert kubernetes.bodies[0]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "15104Mi"


def test_a_job_that_lacks_memory_never_goes_where_its_cores_are_not(
    kubernetes: Kubernetes, capacity_file: Any, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    """The most memory is on machines of fewer cores."""
    four = pool("four", cpu_millis=3900, memory_bytes=15 * GIB)
    capacity = capacity_of(four, pool("fat", memory_bytes=60 * GIB, priority=10))
    capacity_file.write_text(document.dumps(capacity), encoding="utf-8")
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 137, "OOMKilled")
    store, policy, told = Store(), CauseRetryPolicy(author=3), []
    for attempt in (1, 2):
        error = failed(task(kubernetes, memory="12Gi", cores=4), attempt, store)
        told.append(policy.evaluate(error, attempt, policy.limits.total, context(attempt, store)))
    assert [each.action for each in told] == [RetryAction.RETRY, RetryAction.FAIL]
    assert "no pool that it may run on has more for a job" in str(told[1].reason)
    limits = [body["spec"]["containers"][0]["resources"]["limits"]["memory"] for body in kubernetes.bodies]
    assert limits == ["12288Mi", "15104Mi"]


# Whether there is another attempt.


def run_to_the_end(kubernetes: Kubernetes, **arguments: Any) -> list[JobFailed]:
    """Every attempt until there is no other, as Airflow makes them."""
    store, errors = Store(), []
    for attempt in range(1, 100):
        operator = task(kubernetes, **arguments)
        errors.append(failed(operator, attempt, store))
        told = operator.retry_policy.evaluate(errors[-1], attempt, operator.retries, context(attempt, store))
        if told.action is RetryAction.FAIL:
            return errors
        assert attempt <= operator.retries
    raise AssertionError("it never ends")


def test_reclaims_do_not_use_up_the_authors_retries_and_lead_to_on_demand(kubernetes: Kubernetes) -> None:
    def ends(name: str) -> None:
        body = kubernetes.bodies[-1]
        if pools_of(body) == ["spot-small"]:
            Watch.last = {"metadata": {}, "spec": {"nodeName": "i-1"}, "status": {"phase": "Running"}}
            del kubernetes.pods[name]
        else:
            kubernetes.end(name, "Failed", 1, "Error")

    kubernetes.script = ends
    kubernetes.nodes = {}
    errors = run_to_the_end(kubernetes, retries=1)
    assert [error.cause for error in errors] == [Cause.NODE_LOST] * 2 + [Cause.APP_ERROR] * 2
    assert [error.market for error in errors] == ["spot", "spot", "on-demand", "on-demand"]


def test_a_job_that_must_not_be_run_again_may_say_so(kubernetes: Kubernetes) -> None:
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 1, "Error")
    assert len(run_to_the_end(kubernetes, retries=0, platform_retries=0, memory_retries=0)) == 1


def test_without_a_memory_of_attempts_there_are_never_more_than_the_allowance() -> None:
    class Broken(Store):
        def get(self, key: str, default: Any = None) -> Any:
            raise RuntimeError("no API server")

        set = get  # type: ignore[assignment]

    policy = CauseRetryPolicy(author=2)
    error = JobFailed("p", Outcome(Cause.APP_ERROR, "exit code 1"))
    for store in (Broken(), None):
        told = [policy.evaluate(error, attempt, 14, context(attempt, store)).action for attempt in (1, 2, 3)]
        assert told == [RetryAction.RETRY, RetryAction.RETRY, RetryAction.FAIL]


def test_errors_that_are_not_about_the_pod_follow_the_authors_retries() -> None:
    policy, store = CauseRetryPolicy(author=1), Store()
    told = [policy.evaluate(ApiException(status=400), attempt, 13, context(attempt, store)) for attempt in (1, 2)]
    assert [each.action for each in told] == [RetryAction.RETRY, RetryAction.FAIL]
    assert told[0].retry_delay is None  # Airflow's own: the author's


@pytest.mark.parametrize("error", [ApiException(status=503), ProtocolError("connection reset")])
def test_an_outage_of_the_api_server_does_not_use_up_the_authors_retries(error: Exception) -> None:
    policy, store = CauseRetryPolicy(author=0), Store()
    told = [policy.evaluate(error, attempt, 12, context(attempt, store)).action for attempt in range(1, 12)]
    assert told == [RetryAction.RETRY] * 10 + [RetryAction.FAIL]


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


def test_a_pod_that_may_land_anywhere_is_taken_over_on_the_last_rung(kubernetes: Kubernetes, clock: Clock) -> None:
    """Its label names the first pool, though its machine may be of another."""
    kubernetes.phase = lambda body: "Pending"
    with pytest.raises(TaskDeferred):
        task(kubernetes, deferrable=True, kubernetes_conn_id=None).execute(context())
    [name] = kubernetes.pods
    clock.at = [(clock.passed + 100, lambda: kubernetes.bind(name))]
    kubernetes.nodes = {"i-1": node() | {"metadata": {"labels": {"tidepool.dev/pool": "on-demand-small"}}}}
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 1, "Error")
    made = len(kubernetes.created)
    error = failed(task(kubernetes), 2)
    assert (error.pool, error.market, len(kubernetes.created)) == ("on-demand-small", "on-demand", made)


def test_where_a_pod_landed_while_its_task_was_deferred_is_read_from_its_machine(kubernetes: Kubernetes) -> None:
    kubernetes.put("p", labels={"tidepool.dev/pool": "spot-small"})
    kubernetes.nodes = {"i-1": node() | {"metadata": {"labels": {"tidepool.dev/pool": "on-demand-small"}}}}
    both = ["spot-small", "on-demand-small"]
    terms = [{"matchExpressions": [{"key": "tidepool.dev/pool", "operator": "In", "values": [pool]}]} for pool in both]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    kubernetes.pods["p"].spec.affinity = {"nodeAffinity": required}
    kubernetes.end("p", "Failed", 1, "Error")
    event = {"status": "failed", "name": "p", "namespace": "tidepool-analytics", "message": ""}
    with pytest.raises(JobFailed) as caught:
        task(kubernetes, deferrable=True).trigger_reentry(context(), event)
    assert (caught.value.pool, caught.value.market) == ("on-demand-small", "on-demand")


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


def test_a_lost_machine_is_no_reason_to_wait_as_long_as_the_author_said() -> None:
    error = JobFailed("p", Outcome(Cause.SPOT_RECLAIM, "taken back"), pool="spot-small", market="spot")
    told = CauseRetryPolicy(author=1).evaluate(error, 1, 13, context(1, Store()))
    assert told.retry_delay == timedelta(seconds=5)
    assert told.reason == "spot_reclaim: not the job's doing, 1 of 10 such retries"


def test_the_log_says_why_the_last_attempt_ended_and_what_is_different_now(
    kubernetes: Kubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    lost = {"cause": "spot_reclaim", "message": "taken back", "pool": "spot-small", "market": "spot"}
    short = {"number": 3, "cause": "out_of_memory", "message": "OOMKilled", "memory_bytes": 3 * GIB, "pool": "od"}
    store.set(STORE_KEY, [{"number": 1, **lost}, {"number": 2, **lost}, short])
    task(kubernetes, memory="3Gi").execute(context(4, store))
    told = capsys.readouterr().out
    for line in (
        "Attempt 3 on od () ended with out_of_memory: OOMKilled",
        "Now with 4608 MiB of memory instead of 3072",
        "Now on on-demand-small (on-demand): 2 attempts were lost on spot machines",
    ):
        assert line in told


def test_an_author_may_have_a_policy_of_their_own(kubernetes: Kubernetes) -> None:
    own = ExceptionRetryPolicy(rules=[])
    operator = task(kubernetes, retries=7, retry_policy=own)
    assert (operator.retries, operator.retry_policy) == (7, own)


@pytest.mark.usefixtures("capacity_file")
def test_airflow_reads_the_policy_and_all_retries_from_a_serialized_dag() -> None:
    with DAG("d", schedule=None, default_args={"retries": 1, "memory_retries": 0}) as dag:
        SparkPodOperator(task_id="one", application="a.py")
        SparkPodOperator.partial(task_id="many", application="a.py", platform_retries=3).expand(
            application_args=[["1"], ["2"]]
        )
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert (read.get_task("one").retries, read.get_task("one").has_retry_policy) == (11, True)
    assert (read.get_task("many").retries, read.get_task("many").has_retry_policy) == (4, True)
    policy = CauseRetryPolicy(author=1, platform=2, memory=3)
    assert CauseRetryPolicy.deserialize(json.loads(json.dumps(policy.serialize()))) == policy


# What is shared, and what is read of machines.


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


def node(ready: str = "True", created: str = "2026-11-22T09:00:00Z") -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": created}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


POD = {"spec": {"nodeName": "i-1"}, "status": {"startTime": "2026-11-22T10:00:00Z"}}


def test_a_machine_of_the_same_name_that_is_younger_than_the_pod_is_another(kubernetes: Kubernetes) -> None:
    kubernetes.nodes = {"i-1": node()}
    assert evidence.machine(kubernetes, POD) == (node(), False)  # type: ignore[arg-type]
    kubernetes.nodes = {"i-1": node(created="2026-11-22T11:00:00Z")}
    assert evidence.machine(kubernetes, POD) == (None, True)  # type: ignore[arg-type]
    kubernetes.nodes = None
    assert evidence.machine(kubernetes, POD) == (None, False)  # type: ignore[arg-type]


@pytest.mark.parametrize(("ready", "cause"), [("Unknown", Cause.NODE_LOST), ("True", Cause.APP_ERROR)])
def test_a_signal_is_the_machines_or_the_programs_own_as_the_machine_shows_in_a_minute(
    kubernetes: Kubernetes, clock: Clock, ready: str, cause: Cause
) -> None:
    kubernetes.nodes = {"i-1": node()}

    def gets_signal(name: str) -> None:
        kubernetes.end(name, "Failed", 143, "Error")
        Watch.last = kubernetes.json(name)
        assert kubernetes.nodes is not None
        nodes = kubernetes.nodes
        clock.at = [(clock.passed + 30, lambda: nodes.update({"i-1": node(ready)}))]

    kubernetes.script = gets_signal
    assert failed(task(kubernetes)).cause is cause
    assert clock.passed <= 70


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


def test_a_deferred_task_leaves_the_worker_on_its_last_rung(kubernetes: Kubernetes, clock: Clock) -> None:
    kubernetes.phase = lambda body: "Pending"
    with pytest.raises(TaskDeferred):
        task(kubernetes, deferrable=True, kubernetes_conn_id=None).execute(context())
    assert pools_of(kubernetes.bodies[-1]) == ["spot-small", "on-demand-small"]
    assert len(kubernetes.pods) == 1
    (pod,) = kubernetes.pods.values()
    until = datetime.fromisoformat(pod.metadata.annotations["tidepool.dev/lease"])
    assert until.timestamp() - datetime.now(UTC).timestamp() > lease.DEFERRED_SECONDS - 60


@pytest.mark.parametrize(
    ("cause", "state", "delay"),
    [
        (Cause.SPOT_RECLAIM, "up_for_retry", 5.0),
        (Cause.APP_ERROR, "up_for_retry", None),
        (Cause.IMAGE_PULL, "failed", None),
    ],
)
def test_airflows_task_runner_does_what_the_policy_says(
    kubernetes: Kubernetes, cause: Cause, state: str, delay: float | None
) -> None:
    """Airflow's own code between an exception and the message to its server."""
    ti = mock.MagicMock(task=task(kubernetes), try_number=1, stats_tags={}, rendered_map_index=None)
    ti._ti_context_from_server = SimpleNamespace(max_tries=15, should_retry=True)
    error = JobFailed("p", Outcome(cause, "because"))
    message, found = task_runner._handle_current_task_failed(ti, error, mock.MagicMock(), context(1, Store()))
    assert found == state
    assert getattr(message, "retry_delay_seconds", None) == delay
    if state == "up_for_retry":
        assert message.retry_reason.startswith(f"{cause}: ")
