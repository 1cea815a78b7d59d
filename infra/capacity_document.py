"""Settings to the capacity document: what the DAG library gets to know of an environment's pools. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from infra import naming
from infra.aws import machines
from infra.aws.allocatable import Allocatable, allocatable
from infra.settings.model import Settings
from infra.settings.model_aws import AwsCloud, AwsPool, SystemNodes
from infra.settings.model_existing import ExistingPool
from tidepool.capacity import Capacity, Lake, Pool, Tenant


def build(
    settings: Settings, lake: str, images: Mapping[str, str], spark_conf: Mapping[str, str] | None = None
) -> Capacity:
    """The capacity document of an environment. lake: its URI. images: reference by name. The cloud has both."""
    cloud = settings.cloud
    pools: dict[str, Pool] = {}
    if isinstance(cloud, AwsCloud):
        pools[naming.SYSTEM_POOL] = _system(cloud.system)
        pools |= {name: _aws(pool) for name, pool in cloud.pools.items()}
    else:
        pools |= {name: _existing(pool) for name, pool in cloud.pools.items()}
    return Capacity(
        cluster=cloud.cluster.name,
        tenants={
            name: Tenant(
                namespace=naming.tenant_namespace(name),
                service_account=naming.JOB_SERVICE_ACCOUNT,
                share_percent=tenant.share_percent,
            )
            for name, tenant in settings.tenants.items()
        },
        default_tenant=settings.jobs.default_tenant,
        images=dict(images),
        schedule_timeout_seconds=settings.jobs.schedule_timeout_seconds,
        pools=pools,
        lake=Lake(uri=lake),
        spark_conf=dict(spark_conf or {}),
        budgets=dict(settings.jobs.budgets),
        queues=settings.services.airflow is not None,  # of another Airflow nobody here knows the pools
    )


SMALL_EVENT_LOGS = {"spark.eventLog.rolling.enabled": "true", "spark.eventLog.rolling.maxFileSize": "10m"}
"""Spark 3.5, which Sparkling Water has, writes one file unless told otherwise; less than 10 MiB Spark refuses."""


def spark_conf(hadoop: Mapping[str, str], event_logs: str) -> dict[str, str]:
    """Settings of every Spark job. hadoop: of HDFS's clients; event_logs: URI, empty where nobody reads them.

    In S3 a file is there once it is closed, and a machine that is gone closes none: files as small as Spark allows.
    """
    conf = {f"spark.hadoop.{key}": value for key, value in hadoop.items()}
    if not event_logs:
        return conf
    conf |= {"spark.eventLog.enabled": "true", "spark.eventLog.dir": event_logs}
    return conf | (SMALL_EVENT_LOGS if event_logs.startswith("s3a://") else {})


def resources(pool: AwsPool | SystemNodes) -> Allocatable:
    """What pods can have of one machine, whichever of the pool's types EC2 gives."""
    if isinstance(pool, AwsPool):
        return machines.size(pool)
    sizes = [allocatable(each, pool.max_pods, pool.root_volume_gib) for each in pool.instance_types]
    return min(sizes, key=lambda each: each.memory_bytes)


def _aws(pool: AwsPool) -> Pool:
    size = resources(pool)
    return Pool(
        name=pool.name,
        market=pool.market,
        jobs=True,
        instance_types=tuple(each.name for each in pool.instance_types),
        labels=machines.labels(pool),
        taints=machines.taints(pool),
        cpu_millis=size.cpu_millis,
        memory_bytes=size.memory_bytes,
        ephemeral_storage_bytes=size.ephemeral_storage_bytes,
        gpus=pool.gpus,
        architecture=pool.architecture,
        max_machines=pool.maximum,
        priority=pool.priority,
        # EC2 chooses the type: an estimate reckons with the dearest.
        usd_per_hour=max(each.price(pool.market) for each in pool.instance_types),
        on_demand_usd_per_hour=max(each.on_demand_usd_per_hour for each in pool.instance_types),
    )


def _system(nodes: SystemNodes) -> Pool:
    size = resources(nodes)
    price = max(each.on_demand_usd_per_hour for each in nodes.instance_types)
    return Pool(
        name=naming.SYSTEM_POOL,
        market="on-demand",
        jobs=False,
        instance_types=tuple(each.name for each in nodes.instance_types),
        labels=naming.node_labels(naming.SYSTEM_POOL),
        taints=naming.SYSTEM_TAINTS,
        cpu_millis=size.cpu_millis,
        memory_bytes=size.memory_bytes,
        ephemeral_storage_bytes=size.ephemeral_storage_bytes,
        gpus=0,
        architecture=nodes.architecture,
        max_machines=nodes.maximum,
        priority=1,  # the autoscaler doesn't scale it for jobs
        usd_per_hour=price,
        on_demand_usd_per_hour=price,
    )


def _existing(pool: ExistingPool) -> Pool:
    return Pool(
        name=pool.name,
        market=pool.market,
        jobs=pool.jobs,
        instance_types=(),
        labels=dict(pool.labels),
        taints=pool.taints,
        cpu_millis=pool.cpu_millis,
        memory_bytes=pool.memory_bytes,
        ephemeral_storage_bytes=pool.ephemeral_storage_bytes,
        gpus=pool.gpus,
        architecture=pool.architecture,
        max_machines=pool.maximum,
        priority=pool.priority,
        usd_per_hour=pool.usd_per_hour,
        on_demand_usd_per_hour=pool.on_demand_usd_per_hour,
    )
