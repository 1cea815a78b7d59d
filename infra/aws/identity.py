"""What a pod may do on AWS: an IAM role bound to its ServiceAccount by EKS Pod Identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws import policies


@dataclass(frozen=True)
class PodIdentityArgs:
    """Inputs of an identity. cluster: its name, as an output that is known once the cluster is there.

    policy: IAM policy as JSON (infra.aws.policies); managed_policies: ARNs of AWS's own, where AWS keeps one in step.
    """

    cluster: pulumi.Input[str]
    namespace: str
    service_accounts: Sequence[str]
    tags: Mapping[str, str]
    policy: pulumi.Input[str] | None = None
    managed_policies: Sequence[str] = ()


class PodIdentity(pulumi.ComponentResource):
    """A role that pods of the named ServiceAccounts have, and no others; Kubernetes need not know of it."""

    role_arn: pulumi.Output[str]

    def __init__(self, name: str, args: PodIdentityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:PodIdentity", name, {}, opts)
        inside = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role(
            name,
            assume_role_policy=pulumi.Output.from_input(args.cluster).apply(
                lambda cluster: policies.trust_pods(cluster, args.namespace, args.service_accounts)
            ),
            tags=dict(args.tags),
            opts=inside,
        )
        allowed: list[pulumi.Resource] = [
            aws.iam.RolePolicyAttachment(
                f"{name}-{policy.rsplit('/', 1)[-1]}", role=role.name, policy_arn=policy, opts=inside
            )
            for policy in args.managed_policies
        ]
        if args.policy is not None:
            allowed.append(aws.iam.RolePolicy(f"{name}-policy", role=role.name, policy=args.policy, opts=inside))
        for account in args.service_accounts:
            aws.eks.PodIdentityAssociation(
                f"{name}-{account}",
                cluster_name=args.cluster,
                namespace=args.namespace,
                service_account=account,
                role_arn=role.arn,
                tags=dict(args.tags),
                opts=pulumi.ResourceOptions(parent=self, depends_on=allowed),
            )
        self.role_arn = role.arn
        self.register_outputs({"role_arn": role.arn})
