"""Spark on its Kubernetes scheduler: the driver's pod, and the executors' as the driver asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from kubernetes.client import ApiClient, V1EmptyDirVolumeSource, V1Volume, V1VolumeMount

from tests.dags.submitted import conf_of
from tidepool import JobError, SparkClusterOperator, cluster, spark_cluster_conf
from tidepool import capacity as document
from tidepool.capacity import Capacity, Pool

pytestmark = pytest.mark.usefixtures("capacity_file")

IMAGES = Path(__file__).resolve().parents[2] / "images"


def driver_of(operator: SparkClusterOperator) -> dict[str, Any]:
    """The driver's pod, as JSON."""
    operator.hook = mock.MagicMock(is_in_cluster=False)
    ti = SimpleNamespace(dag_id="d", task_id=operator.task_id, run_id="r", try_number=2, map_index=-1)
    pod = operator.build_pod_request_obj({"ti": ti, "run_id": "r", "dag": None})
    found: dict[str, Any] = ApiClient().sanitize_for_serialization(pod)
    return found


def executor_of(driver: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(driver["metadata"]["annotations"][spark_cluster_conf.TEMPLATE_ANNOTATION])
    return found


def pools_of(pod: dict[str, Any]) -> list[str]:
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [each["values"][0] for term in terms["nodeSelectorTerms"] for each in term["matchExpressions"]]


def spark(**arguments: Any) -> SparkClusterOperator:
    return SparkClusterOperator(**{"task_id": "big", "application": "big.py", "executors": 3} | arguments)


def test_the_driver_is_on_demand_and_the_executors_on_the_best_pools_there_are() -> None:
    driver = driver_of(spark())
    assert pools_of(driver) == ["on-demand-small"]
    assert pools_of(executor_of(driver)) == ["spot-small", "on-demand-small"]
    assert driver["spec"]["containers"][0]["resources"]["limits"] == {"memory": "2048Mi"}


@pytest.mark.parametrize(("market", "pools"), [("spot", ["spot-small"]), (None, ["spot-small", "on-demand-small"])])
def test_the_driver_runs_on_the_market_that_its_author_chooses(market: Any, pools: list[str]) -> None:
    assert pools_of(driver_of(spark(driver_market=market))) == pools


def test_an_executors_pod_is_as_large_as_what_a_job_can_have_of_the_machine() -> None:
    operator = spark()
    conf = conf_of(operator)
    memory = sum(int(conf[f"spark.executor.{part}"].removesuffix("m")) for part in ("memory", "memoryOverhead"))
    assert memory == operator.executor_placement.memory_bytes // 1024**2 == 6912
    assert (conf["spark.kubernetes.executor.request.cores"], conf["spark.executor.cores"]) == ("1680m", "2")
    assert "resources" not in executor_of(driver_of(operator))["spec"]["containers"][0]


def test_the_driver_may_start_executors_and_they_may_nothing() -> None:
    driver = driver_of(spark())
    executor = executor_of(driver)
    assert (driver["spec"]["serviceAccountName"], driver["spec"]["automountServiceAccountToken"]) == (
        "job-driver",
        True,
    )
    assert (executor["spec"]["serviceAccountName"], executor["spec"]["automountServiceAccountToken"]) == ("job", False)


def test_an_executor_has_its_owner_its_rights_and_its_grace_and_is_not_taken_for_the_driver() -> None:
    driver = driver_of(spark(team="research"))
    executor = executor_of(driver)
    labels = executor["metadata"]["labels"]
    assert labels == {
        "tidepool.dev/owner-dag": "d",
        "tidepool.dev/owner-task": "big",
        "tidepool.dev/owner-run": "r",
        "tidepool.dev/attempt": "2",
        "tidepool.dev/team": "research",
        "tidepool.dev/pool": "spot-small",
        "tidepool.dev/role": "executor",
    }
    # By these Airflow finds the task's pod.
    assert {"dag_id", "task_id", "run_id"} <= set(driver["metadata"]["labels"])
    assert executor["metadata"]["namespace"] == driver["metadata"]["namespace"] == "tidepool-research"
    assert executor["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    spec = executor["spec"]
    assert spec["terminationGracePeriodSeconds"] == cluster.GRACE_SECONDS
    assert spec["securityContext"]["runAsNonRoot"] is True
    [container] = spec["containers"]
    assert container["securityContext"] == driver["spec"]["containers"][0]["securityContext"]
    assert not {"args", "command"} & set(container)


def test_what_the_author_puts_into_the_pod_the_executors_have_too() -> None:
    driver = driver_of(
        spark(
            env_vars={"A": "b"},
            tolerations=[{"key": "mine", "operator": "Exists"}],
            volumes=[V1Volume(name="more", empty_dir=V1EmptyDirVolumeSource())],
            volume_mounts=[V1VolumeMount(name="more", mount_path="/more")],
            priority_class_name="tidepool-job-high",
        )
    )
    spec = executor_of(driver)["spec"]
    names = [each["name"] for each in spec["containers"][0]["env"]]
    assert names == ["HOME", "PYTHONUNBUFFERED", "TIDEPOOL_LAKE", "A", "TIDEPOOL_CHECKPOINT"]
    assert [each["key"] for each in spec["tolerations"]].count("mine") == 1
    assert [each["name"] for each in spec["volumes"]] == ["scratch", "more"]
    assert [each["name"] for each in spec["containers"][0]["volumeMounts"]] == ["scratch", "more"]
    assert spec["priorityClassName"] == "tidepool-job-high"


def test_the_driver_reads_the_template_as_a_file_and_finds_itself_by_name_and_address() -> None:
    operator = spark()
    driver = driver_of(operator)
    conf = conf_of(operator)
    [container] = driver["spec"]["containers"]
    folder = next(each["mountPath"] for each in container["volumeMounts"] if each["name"] == "executor-template")
    [volume] = [each for each in driver["spec"]["volumes"] if each["name"] == "executor-template"]
    [item] = volume["downwardAPI"]["items"]
    assert conf["spark.kubernetes.executor.podTemplateFile"] == f"{folder}/{item['path']}"
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{spark_cluster_conf.TEMPLATE_ANNOTATION}']"
    fields = {
        each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"] for each in container["env"] if "valueFrom" in each
    }
    assert fields == {"TIDEPOOL_POD_NAME": "metadata.name", "TIDEPOOL_POD_IP": "status.podIP"}
    assert conf["spark.kubernetes.driver.pod.name"] == "$(TIDEPOOL_POD_NAME)"
    assert conf["spark.driver.host"] == "$(TIDEPOOL_POD_IP)"


def test_a_reclaimed_executor_hands_over_its_blocks_within_its_grace() -> None:
    conf = conf_of(spark())
    assert conf["spark.decommission.enabled"] == conf["spark.storage.decommission.enabled"] == "true"
    assert conf["spark.kubernetes.executor.terminationGracePeriodSeconds"] == f"{cluster.GRACE_SECONDS}s"
    script = Path(conf["spark.kubernetes.decommission.script"])
    assert script.parent == Path("/usr/local/bin")  # where the image has its scripts
    assert (IMAGES / "spark" / "bin" / script.name).is_file()


def test_executors_may_come_and_go_with_the_work() -> None:
    conf = conf_of(spark(executors=(0, 8)))
    assert conf["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"
    assert (conf["spark.dynamicAllocation.minExecutors"], conf["spark.dynamicAllocation.maxExecutors"]) == ("0", "8")
    assert "spark.dynamicAllocation.enabled" not in conf_of(spark(executors=8))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"executors": 0}, r"'big': executors must be a number of at least 1.*not 0"),
        ({"executors": (4, 2)}, r"executors must be .* the fewest and the most, such as \(1, 8\), not \(4, 2\)"),
        ({"gpus": 1}, r"'big': gpus: executors have none"),
        ({"conf": {"spark.executor.memory": "1g"}}, r"'big': conf spark\.executor\.memory is derived from memory"),
        ({"memory": "1Ti"}, r"'big' does not fit"),
        ({"driver_memory": "700Mi"}, r"'big'.*heap"),
        ({"pool": "none"}, r"no pool 'none'"),
        ({"cmds": ["x"]}, r"cmds: the image's own entry point"),
    ],
)
def test_a_cluster_that_cannot_be_fails_where_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(JobError, match=words):
        spark(**arguments)


def test_without_a_pool_of_the_drivers_market_that_is_said(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool], capacity_file: Path
) -> None:
    capacity_file.write_text(document.dumps(capacity_of(pool("spot-small"))))
    with pytest.raises(JobError, match=r"'big': market='on-demand', but no job pool is on-demand"):
        spark()
    assert pools_of(driver_of(spark(driver_market=None))) == ["spot-small"]
