"""The IAM role of machines: what a node itself needs, and nothing for the pods on it."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from infra.aws import policies

MANAGED_POLICIES = (
    "arn:aws:iam::aws:policy/AmazonEKSWorkerNodeMinimalPolicy",  # describe itself, ask for Pod Identity credentials
    "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
)
"""The VPC CNI has its own identity, as every other pod that calls AWS. No SSM: nobody logs in to a machine that goes
with its job; `kubectl debug node` reaches those that stay."""


class NodeRole(pulumi.ComponentResource):
    """A role for machines, and its instance profile.

    The system nodes have one and job pools another: EKS manages the access entry of a managed node group's role by
    itself, and removes it with the group.
    """

    arn: pulumi.Output[str]
    instance_profile: pulumi.Output[str]

    def __init__(self, name: str, tags: Mapping[str, str], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:NodeRole", name, {}, opts)
        inside = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role(
            name, assume_role_policy=policies.trust_service("ec2.amazonaws.com"), tags=dict(tags), opts=inside
        )
        attached = [
            aws.iam.RolePolicyAttachment(
                f"{name}-{policy.rsplit('/', 1)[-1]}", role=role.name, policy_arn=policy, opts=inside
            )
            for policy in MANAGED_POLICIES
        ]
        # Both outputs come after the policies: a machine that starts before its role may do anything never joins.
        profile = aws.iam.InstanceProfile(
            name, role=role.name, tags=dict(tags), opts=pulumi.ResourceOptions(parent=self, depends_on=attached)
        )
        self.arn = pulumi.Output.all(role.arn, *(each.id for each in attached)).apply(lambda known: str(known[0]))
        self.instance_profile = profile.name
        self.register_outputs({"arn": self.arn, "instance_profile": self.instance_profile})
