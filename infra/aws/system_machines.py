"""What system machines are, as plain data: AMI family, labels, taints and the part of their NodeConfig that is ours.

EKS adds the rest of the NodeConfig of a managed node group: the cluster, and labels and taints as the kubelet's flags.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from infra.aws import user_data
from infra.aws.allocatable import kube_reserved
from infra.settings.model import SystemNodes
from tidepool.capacity import Taint

EFFECTS = {"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}
AMI_TYPES = {"x86_64": "AL2023_x86_64_STANDARD", "arm64": "AL2023_ARM_64_STANDARD"}


def ami_type(nodes: SystemNodes) -> str:
    """EKS's name for the AMI family of the machines' processor."""
    return AMI_TYPES[nodes.instance_types[0].architecture]


def node_config(nodes: SystemNodes) -> str:
    """User data as MIME text: how many pods a machine takes, and what it keeps for itself."""
    config = {
        "apiVersion": user_data.API_VERSION,
        "kind": "NodeConfig",
        "spec": {
            "kubelet": {
                "config": {
                    "maxPods": nodes.max_pods,
                    "kubeReserved": kube_reserved(nodes.instance_types[0].vcpu, nodes.max_pods),
                }
            }
        },
    }
    return (
        f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="{user_data.BOUNDARY}"\n\n'
        f"--{user_data.BOUNDARY}\nContent-Type: {user_data.CONTENT_TYPE}\n\n"
        f"{yaml.safe_dump(config, sort_keys=False)}"
        f"--{user_data.BOUNDARY}--\n"
    )


def effects(taints: Sequence[Taint]) -> list[tuple[str, str, str]]:
    """Taints as EKS names them: key, value, effect."""
    return [(each.key, each.value, EFFECTS[each.effect]) for each in taints]
