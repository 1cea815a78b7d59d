"""A pool's settings to what its machines are: names of groups, labels, taints, sizes, tags and user data. Pure.

Everything that says something about a pool's machines (the launch template, the autoscaler's tags, the capacity
document, the contract) takes it from here, so that all say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra import naming
from infra.aws import asg_tags, user_data
from infra.aws.allocatable import Allocatable, allocatable, kube_reserved
from infra.settings.model_aws import AwsPool
from tidepool.capacity import POOL_LABEL, Taint

ACCELERATOR_LABEL = "k8s.amazonaws.com/accelerator"
"""By it the autoscaler knows that a machine will have GPUs, and waits for the device plugin before it buys another."""


@dataclass(frozen=True)
class Group:
    """One Auto Scaling Group of a pool. minimum, maximum, warm: its part of the pool's machines."""

    name: str
    zones: tuple[str, ...]
    minimum: int
    maximum: int
    warm: int


def labels(pool: AwsPool) -> dict[str, str]:
    """The labels that a pool's machines carry from the start. A pool of several GPU models tells none of them."""
    models = {each.gpu_model.lower() for each in pool.instance_types}
    accelerator = f"nvidia-{models.pop()}" if len(models) == 1 else "nvidia"
    return naming.node_labels(pool.name) | ({ACCELERATOR_LABEL: accelerator} if pool.gpus else {})


def taints(pool: AwsPool) -> tuple[Taint, ...]:
    """The taints that keep everything but the pool's jobs off its machines."""
    return naming.node_taints(pool.name, jobs=True)


def size(pool: AwsPool) -> Allocatable:
    """What pods can have of one machine of a pool, whichever of its types EC2 gives."""
    sizes = [allocatable(each, pool.max_pods, pool.root_volume_gib, pool.nvme) for each in pool.instance_types]
    return Allocatable(
        cpu_millis=min(each.cpu_millis for each in sizes),
        memory_bytes=min(each.memory_bytes for each in sizes),
        ephemeral_storage_bytes=min(each.ephemeral_storage_bytes for each in sizes),
        pods=pool.max_pods,
    )


def template_name(cluster: str, pool: AwsPool) -> str:
    """The name of the launch template that a pool's groups share."""
    return naming.group_name(cluster, pool.name)


def groups(cluster: str, pool: AwsPool) -> tuple[Group, ...]:
    """The Auto Scaling Groups of a pool: one over all its zones, or one for each, which share its machines out."""
    name = naming.group_name(cluster, pool.name)
    if not pool.group_per_zone:
        return (Group(name, pool.zones, pool.minimum, pool.maximum, pool.warm),)
    count = len(pool.zones)
    return tuple(
        Group(
            name=f"{name}-{zone}",
            zones=(zone,),
            minimum=_share(pool.minimum, count, index),
            maximum=_share(pool.maximum, count, index),
            warm=_share(pool.warm, count, index),
        )
        for index, zone in enumerate(pool.zones)
    )


def _share(total: int, count: int, index: int) -> int:
    """What the index-th of `count` gets of a total; the first ones get what is over."""
    return total // count + (index < total % count)


def ownership(pool: AwsPool, tags: Mapping[str, str]) -> dict[str, str]:
    """The cost-allocation tags of a pool's machines and volumes: the environment's and the pool's name."""
    return {**tags, POOL_LABEL: pool.name}


def group_tags(cluster: str, group: str, pool: AwsPool, tags: Mapping[str, str]) -> dict[str, str]:
    """All tags of one group; `tags` are the environment's."""
    return asg_tags.render(
        cluster=cluster,
        group=group,
        ownership=ownership(pool, tags),
        labels=labels(pool),
        taints=taints(pool),
        resources=size(pool),
        gpus=pool.gpus,
        unneeded_time=pool.unneeded_time,
    )


def machine_user_data(
    cluster: str, pool: AwsPool, *, endpoint: str, certificate_authority: str, service_cidr: str
) -> str:
    """The user data of a pool's machines; the arguments are those of `user_data.render`."""
    return user_data.render(
        cluster=cluster,
        endpoint=endpoint,
        certificate_authority=certificate_authority,
        service_cidr=service_cidr,
        max_pods=pool.max_pods,
        reserved=kube_reserved(pool.instance_types[0].vcpu, pool.max_pods),
        labels=labels(pool),
        taints=taints(pool),
        instance_store=pool.nvme,
        warm=pool.warm > 0,
    )
