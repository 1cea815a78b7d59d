"""Rules about who may do what on AWS: policies of identities, and policies of what they are allowed to touch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policy.names import BUCKET_POLICY
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

WITHOUT_KIND = frozenset({"s3", "sns", "sqs"})
"""Services whose ARNs begin with a resource's name; those of all others begin with its kind, such as `role/`."""

RESOURCE_TAG = re.compile(r"[\w-]+:ResourceTag/.+")
"""Conditions that tell resources by a tag instead of by name."""

BROAD_POLICY = re.compile(r"policy/(.*/)?(AdministratorAccess|PowerUserAccess|IAMFullAccess|\w*FullAccess)$")


def _iam(resource: Resource) -> Iterator[str]:
    inputs = resource.inputs
    if inputs.get("assumeRolePolicy"):
        for statement in statements(inputs["assumeRolePolicy"]):
            if statement.get("Effect") != "Deny" and _is_everybody(statement):
                yield "anybody may take the role"
    for key in ("policyArn", "policyArns", "managedPolicyArns"):
        for arn in listed(inputs.get(key)):
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
    yield from (f"action {action} is a wildcard; name the actions" for action in actions if _is_wild(action))
    needless = sorted(action for action in actions if action not in WITHOUT_RESOURCE and not _is_wild(action))
    for each in listed(statement.get("Resource")) if needless else ():
        if each == "*":
            yield f"every resource is allowed for {', '.join(needless)}; name the resources"
        elif not (_names_one(each) or (_names_a_kind(each) and _tells_by_tag(statement))):
            yield f"{each} names no resource but is allowed for {', '.join(needless)}; name the resources"


def _is_wild(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _names_a_kind(arn: str) -> bool:
    """Whether an ARN says of which service, and which kind of resource there."""
    parts = arn.split(":", 5)
    return len(parts) == 6 and not _is_wild(parts[2]) and not parts[5].startswith(("*", "?"))


def _names_one(arn: str) -> bool:
    """Whether an ARN says which resource it means, or at least how its name begins."""
    if not _is_wild(arn):
        return True
    if not _names_a_kind(arn):
        return False
    service, name = arn.split(":", 5)[2::3]
    words = [word for word in re.split("[/:]", name) if word]
    first = 0 if service in WITHOUT_KIND else 1
    return len(words) > first and not words[first].startswith(("*", "?"))


def _tells_by_tag(statement: Mapping[str, Any]) -> bool:
    keys = (statement.get("Condition") or {}).get("StringEquals") or {}
    return any(RESOURCE_TAG.fullmatch(key) for key in keys)


def _is_everybody(statement: Mapping[str, Any]) -> bool:
    if "NotPrincipal" in statement:
        return True
    principal = statement.get("Principal")
    groups = list(principal.values()) if isinstance(principal, Mapping) else [principal]
    return "*" in [each for group in groups for each in listed(group)]


def _grants(resource: Resource) -> Iterator[str]:
    document = resource.inputs.get("policy")
    for statement in statements(document) if document else ():
        if statement.get("Effect") != "Allow":
            continue
        if _is_everybody(statement):
            yield "it lets everybody in"
        principal = statement.get("Principal")
        services = listed(principal.get("Service")) if isinstance(principal, Mapping) else []
        if services and not _says_whose(statement):
            names = ", ".join(services)
            yield f"{names} may use it for any account: no condition on aws:SourceArn or aws:SourceAccount"
        if not resource.type.startswith("aws:kms/"):  # the key's own account may do everything, or nobody could
            wild = [action for action in listed(statement.get("Action")) if _is_wild(action)]
            yield from (f"action {action} is a wildcard; name the actions" for action in wild)


def _says_whose(statement: Mapping[str, Any]) -> bool:
    keys = {key.lower() for condition in (statement.get("Condition") or {}).values() for key in condition}
    return bool(keys & {"aws:sourcearn", "aws:sourceaccount", "aws:sourceorgid"})


def statements(document: Any) -> list[Mapping[str, Any]]:
    """The statements of a policy document, given as JSON text or as a map."""
    parsed = json.loads(document) if isinstance(document, str) else document
    return listed(parsed.get("Statement"))


TYPES = (
    "role:Role",
    "policy:Policy",
    "policyAttachment:PolicyAttachment",
    *(
        f"{who}{what}:{who.capitalize()}{what}"
        for who in ("group", "role", "user")
        for what in ("Policy", "PolicyAttachment", "PolicyAttachmentsExclusive")
    ),
)

GRANTING = frozenset(
    {
        "aws:ecr/registryPolicy:RegistryPolicy",
        "aws:ecr/repositoryPolicy:RepositoryPolicy",
        "aws:efs/fileSystemPolicy:FileSystemPolicy",
        "aws:kms/key:Key",
        "aws:kms/keyPolicy:KeyPolicy",
        "aws:secretsmanager/secret:Secret",
        "aws:secretsmanager/secretPolicy:SecretPolicy",
        "aws:sns/topic:Topic",
        "aws:sns/topicPolicy:TopicPolicy",
        "aws:sqs/queue:Queue",
        "aws:sqs/queuePolicy:QueuePolicy",
        BUCKET_POLICY,
    }
)
"""What says itself who may use it."""

RULES = (
    Rule(
        "no-wildcard-iam",
        "IAM policies name their actions and resources.",
        {f"aws:iam/{each}" for each in TYPES},
        _iam,
    ),
    Rule("grants", "No bucket, queue, repository, key or secret lets everybody in.", GRANTING, _grants),
)
