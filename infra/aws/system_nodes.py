"""System nodes: a managed on-demand node group for what must not be interrupted. Jobs stay off by its taint."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra import naming
from infra.aws import system_machines
from infra.settings.model import SystemNodes as SystemNodesSettings

ROOT_DEVICE = "/dev/xvda"  # of the EKS-optimised Amazon Linux 2023 AMIs
TAGGED = ("instance", "volume", "network-interface")


@dataclass(frozen=True)
class SystemNodesArgs:
    """Inputs of the node group. name: of group and template; version: Kubernetes' minor; tags: of everything.

    cluster: its name, known once it is there; subnet_ids: private ones;
    release_version: the AMI's, `1.36.4-20260930`; None for the newest at each change.
    """

    name: str
    nodes: SystemNodesSettings
    cluster: pulumi.Input[str]
    version: str
    release_version: pulumi.Input[str] | None
    node_role_arn: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    tags: Mapping[str, str]


class SystemNodes(pulumi.ComponentResource):
    """On-demand machines that EKS replaces one by one, draining them. Desired size belongs to the autoscaler."""

    def __init__(self, name: str, args: SystemNodesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:SystemNodes", name, {}, opts)
        template = _template(name, args, pulumi.ResourceOptions(parent=self))
        aws.eks.NodeGroup(
            f"{name}-group",
            # A prefix: a change that replaces the group makes the new one before the old one goes.
            node_group_name_prefix=f"{args.name}-",
            cluster_name=args.cluster,
            node_role_arn=args.node_role_arn,
            subnet_ids=list(args.subnet_ids),
            version=args.version,
            release_version=args.release_version,
            ami_type=system_machines.ami_type(args.nodes),
            capacity_type="ON_DEMAND",
            instance_types=[each.name for each in args.nodes.instance_types],
            scaling_config=aws.eks.NodeGroupScalingConfigArgs(
                min_size=args.nodes.minimum, max_size=args.nodes.maximum, desired_size=args.nodes.minimum
            ),
            update_config=aws.eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
            launch_template=aws.eks.NodeGroupLaunchTemplateArgs(
                id=template.id, version=template.latest_version.apply(lambda number: f"{number:.0f}")
            ),
            labels=naming.node_labels(naming.SYSTEM_POOL),
            taints=[
                aws.eks.NodeGroupTaintArgs(key=key, value=value, effect=effect)
                for key, value, effect in system_machines.effects(naming.SYSTEM_TAINTS)
            ],
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["scalingConfig.desiredSize"]),
        )
        self.register_outputs({})


def _template(name: str, args: SystemNodesArgs, opts: pulumi.ResourceOptions) -> aws.ec2.LaunchTemplate:
    """No AMI and no security group: a managed node group brings the pinned release's, and the cluster's."""
    named = {**args.tags, "Name": args.name}
    return aws.ec2.LaunchTemplate(
        f"{name}-template",
        name=args.name,
        user_data=base64.b64encode(system_machines.node_config(args.nodes).encode()).decode(),
        update_default_version=True,
        # One hop: the machine itself reaches its credentials, pods don't.
        metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
        ),
        block_device_mappings=[
            aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                device_name=ROOT_DEVICE,
                ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                    volume_type="gp3",
                    volume_size=args.nodes.root_volume_gib,
                    encrypted="true",
                    delete_on_termination="true",
                ),
            )
        ],
        # The node group's own tags reach none of these.
        tag_specifications=[
            aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=named) for kind in TAGGED
        ],
        tags=named,
        opts=opts,
    )
