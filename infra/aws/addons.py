"""EKS addons: what a cluster needs before it can run anything, in pinned versions and with our configuration.

Two sets: `for_nodes` must be there before the first machine is Ready, `for_system` needs machines to run on.
What a configuration may contain says `aws eks describe-addon-configuration`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_aws as aws

from infra import naming, versions
from infra.aws import subnets

NAMESPACE = "kube-system"
VPC_CNI_SERVICE_ACCOUNT = "aws-node"
EBS_CSI_SERVICE_ACCOUNT = "ebs-csi-controller-sa"


@dataclass(frozen=True)
class Addon:
    """One addon of EKS: its name, version (`v1.2.3-eksbuild.4`) and configuration values."""

    name: str
    version: str
    configuration: Mapping[str, Any] = field(default_factory=dict)


def for_nodes() -> tuple[Addon, ...]:
    """DaemonSets that make a machine Ready: network, Service addresses, credentials. They tolerate every taint."""
    return (
        Addon("eks-pod-identity-agent", versions.EKS_POD_IDENTITY_AGENT, {"tolerations": [{"operator": "Exists"}]}),
        Addon("kube-proxy", versions.EKS_KUBE_PROXY),
        # Text, not a truth value or a number: the addon's schema says so.
        Addon(
            "vpc-cni",
            versions.EKS_VPC_CNI,
            {
                "enableNetworkPolicy": "true",
                "env": {
                    "WARM_IP_TARGET": str(subnets.SPARE_ADDRESSES),
                    "MINIMUM_IP_TARGET": str(subnets.FIRST_ADDRESSES),
                },
            },
        ),
    )


def for_system(tags: Mapping[str, str]) -> tuple[Addon, ...]:
    """DNS and volumes, on system machines. tags: of the volumes that are made for claims."""
    return (
        Addon("coredns", versions.EKS_COREDNS, {"replicaCount": 2, **_on_system_machines()}),
        Addon(
            "aws-ebs-csi-driver",
            versions.EKS_EBS_CSI_DRIVER,
            {"controller": {"extraVolumeTags": dict(tags), **_on_system_machines()}},
        ),
    )


@dataclass(frozen=True)
class AddonsArgs:
    """Inputs of a set of addons. cluster: its name, known once the cluster is there."""

    cluster: pulumi.Input[str]
    addons: Sequence[Addon]
    tags: Mapping[str, str]


class Addons(pulumi.ComponentResource):
    """Addons that EKS installs and keeps; what differs from ours in the cluster is overwritten."""

    def __init__(self, name: str, args: AddonsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:Addons", name, {}, opts)
        for addon in args.addons:
            aws.eks.Addon(
                f"{name}-{addon.name}",
                cluster_name=args.cluster,
                addon_name=addon.name,
                addon_version=addon.version,
                configuration_values=json.dumps(addon.configuration, sort_keys=True) if addon.configuration else None,
                resolve_conflicts_on_create="OVERWRITE",
                resolve_conflicts_on_update="OVERWRITE",
                tags=dict(args.tags),
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def _on_system_machines() -> dict[str, Any]:
    """Where a Deployment runs: on system machines, and nowhere while there are none."""
    return {
        "nodeSelector": naming.node_labels(naming.SYSTEM_POOL),
        "tolerations": [taint.toleration() for taint in naming.SYSTEM_TAINTS],
    }
