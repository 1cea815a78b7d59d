"""Settings to the capacity document: what the DAG library gets to know of an environment's pools. Pure."""

from __future__ import annotations

from infra import naming
from infra.aws.allocatable import Allocatable, allocatable
from infra.settings import Pool, Settings
from tidepool.capacity import Capacity, Lake
from tidepool.capacity import Pool as CapacityPool


def build(settings: Settings) -> Capacity:
    """The capacity document of an environment."""
    return Capacity(
        cluster=settings.cluster.name,
        namespace=naming.JOBS_NAMESPACE,
        service_account=naming.JOB_SERVICE_ACCOUNT,
        images=dict(settings.images),
        schedule_timeout_seconds=settings.jobs.schedule_timeout_seconds,
        pools={name: _pool(pool) for name, pool in settings.pools.items()},
        lake=Lake(uri=settings.lake.uri, host_path=settings.lake.host_path),
    )


def resources(pool: Pool) -> Allocatable:
    """What pods can have of one machine of a pool, whichever of its types EC2 gives."""
    return min(
        (allocatable(each, pool.max_pods, pool.root_volume_gib) for each in pool.instance_types),
        key=lambda each: each.memory_bytes,
    )


def _pool(pool: Pool) -> CapacityPool:
    size = resources(pool)
    return CapacityPool(
        name=pool.name,
        market=pool.market,
        jobs=pool.jobs,
        instance_types=tuple(each.name for each in pool.instance_types),
        labels=naming.node_labels(pool.name),
        taints=naming.node_taints(pool.name, pool.jobs),
        cpu_millis=size.cpu_millis,
        memory_bytes=size.memory_bytes,
        ephemeral_storage_bytes=size.ephemeral_storage_bytes,
        max_machines=pool.maximum,
        priority=pool.priority,
        # EC2 chooses the type: an estimate reckons with the dearest.
        usd_per_hour=max(each.price(pool.market) for each in pool.instance_types),
        on_demand_usd_per_hour=max(each.on_demand_usd_per_hour for each in pool.instance_types),
    )
