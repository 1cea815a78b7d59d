"""Each job kind's example DAG, run by Airflow on machines that are bought for it and given back."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from infra import capacity_document, naming
from infra.local.webhdfs import HdfsError
from tests.local.spark_operator import SparkOperator
from tidepool import spark_conf
from tidepool.capacity import GPU_RESOURCE, POOL_LABEL
from tidepool.cluster import ROLE_LABEL
from tidepool.sizing import spark_memory

pytestmark = pytest.mark.local_cloud

NAMESPACE = naming.tenant_namespace("jobs")
EVENTS = "/spark-events"


def pods(local: Any, selector: str) -> list[Any]:
    """The jobs' pods that run and have these labels."""
    listed = local.api.list_namespaced_pod(NAMESPACE, label_selector=selector).items
    return [pod for pod in listed if pod.status.phase == "Running"]


def pool_of(local: Any, pod: Any) -> str:
    return str(local.node(pod.spec.node_name).metadata.labels[POOL_LABEL])


def starts(local: Any, example: str) -> str:
    """Start a run of an example; what it writes is not there yet."""
    return str(local.start(example))


def ends(local: Any, example: str, run: str, limit: float) -> None:
    """Wait for the run's success; afterwards nothing of it is left, and no machine."""
    local.succeeds(example, run, limit)
    local.wait_until(lambda: not local.api.list_namespaced_pod(NAMESPACE).items, 60, f"no pod of {example} is left")
    local.drains()


def has_members(local: Any, role: str, count: int, limit: float) -> None:
    """Wait for a job of several pods: so many members or more, each on a spot machine alone, the main pod on none."""

    def there() -> Any:
        found = pods(local, f"{ROLE_LABEL}={role}")
        return found if len(found) >= count else None

    members = local.wait_until(there, limit, f"{count} pods of role {role} run")
    [main] = pods(local, f"!{ROLE_LABEL}")
    assert {pod.metadata.owner_references[0].uid for pod in members} == {main.metadata.uid}
    assert len({pod.spec.node_name for pod in members} | {main.spec.node_name}) == len(members) + 1
    assert pool_of(local, main) == "on-demand-small"
    assert {pool_of(local, pod) for pod in members} == {"spot-small"}


def cleaned(local: Any) -> None:
    """The flights are there, by month."""
    months = (local.lake / "flights" / "clean").names()
    assert "_SUCCESS" in months
    assert len([name for name in months if name.startswith("month=")]) == 12


def test_any_command_of_any_image(local: Any) -> None:
    ends(local, "any_image", starts(local, "any_image"), 120)


def test_a_gpu(local: Any) -> None:
    """The GPU is a stand-in: a device plugin's word (infra/local/device_plugin.py)."""
    run = starts(local, "gpu")
    [pod] = local.wait_until(lambda: pods(local, f"{POOL_LABEL}=gpu"), 90, "a pod runs on a machine with a GPU")
    node = local.node(pod.spec.node_name)
    assert node.metadata.labels[POOL_LABEL] == "gpu"
    assert node.status.allocatable[GPU_RESOURCE] == "1"
    ends(local, "gpu", run, 60)
    log = local.airflow.log("gpu", run, "devices", 1)
    assert any(f"visible: GPU-{node.metadata.name}-0" in line for line in log), log


def test_spark_with_executors_in_its_one_pod(local: Any) -> None:
    run = starts(local, "executors")
    [pod] = local.wait_until(lambda: pods(local, f"{POOL_LABEL}=spot-small"), 90, "its pod runs")
    ends(local, "executors", run, 180)
    log = local.airflow.log("executors", run, "clean", 1)
    for number in (0, 1):
        assert any(f"Starting executor ID {number} on host 127.0.0.1" in line for line in log), log
    assert any("Spark: 2 executors of 1 thread each" in line for line in log)
    assert not any("standalone:" in line for line in log)
    assert pod.spec.containers[0].resources.limits["memory"] == "4Gi"
    cleaned(local)


def test_spark_with_executors_on_machines_of_their_own(local: Any) -> None:
    run = starts(local, "spark_cluster")
    has_members(local, "executor", 2, 120)
    ends(local, "spark_cluster", run, 180)
    cleaned(local)


def test_spark_by_the_spark_operator(local: Any) -> None:
    """The spark-operator is a stand-in; what it submits is Spark's own cluster mode."""
    operator = SparkOperator(local, NAMESPACE)
    with operator.running():
        run = starts(local, "spark_application")
        has_members(local, "executor", 1, 180)
        ends(local, "spark_application", run, 180)
    [states] = operator.states.values()
    assert states[:2] == ["SUBMITTED", "RUNNING"]
    cleaned(local)


def test_dask_in_one_pod_and_with_workers_on_machines_of_their_own(local: Any) -> None:
    run = starts(local, "dask")
    has_members(local, "worker", 2, 240)
    ends(local, "dask", run, 120)
    delays = json.loads((local.lake / "flights" / "dask" / "delays.json").read())
    assert (delays[0]["carrier"], delays[0]["arr_delay"]) == ("F9", 21.92)


def test_h2o_in_one_pod(local: Any) -> None:
    ends(local, "sparkling_water", starts(local, "sparkling_water"), 240)
    model = json.loads((local.lake / "flights" / "h2o" / "model.json").read())
    assert model["rmse"] < model["baseline_rmse"]


PROGRAM = """\
import time
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
print(spark.range(1000).selectExpr("sum(id)").collect())
time.sleep(3600)
"""


def test_the_event_log_of_a_job_whose_machine_is_lost_is_there(local: Any) -> None:
    manifest = local.job_pod("logged", "", cores=1, memory="2Gi")
    hdfs = local.lake.files
    namenode = local.capacity.lake.uri.removesuffix("/lake")
    conf = local.capacity.spark_conf | capacity_document.spark_conf({}, f"{namenode}{EVENTS}")
    conf |= {"spark.eventLog.compress": "false"}  # to be read here
    settings = spark_conf.settings("logged", 1, spark_memory("logged", 2 * 1024**3, 1), conf)
    submit = spark_conf.spark_submit("logged", "/tmp/program.py", [], settings)  # noqa: S108 (in the pod)
    container = manifest["spec"]["containers"][0]
    container["env"].append({"name": "PROGRAM", "value": PROGRAM})
    container["args"] = ["sh", "-c", 'echo "$PROGRAM" > /tmp/program.py && exec "$@"', "sh", *submit]
    before = set(hdfs.names(EVENTS))
    local.create(manifest)
    machine = local.runs("logged")

    def events() -> list[str]:
        """What is in the application's event log so far."""
        found: list[str] = []
        with contextlib.suppress(HdfsError):  # a file that is just being made
            for name in sorted(set(hdfs.names(EVENTS)) - before):
                for file in hdfs.names(f"{EVENTS}/{name}"):
                    if file.startswith("events_"):
                        found += hdfs.read(f"{EVENTS}/{name}/{file}").decode().splitlines()
        return [json.loads(line)["Event"] for line in found if line.endswith("}")]

    local.wait_until(lambda: "SparkListenerJobEnd" in events(), 90, "the job's end is in the event log")
    local.aws.reclaim(machine)
    local.wait_until(lambda: local.node(machine) is None, 60, "the machine is gone")
    assert {"SparkListenerApplicationStart", "SparkListenerJobStart", "SparkListenerJobEnd"} <= set(events())
    assert "SparkListenerApplicationEnd" not in events()
