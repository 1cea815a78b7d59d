"""One attempt after another: with what size, and whether there is another."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.sdk import DAG, ExceptionRetryPolicy, RetryAction
from airflow.sdk.execution_time import task_runner
from airflow.serialization.serialized_objects import DagSerialization
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError

from tests.dags.attempts import failed, pools_of
from tests.dags.fake_kubernetes import Kubernetes, Store, Watch, context, task
from tidepool import Cause, JobFailed, SparkPodOperator
from tidepool import capacity as document
from tidepool.capacity import Capacity, Pool
from tidepool.operators.retry_policy import STORE_KEY, CauseRetryPolicy
from tidepool.outcome import Outcome

GIB = 1024**3


# Size.


@pytest.fixture
def two_sizes(capacity_file: Any, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]) -> None:
    """A small pool, and one of machines twice as large."""
    capacity = capacity_of(pool("small"), pool("large", cpu_millis=3900, memory_bytes=15 * GIB, priority=10))
    capacity_file.write_text(document.dumps(capacity), encoding="utf-8")


@pytest.mark.usefixtures("two_sizes")
def test_after_want_of_memory_the_next_attempt_has_half_as_much_again_and_so_has_spark(
    kubernetes: Kubernetes,
) -> None:
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


@pytest.mark.usefixtures("two_sizes")
def test_a_job_that_asked_for_no_size_gets_the_whole_next_larger_machine(
    kubernetes: Kubernetes,
) -> None:
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


# Whether there is another attempt, and when.


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
