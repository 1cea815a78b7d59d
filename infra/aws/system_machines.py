"""What system machines are, as plain data: their user data, and their taints as EKS names them."""

from __future__ import annotations

from collections.abc import Sequence

from infra import naming
from infra.aws import user_data
from infra.aws.allocatable import kube_reserved
from infra.settings.model_aws import SystemNodes
from tidepool.capacity import Taint

EFFECTS = {"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}


def machine_user_data(
    nodes: SystemNodes, *, cluster: str, endpoint: str, certificate_authority: str, service_cidr: str
) -> str:
    """The user data of system machines, as MIME text; the arguments are those of `user_data.render`.

    All of it is ours: EKS adds nothing to the user data of machines with an AMI that their launch template names.
    """
    return user_data.render(
        cluster=cluster,
        endpoint=endpoint,
        certificate_authority=certificate_authority,
        service_cidr=service_cidr,
        max_pods=nodes.max_pods,
        reserved=kube_reserved(nodes.instance_types[0].vcpu, nodes.max_pods),
        labels=naming.node_labels(naming.SYSTEM_POOL),
        taints=naming.SYSTEM_TAINTS,
    )


def effects(taints: Sequence[Taint]) -> list[tuple[str, str, str]]:
    """Taints as EKS names them: key, value, effect."""
    return [(each.key, each.value, EFFECTS[each.effect]) for each in taints]
