from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infra import capacity_document, scheduling, settings
from infra.aws import asg_tags, machines
from infra.settings.model import AwsCloud
from tidepool import capacity
from tidepool import pod as pods
from tidepool.job import Job
from tidepool.sizing import place

STACKS = sorted((Path(__file__).resolve().parents[2] / "stacks").glob("Pulumi.*.yaml"))
CASES = Path(__file__).parent / "cases" / "accepted"
LAKE = "hdfs://somewhere/lake"

by_stack = pytest.mark.parametrize("stack", STACKS, ids=lambda path: path.name)


def stack(name: str) -> settings.Settings:
    return settings.load(next(path for path in STACKS if path.name == f"Pulumi.{name}.yaml"))


def of_case(name: str, folder: Path) -> settings.Settings:
    return settings.load(Path(shutil.copy(CASES / f"{name}.yaml", folder / "Pulumi.dev.yaml")))


def document(of: settings.Settings) -> capacity.Capacity:
    return capacity_document.build(of, LAKE, {"spark": "spark:abc"})


@by_stack
def test_the_library_reads_back_what_the_program_writes(stack: Path) -> None:
    written = document(settings.load(stack))
    assert capacity.loads(capacity.dumps(written)) == written


def test_what_only_the_cloud_knows_comes_from_it() -> None:
    """The lake may be a bucket that is yet to be made, and images may be built by the program."""
    written = document(stack("local"))
    assert (written.lake, written.images) == (capacity.Lake(uri=LAKE), {"spark": "spark:abc"})


def test_event_logs_in_s3_are_closed_as_often_as_spark_allows_and_of_every_spark_that_there_is() -> None:
    conf = capacity_document.spark_conf({}, "s3a://logs/spark-events")
    assert conf["spark.eventLog.rolling.maxFileSize"] == "10m"  # "at least 10 MiB", Spark says otherwise
    assert conf["spark.eventLog.rolling.enabled"] == "true"  # not Spark 3.5's default
    assert not [key for key in capacity_document.spark_conf({}, "hdfs://n:8020/logs") if "rolling" in key]
    assert capacity_document.spark_conf({}, "") == {}


def test_each_tenant_has_a_namespace_and_runs_jobs_there_as_one_account() -> None:
    written = document(stack("prod"))
    assert written.tenants == {
        name: capacity.Tenant(namespace=f"tidepool-{name}", service_account="job") for name in ("analytics", "science")
    }
    assert written.default_tenant == "analytics"


@by_stack
def test_job_pools_keep_others_off_and_the_system_machines_keep_jobs_off(stack: Path) -> None:
    pools = document(settings.load(stack)).pools
    assert pools["system"].labels == {"tidepool.dev/pool": "system"}
    assert [(each.key, each.value, each.effect) for each in pools["system"].taints] == [
        ("CriticalAddonsOnly", "true", "NoSchedule")
    ]
    assert [name for name, pool in pools.items() if not pool.jobs] == ["system"]
    for name, pool in pools.items():
        if pool.jobs:
            assert pool.labels["tidepool.dev/pool"] == name
            assert [(each.key, each.value, each.effect) for each in pool.taints] == [
                ("tidepool.dev/pool", name, "NoSchedule")
            ]


@by_stack
def test_the_autoscalers_tags_promise_what_the_document_promises(stack: Path) -> None:
    read = settings.load(stack)
    assert isinstance(read.cloud, AwsCloud)
    for name, pool in document(read).pools.items():
        if pool.jobs:
            tags = machines.group_tags("cluster", "group", read.cloud.pools[name], {})
            assert tags[f"{asg_tags.TEMPLATE}resources/cpu"] == f"{pool.cpu_millis}m"
            assert tags[f"{asg_tags.TEMPLATE}resources/memory"] == f"{pool.memory_bytes // 1024**2}Mi"
            assert tags.get(f"{asg_tags.TEMPLATE}resources/nvidia.com/gpu", "0") == str(pool.gpus)


def test_a_pool_costs_what_its_dearest_type_costs_in_its_market() -> None:
    pool = document(stack("local")).pools["spot-small"]
    assert (pool.usd_per_hour, pool.on_demand_usd_per_hour) == (0.0418, 0.096)


def test_gpus_and_processor_are_those_of_the_pools_types() -> None:
    pools = document(stack("prod")).pools
    assert {name: pool.gpus for name, pool in pools.items() if pool.gpus} == {"spot-gpu": 1, "on-demand-gpu": 1}
    assert [name for name, pool in pools.items() if pool.architecture == "arm64"] == ["on-demand-arm"]


def test_a_machine_with_an_instance_store_has_its_smallest_types_for_pods() -> None:
    """g4dn.xlarge has 116.4 GiB, g5.xlarge and g6.xlarge 232.8 GiB."""
    size = document(stack("prod")).pools["spot-gpu"].ephemeral_storage_bytes
    assert 95 < size / 1024**3 < 116.4


def test_an_existing_clusters_pools_are_what_the_stack_file_says(tmp_path: Path) -> None:
    written = document(of_case("every-key-existing", tmp_path))
    assert written.cluster == "lab"
    assert set(written.pools) == {"batch", "plain"}
    assert written.pools["batch"] == capacity.Pool(
        name="batch",
        market="spot",
        jobs=True,
        instance_types=(),
        labels={"cloud.example.com/pool": "batch"},
        taints=(capacity.Taint(key="dedicated", value="", effect="NoExecute"),),
        cpu_millis=8000,
        memory_bytes=int(28.5 * 1024**3),
        ephemeral_storage_bytes=80 * 10**9,
        gpus=1,
        architecture="arm64",
        max_machines=5,
        priority=50,
        usd_per_hour=0.1,
        on_demand_usd_per_hour=0.4,
    )


@pytest.mark.parametrize("case", ["minimal-existing", "every-key-existing", "gpu-pools", "minimal"])
def test_a_job_of_any_pool_may_land_on_the_nodes_that_the_pool_describes(case: str, tmp_path: Path) -> None:
    written = document(of_case(case, tmp_path))
    for pool in written.pools.values():
        if pool.jobs:
            job = Job("t", pool=pool.name, gpus=pool.gpus)
            pod = pods.manifest(place(job, written), "i:1", written)
            assert scheduling.matches(pod["spec"], scheduling.exactly(pool.labels))
            assert not list(scheduling.untolerated(pod["spec"], pool.taints))
            assert capacity.pool_of(pool.labels, written.pools.values()) == pool.name
