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
    """Inputs of the node group. name: of group and template; image: AMI id; tags: of everything.

    cluster: the name of the cluster that machines join, known once it is there. endpoint, certificate_authority (PEM in
    base64), service_cidr: what they need to know of it. subnet_ids: private ones.
    """

    name: str
    nodes: SystemNodesSettings
    cluster: pulumi.Input[str]
    endpoint: pulumi.Input[str]
    certificate_authority: pulumi.Input[str]
    service_cidr: pulumi.Input[str]
    image: pulumi.Input[str]
    node_role_arn: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    security_group_ids: Sequence[pulumi.Input[str]]
    tags: Mapping[str, str]


class SystemNodes(pulumi.ComponentResource):
    """On-demand machines that EKS replaces one by one, draining them. Desired size belongs to the autoscaler."""

    def __init__(self, name: str, args: SystemNodesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:SystemNodes", name, {}, opts)
        template = _template(name, args, pulumi.ResourceOptions(parent=self))
        # AMI type and version are EKS's to fill in: the template's AMI decides.
        aws.eks.NodeGroup(
            f"{name}-group",
            # A prefix: a change that replaces the group makes the new one before the old one goes.
            node_group_name_prefix=f"{args.name}-",
            cluster_name=args.cluster,
            node_role_arn=args.node_role_arn,
            subnet_ids=list(args.subnet_ids),
            capacity_type="ON_DEMAND",
            instance_types=[each.name for each in args.nodes.instance_types],
            scaling_config=aws.eks.NodeGroupScalingConfigArgs(
                min_size=args.nodes.minimum, max_size=args.nodes.maximum, desired_size=args.nodes.minimum
            ),
            update_config=aws.eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
            launch_template=aws.eks.NodeGroupLaunchTemplateArgs(
                id=template.id, version=template.latest_version.apply(lambda number: f"{number:.0f}")
            ),
            # The user data says the same; from here the autoscaler knows of them.
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
    named = {**args.tags, "Name": args.name}
    facts = pulumi.Output.all(args.cluster, args.endpoint, args.certificate_authority, args.service_cidr)
    return aws.ec2.LaunchTemplate(
        f"{name}-template",
        name=args.name,
        image_id=args.image,
        user_data=facts.apply(
            lambda known: _base64(
                system_machines.machine_user_data(
                    args.nodes,
                    cluster=known[0],
                    endpoint=known[1],
                    certificate_authority=known[2],
                    service_cidr=known[3],
                )
            )
        ),
        update_default_version=True,
        vpc_security_group_ids=list(args.security_group_ids),
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


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
