"""Jobs of several pods: it is those that ran out of memory that get more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import RetryAction
from kubernetes import client

from tests.dags.fake_kubernetes import Kubernetes, Store, connect, context
from tidepool import Cause, DaskClusterOperator, JobFailed, SparkClusterOperator, SparkPodOperator
from tidepool import capacity as document
from tidepool.capacity import Capacity, Pool
from tidepool.operators.members import Members
from tidepool.operators.retry_policy import CauseRetryPolicy

GIB = 1024**3
CASES = Path(__file__).with_name("outcomes")


def words(case: str) -> str:
    body = yaml.safe_load((CASES / f"{case}.yaml").read_text())
    found: str = body["seen"]["pod"]["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
    return found


def says(kubernetes: Kubernetes, text: str) -> None:
    """Every attempt's main pod fails with these last words."""

    def script(name: str) -> None:
        kubernetes.end(name, "Failed", 1, "Error")
        ended = client.V1ContainerStateTerminated(exit_code=1, reason="Error", message=text)
        kubernetes.set_state(name, terminated=ended)

    kubernetes.script = script


@pytest.fixture(autouse=True)
def _pools(
    kubernetes: Kubernetes, capacity_file: Any, capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(pool("small"), pool("large", cpu_millis=3900, memory_bytes=15 * GIB, priority=10))
    capacity_file.write_text(document.dumps(capacity), encoding="utf-8")


def attempts(kubernetes: Kubernetes, make: Callable[[], Any], most: int) -> list[tuple[JobFailed, RetryAction, Any]]:
    """One attempt after another, each by an operator of its own."""
    store, policy, found = Store(), CauseRetryPolicy(author=0), []
    for number in range(1, most + 1):
        operator = connect(make(), kubernetes)
        with pytest.raises(JobFailed) as caught:
            operator.execute(context(number, store))
        decision = policy.evaluate(caught.value, number, policy.limits.total, context(number, store))
        found.append((caught.value, decision.action, operator))
    return found


def spark(**asked: Any) -> SparkClusterOperator:
    given = {"task_id": "clean", "application": "a.py", "memory": "4Gi", "driver_market": None, "market": "spot"}
    return SparkClusterOperator(**given | asked)


@pytest.mark.parametrize("case", ["memory-executor-container", "memory-executor-heap", "memory-executor-task"])
def test_executors_that_ran_out_of_memory_get_half_as_much_again_and_the_driver_what_it_had(
    kubernetes: Kubernetes, case: str
) -> None:
    says(kubernetes, words(case))
    found = attempts(kubernetes, spark, 3)
    assert [error.cause for error, _, _ in found] == [Cause.OUT_OF_MEMORY] * 3
    assert [action for _, action, _ in found] == [RetryAction.RETRY, RetryAction.RETRY, RetryAction.FAIL]
    assert [error.memory_bytes >> 20 for error, _, _ in found] == [4096, 6144, 9216]
    assert [each.executor_placement.memory_bytes >> 20 for _, _, each in found] == [4096, 6144, 9216]
    assert {each.placement.memory_bytes >> 20 for _, _, each in found} == {2048}
    heaps = [next(arg for arg in each.arguments if arg.startswith("spark.executor.memory=")) for _, _, each in found]
    assert len(set(heaps)) == 3


def test_a_driver_that_ran_out_of_memory_gets_more_itself(kubernetes: Kubernetes) -> None:
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 137, "OOMKilled")
    found = attempts(kubernetes, spark, 2)
    assert [each.placement.memory_bytes >> 20 for _, _, each in found] == [2048, 3072]
    assert {each.executor_placement.memory_bytes >> 20 for _, _, each in found} == {4096}


def test_no_pool_with_more_for_an_executor_is_said(kubernetes: Kubernetes) -> None:
    says(kubernetes, words("memory-executor-container"))
    [(error, action, _)] = attempts(kubernetes, lambda: spark(memory="15104Mi"), 1)
    assert error.memory_bytes == error.largest_bytes
    assert action is RetryAction.FAIL


def test_in_one_pod_executors_are_the_pods_own(kubernetes: Kubernetes) -> None:
    says(kubernetes, words("memory-executor-task"))
    make = lambda: SparkPodOperator(task_id="clean", application="a.py", executors=1, memory="4Gi")  # noqa: E731
    found = attempts(kubernetes, make, 2)
    assert [each.placement.memory_bytes >> 20 for _, _, each in found] == [4096, 6144]


@pytest.mark.parametrize(
    ("starved", "text", "cause"),
    [
        (
            "clean-1",
            "distributed.scheduler.KilledWorker: Attempted to run task 'sum-1' on 4 different workers",
            "memory",
        ),
        ("", "distributed.scheduler.KilledWorker: Attempted to run task 'sum-1' on 4 different workers", "app"),
        ("clean-1", "ValueError: no such column", "app"),
    ],
)
def test_a_dask_job_that_was_given_up_because_its_workers_died_of_want_of_memory_gets_larger_ones(
    kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch, starved: str, text: str, cause: str
) -> None:
    monkeypatch.setattr(Members, "start", lambda self: setattr(self, "starved", starved))
    says(kubernetes, text)

    def make() -> DaskClusterOperator:
        asked: dict[str, Any] = {"memory": "4Gi", "scheduler_market": None, "image": "i:1"}
        return DaskClusterOperator(task_id="clean", application="a.py", **asked)

    found = attempts(kubernetes, make, 2 if cause == "memory" else 1)
    assert found[0][0].cause is (Cause.OUT_OF_MEMORY if cause == "memory" else Cause.APP_ERROR)
    sizes = [each.worker_placement.memory_bytes >> 20 for _, _, each in found]
    assert sizes == ([4096, 6144] if cause == "memory" else [4096])
    assert {each.placement.memory_bytes >> 20 for _, _, each in found} == {2048}
