"""A pool: one launch template, and one Auto Scaling Group or one for each zone, scaled by the cluster-autoscaler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws import asg_tags, launch_template, machines
from infra.settings.model_aws import AwsPool


@dataclass(frozen=True)
class PoolArgs:
    """Inputs of a pool.

    cluster: the name of the cluster that machines join. endpoint, certificate_authority (PEM in base64), service_cidr:
    what they need to know of it. image: AMI id. subnet_ids: by zone, at least those of the pool's zones.
    tags: the environment's cost-allocation tags, which groups, machines, volumes and network interfaces carry.
    """

    pool: AwsPool
    cluster: str
    endpoint: pulumi.Input[str]
    certificate_authority: pulumi.Input[str]
    service_cidr: pulumi.Input[str]
    image: pulumi.Input[str]
    instance_profile: pulumi.Input[str]
    subnet_ids: Mapping[str, pulumi.Input[str]]
    security_group_ids: Sequence[pulumi.Input[str]]
    tags: Mapping[str, str]


class Pool(pulumi.ComponentResource):
    """Equal machines of one market. Desired capacity belongs to the autoscaler; changed machines are new ones.

    group_names: of its Auto Scaling Groups, known before they are there.
    """

    group_names: tuple[str, ...]

    def __init__(self, name: str, args: PoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:Pool", name, {}, opts)
        groups = machines.groups(args.cluster, args.pool)
        template = self._template(name, args)
        for group in groups:
            suffix = f"-{group.zones[0]}" if args.pool.group_per_zone else ""
            self._group(f"{name}-group{suffix}", args, group, template)
        self.group_names = tuple(group.name for group in groups)
        self.register_outputs({"group_names": list(self.group_names)})

    def _template(self, name: str, args: PoolArgs) -> aws.ec2.LaunchTemplate:
        pool = args.pool
        facts = pulumi.Output.all(args.endpoint, args.certificate_authority, args.service_cidr)
        inputs = aws.ec2.LaunchTemplateArgs(
            name=machines.template_name(args.cluster, pool),
            image_id=args.image,
            # A group that has a warm pool takes its type from here, all others from their overrides.
            instance_type=pool.instance_types[0].name if pool.warm else None,
            user_data=facts.apply(
                lambda known: launch_template.encoded(
                    machines.machine_user_data(
                        args.cluster, pool, endpoint=known[0], certificate_authority=known[1], service_cidr=known[2]
                    )
                )
            ),
            vpc_security_group_ids=list(args.security_group_ids),
            iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(name=args.instance_profile),
            **launch_template.common(pool.root_volume_gib, machines.ownership(pool, args.tags)),
        )
        return aws.ec2.LaunchTemplate(f"{name}-template", inputs, opts=pulumi.ResourceOptions(parent=self))

    def _group(self, name: str, args: PoolArgs, group: machines.Group, template: aws.ec2.LaunchTemplate) -> None:
        pool = args.pool
        version = template.latest_version.apply(lambda number: f"{number:.0f}")
        tags = machines.group_tags(args.cluster, group.name, pool, args.tags)
        aws.autoscaling.Group(
            name,
            name=group.name,
            min_size=group.minimum,
            max_size=group.maximum,
            vpc_zone_identifiers=[args.subnet_ids[zone] for zone in group.zones],
            # EC2 keeps a warm pool only for a group without a mixed instances policy.
            launch_template=aws.autoscaling.GroupLaunchTemplateArgs(id=template.id, version=version)
            if pool.warm
            else None,
            mixed_instances_policy=None if pool.warm else _policy(pool, template.id, version),
            warm_pool=_warm_pool(group.warm) if group.warm else None,
            # It would end machines with jobs on them to even out zones.
            suspended_processes=["AZRebalance"],
            # Where asked for: machines are replaced on a rebalance recommendation, earlier than EC2's two minutes'
            # notice, and jobs are ended that might have survived.
            capacity_rebalance=pool.capacity_rebalance,
            wait_for_capacity_timeout="0",
            tags=[
                aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=asg_tags.for_machines(key))
                for key, value in tags.items()
            ],
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["desiredCapacity"]),
        )


def _policy(
    pool: AwsPool, template: pulumi.Input[str], version: pulumi.Input[str]
) -> aws.autoscaling.GroupMixedInstancesPolicyArgs:
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
                    launch_template_id=template, version=version
                )
            ),
            # No weights: the autoscaler counts every machine as one.
            overrides=[
                aws.autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(instance_type=each.name)
                for each in pool.instance_types
            ],
        ),
    )


def _warm_pool(machines_ready: int) -> aws.autoscaling.GroupWarmPoolArgs:
    """Exactly so many stopped machines, whatever the group's size: both limits are the same."""
    return aws.autoscaling.GroupWarmPoolArgs(
        pool_state="Stopped", min_size=machines_ready, max_group_prepared_capacity=machines_ready
    )
