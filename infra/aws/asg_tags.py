"""Tags of a pool's Auto Scaling Group: how the cluster-autoscaler finds it and knows its machines before there is one.

Without the resource tags the autoscaler reckons with what EC2 sells, and buys machines for pods that never fit them.
Processor, operating system, instance type and zone need no tags: it takes them from the group's first type and zone.
Source of the keys: kubernetes/autoscaler, cluster-autoscaler/cloudprovider/aws/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.aws.allocatable import MIB, Allocatable
from tidepool.capacity import Taint

PREFIX = "k8s.io/cluster-autoscaler/"
TEMPLATE = PREFIX + "node-template/"

VOLUMES = "ebs.csi.aws.com/cluster-name"
"""Only on machines that carry it (or `eks:cluster-name`, which EKS gives to managed ones) may the EBS CSI driver attach
volumes: policies.EBS_CSI. From the group, because its tags don't reach volumes: the driver may delete those that carry
it, and root volumes are not the driver's."""


def render(
    *,
    cluster: str,
    group: str,
    ownership: Mapping[str, str],
    labels: Mapping[str, str],
    taints: Sequence[Taint],
    resources: Allocatable,
    gpus: int,
    unneeded_time: str,
) -> dict[str, str]:
    """Tags by key. ownership: the cost-allocation tags; unneeded_time: idle time before scale-down, such as `10m`."""
    tags = {
        "Name": group,
        f"kubernetes.io/cluster/{cluster}": "owned",
        VOLUMES: cluster,
        **ownership,
        f"{PREFIX}enabled": "true",
        f"{PREFIX}{cluster}": "owned",
        f"{TEMPLATE}resources/cpu": f"{resources.cpu_millis}m",
        f"{TEMPLATE}resources/memory": f"{resources.memory_bytes // MIB}Mi",
        f"{TEMPLATE}resources/ephemeral-storage": f"{resources.ephemeral_storage_bytes // MIB}Mi",
        f"{TEMPLATE}resources/pods": str(resources.pods),
        f"{TEMPLATE}autoscaling-options/scaledownunneededtime": unneeded_time,
    }
    tags |= {f"{TEMPLATE}label/{key}": value for key, value in labels.items()}
    tags |= {f"{TEMPLATE}taint/{each.key}": f"{each.value}:{each.effect}" for each in taints}
    if gpus:
        tags[f"{TEMPLATE}resources/nvidia.com/gpu"] = str(gpus)
    return dict(sorted(tags.items()))


def for_machines(key: str) -> bool:
    """Whether machines carry a tag of their group too; what only the autoscaler reads would use up their 50."""
    return not key.startswith(PREFIX)
