"""Rules about who may do what on AWS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policy.rule import Resource, Rule, listed

WITHOUT_RESOURCE = frozenset(
    {
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLaunchConfigurations",
        "autoscaling:DescribeScalingActivities",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceStatus",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeInstances",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:DescribeSpotInstanceRequests",
        "ec2:DescribeSpotPriceHistory",
        "ec2:DescribeVolumes",
        "ec2:GetInstanceTypesFromInstanceRequirements",
        "ecr:GetAuthorizationToken",
        "pricing:GetProducts",
        "sts:GetCallerIdentity",
    }
)
"""Actions that only read and that AWS gives no resource to restrict them to, so that `*` is the only one they take.
Source: the column Resource types of https://docs.aws.amazon.com/service-authorization/latest/reference/"""

BROAD_POLICY = re.compile(r"policy/(.*/)?(AdministratorAccess|PowerUserAccess|IAMFullAccess|\w*FullAccess)$")


def _iam(resource: Resource) -> Iterator[str]:
    inputs = resource.inputs
    if resource.type.endswith("Attachment"):
        if BROAD_POLICY.search(str(inputs.get("policyArn") or "")):
            yield f"it attaches {inputs['policyArn']}, which allows far more than one service needs"
        return
    if inputs.get("assumeRolePolicy"):
        for statement in statements(inputs["assumeRolePolicy"]):
            principal = statement.get("Principal")
            if principal == "*" or (isinstance(principal, Mapping) and "*" in listed(principal.get("AWS"))):
                yield "anybody may take the role"
    for arn in listed(inputs.get("managedPolicyArns")):
        if BROAD_POLICY.search(str(arn)):
            yield f"it attaches {arn}, which allows far more than one service needs"
    documents = [inputs.get("policy"), *(each.get("policy") for each in listed(inputs.get("inlinePolicies")))]
    for document in documents:
        for statement in statements(document) if document else ():
            yield from _wildcards(statement)


def _wildcards(statement: Mapping[str, Any]) -> Iterator[str]:
    if statement.get("Effect") != "Allow":
        return
    for key in ("NotAction", "NotResource"):
        if key in statement:
            yield f"{key} allows everything that it does not name"
    actions = listed(statement.get("Action"))
    yield from (f"action {action} is a wildcard; name the actions" for action in actions if "*" in action)
    if any(each == "*" or re.fullmatch(r"arn:[^:]*(:[^:]*){3}:\*", each) for each in listed(statement.get("Resource"))):
        needless = sorted(action for action in actions if action not in WITHOUT_RESOURCE and "*" not in action)
        if needless:
            yield f"every resource is allowed for {', '.join(needless)}; name the resources"


def statements(document: Any) -> list[Mapping[str, Any]]:
    """The statements of a policy document, given as JSON text or as a map."""
    parsed = json.loads(document) if isinstance(document, str) else document
    return listed(parsed.get("Statement"))


TYPES = ("role:Role", "rolePolicy:RolePolicy", "policy:Policy", "rolePolicyAttachment:RolePolicyAttachment")

RULES = (
    Rule(
        "no-wildcard-iam",
        "IAM policies name their actions and resources.",
        {f"aws:iam/{each}" for each in TYPES},
        _iam,
    ),
)
