"""System nodes: a managed on-demand node group for what must not be interrupted. Jobs stay off by its taint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra import naming
from infra.aws import launch_template, system_machines
from infra.settings.model_aws import SystemNodes as SystemNodesSettings


@dataclass(frozen=True)
class SystemNodesArgs:
    """Inputs of the node group. name: of template and machines; image: AMI id; tags: of everything.

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
            # A prefix: a change that replaces the group makes the new one before the old one goes. Not the cluster's
            # name, within which it is unique anyway: 37 characters are the most that the provider takes.
            node_group_name_prefix=f"{naming.SYSTEM_POOL}-",
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
    inputs = aws.ec2.LaunchTemplateArgs(
        name=args.name,
        image_id=args.image,
        user_data=facts.apply(
            lambda known: launch_template.encoded(
                system_machines.machine_user_data(
                    args.nodes,
                    cluster=known[0],
                    endpoint=known[1],
                    certificate_authority=known[2],
                    service_cidr=known[3],
                )
            )
        ),
        vpc_security_group_ids=list(args.security_group_ids),
        **launch_template.common(args.nodes.root_volume_gib, named),
    )
    return aws.ec2.LaunchTemplate(f"{name}-template", inputs, opts=opts)
