"""A pool: one launch template and one mixed-instances Auto Scaling Group, scaled by the cluster-autoscaler."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws import asg_tags
from infra.settings import Pool as PoolSettings

ROOT_DEVICE = "/dev/xvda"  # of the EKS-optimised Amazon Linux 2023 AMIs


@dataclass(frozen=True)
class PoolArgs:
    """Inputs of a pool.

    pool: size, market and types; group_name: name of group and template; tags: all of the group's (asg_tags.render);
    ownership: those of them that machines and volumes carry too; user_data: plain MIME text.
    """

    pool: PoolSettings
    group_name: str
    image: pulumi.Input[str]
    instance_profile: pulumi.Input[str]
    user_data: pulumi.Input[str]
    subnet_ids: pulumi.Input[Sequence[str]]
    security_group_ids: Sequence[pulumi.Input[str]]
    tags: Mapping[str, str]
    ownership: Mapping[str, str]


class Pool(pulumi.ComponentResource):
    """Equal machines of one market. Desired capacity belongs to the autoscaler; changed machines are new ones."""

    group_name: pulumi.Output[str]

    def __init__(self, name: str, args: PoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:Pool", name, {}, opts)
        template = aws.ec2.LaunchTemplate(
            f"{name}-template",
            name=args.group_name,
            image_id=args.image,
            user_data=pulumi.Output.from_input(args.user_data).apply(_base64),
            update_default_version=True,
            vpc_security_group_ids=list(args.security_group_ids),
            iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(name=args.instance_profile),
            # One hop: the machine itself reaches its credentials, pods don't.
            metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
                http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
            ),
            block_device_mappings=[
                aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                    device_name=ROOT_DEVICE,
                    ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                        volume_type="gp3",
                        volume_size=args.pool.root_volume_gib,
                        encrypted="true",
                        delete_on_termination="true",
                    ),
                )
            ],
            # The group's tags reach its machines, but not their volumes.
            tag_specifications=[
                aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type="volume", tags=dict(args.ownership))
            ],
            tags=dict(args.ownership),
            opts=pulumi.ResourceOptions(parent=self),
        )
        group = aws.autoscaling.Group(
            f"{name}-group",
            name=args.group_name,
            min_size=args.pool.minimum,
            max_size=args.pool.maximum,
            vpc_zone_identifiers=args.subnet_ids,
            mixed_instances_policy=_policy(args.pool, template),
            # It would end machines with jobs on them to even out zones.
            suspended_processes=["AZRebalance"],
            capacity_rebalance=False,
            wait_for_capacity_timeout="0",
            tags=[
                aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=_for_machines(key))
                for key, value in args.tags.items()
            ],
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["desiredCapacity"]),
        )
        self.group_name = group.name
        self.register_outputs({"group_name": group.name})


def _policy(pool: PoolSettings, template: aws.ec2.LaunchTemplate) -> aws.autoscaling.GroupMixedInstancesPolicyArgs:
    return aws.autoscaling.GroupMixedInstancesPolicyArgs(
        instances_distribution=aws.autoscaling.GroupMixedInstancesPolicyInstancesDistributionArgs(
            on_demand_base_capacity=0,
            on_demand_percentage_above_base_capacity=0 if pool.market == "spot" else 100,
            on_demand_allocation_strategy="lowest-price",
            spot_allocation_strategy="price-capacity-optimized",
        ),
        launch_template=aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateArgs(
            launch_template_specification=(
                aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateLaunchTemplateSpecificationArgs(
                    launch_template_id=template.id,
                    version=template.latest_version.apply(lambda number: f"{number:.0f}"),
                )
            ),
            # No weights: the autoscaler counts every machine as one.
            overrides=[
                aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(instance_type=each.name)
                for each in pool.instance_types
            ],
        ),
    )


def _for_machines(key: str) -> bool:
    """Whether machines carry a tag of their group too; what only the autoscaler reads would use up their 50."""
    return not key.startswith(asg_tags.PREFIX)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
