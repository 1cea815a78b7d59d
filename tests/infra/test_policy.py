"""The policy: each rule is kept by a good resource and broken by a bad one, and every stack keeps all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from infra.policy import pod_security, rules
from infra.policy.rule import NotKnown, Partial, Resource, Violation
from tests.infra import recorded
from tests.infra.policy_cases import (
    BAD,
    GOOD,
    LATE,
    LEVELS,
    OWN,
    POD,
    ROLE_POLICY,
    STATEFUL_SET,
    allow,
    as_resource,
    partial,
)
from tests.infra.recorded import Recorded
from tidepool import capacity
from tidepool import pod as pods
from tidepool.job import Job
from tidepool.sizing import place


def found(kind: str, inputs: Mapping[str, Any], protect: bool = True) -> list[Violation]:
    """What single rules say of one resource."""
    resource = Resource(kind, "it", inputs, protect, "it-id")
    return [
        Violation(rule.name, kind, "it", message)
        for rule in rules.RULES
        if kind in rule.types
        for message in rule.check(resource)
    ]


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_resource_breaks_no_rule(kind: str) -> None:
    assert found(kind, GOOD[kind]) == []


@pytest.mark.parametrize(
    ("rule", "kind", "change", "says"), BAD, ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_bad_resource_breaks_its_rule_and_no_other(rule: str, kind: str, change: dict[str, Any], says: str) -> None:
    broken = found(kind, GOOD[kind] | change)
    assert {each.rule for each in broken} == {rule}
    assert any(says in each.message for each in broken), broken


def test_data_of_production_is_protected_and_other_data_need_not_be() -> None:
    (broken,) = found("aws:kms/key:Key", GOOD["aws:kms/key:Key"], protect=False)
    assert broken.rule == "protected"
    elsewhere = {**GOOD["aws:kms/key:Key"], "tags": {**OWN, "tidepool.dev/environment": "dev"}}
    assert found("aws:kms/key:Key", elsewhere, protect=False) == []


def test_every_rule_has_a_resource_that_breaks_it() -> None:
    assert {rule for rule, *_ in BAD} | {"protected"} == {rule.name for rule in rules.RULES}
    names = [rule.name for rule in rules.RULES] + [rule.name for rule in rules.STACK_RULES]
    assert len(names) == len(set(names))


def test_reading_actions_that_know_no_resource_may_have_them_all() -> None:
    assert found(ROLE_POLICY, {"policy": allow(["ec2:DescribeInstances", "ecr:GetAuthorizationToken"], "*")}) == []


@pytest.mark.parametrize(("pod", "baseline", "restricted"), LEVELS)
def test_pod_security_levels_refuse_what_kubernetes_refuses(
    pod: dict[str, Any], baseline: bool, restricted: bool
) -> None:
    assert (pod_security.violations(pod, "baseline") == []) is baseline
    assert (pod_security.violations(pod, "restricted") == []) is restricted
    assert pod_security.violations(pod, "privileged") == []


def network() -> list[Resource]:
    """A VPC with a public and a private subnet, a group in the private one, and a bucket."""
    return [
        Resource("aws:ec2/vpc:Vpc", "vpc", {}, id="vpc-id"),
        Resource("aws:ec2/flowLog:FlowLog", "logs", {"vpcId": "vpc-id"}),
        Resource("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", "default", {"vpcId": "vpc-id", "ingress": []}),
        Resource(
            "aws:ec2/route:Route",
            "out",
            {"routeTableId": "open", "gatewayId": "igw", "destinationCidrBlock": "0.0.0.0/0"},
        ),
        Resource(
            "aws:ec2/routeTableAssociation:RouteTableAssociation",
            "public",
            {"routeTableId": "open", "subnetId": "public-id"},
        ),
        Resource("aws:autoscaling/group:Group", "group", {"vpcZoneIdentifiers": ["private-id"]}),
        Resource("aws:s3/bucket:Bucket", "lake", {"bucket": "the-lake"}, id="lake-id"),
        *(
            Resource(kind, kind.rpartition(":")[2], GOOD[kind])
            for kind in (
                "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
                "aws:s3/bucketPolicy:BucketPolicy",
                "aws:s3/bucketVersioning:BucketVersioning",
            )
        ),
        Resource(
            "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
            "encryption",
            {"bucket": "the-lake"},
        ),
        Resource("kubernetes:core/v1:Namespace", "team", {"metadata": {"name": "tidepool-etl"}}),
        Resource(
            "kubernetes:networking.k8s.io/v1:NetworkPolicy",
            "deny",
            {
                "metadata": {"namespace": "tidepool-etl"},
                "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
            },
        ),
    ]


def beside(resources: list[Resource]) -> list[tuple[str, str, str]]:
    return [
        (rule.name, resource.name, message) for rule in rules.STACK_RULES for resource, message in rule.check(resources)
    ]


def test_resources_that_go_together_break_no_rule() -> None:
    assert beside(network()) == []


@pytest.mark.parametrize(
    ("gone", "rule", "says"),
    [
        ("logs", "network", "it has no flow logs"),
        ("default", "network", "its default security group is open"),
        ("BucketPublicAccessBlock", "buckets", "nothing blocks public access"),
        ("BucketVersioning", "buckets", "old versions"),
        ("BucketPolicy", "buckets", "without TLS"),
        ("encryption", "buckets", "not encrypted"),
        ("deny", "default-deny", "no NetworkPolicy denies all egress and ingress by default"),
    ],
)
def test_a_forgotten_part_is_found(gone: str, rule: str, says: str) -> None:
    ((name, _, message),) = beside([each for each in network() if each.name != gone])
    assert (name, says in message) == (rule, True), message


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("aws:autoscaling/group:Group", "vpcZoneIdentifiers"),
        ("aws:eks/nodeGroup:NodeGroup", "subnetIds"),
        ("aws:rds/subnetGroup:SubnetGroup", "subnetIds"),
        ("eks:index:Cluster", "subnetIds"),
        ("aws:eks/cluster:Cluster", "subnetIds"),
    ],
)
def test_machines_in_a_public_subnet_are_found(kind: str, key: str) -> None:
    inputs: dict[str, Any] = {key: ["private-id", "public-id"]}
    if kind == "aws:eks/cluster:Cluster":
        inputs = {"vpcConfig": inputs}
    ((name, resource, message),) = beside([*network(), Resource(kind, "bad", inputs)])
    assert (name, resource) == ("private-subnets", "bad")
    assert "public-id" in message


def test_a_policy_with_an_opening_denies_nothing_by_default() -> None:
    resources = [each for each in network() if each.name != "deny"]
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{"to": []}]}
    opening = {"metadata": {"namespace": "tidepool-etl"}, "spec": spec}
    ((_, _, message),) = beside([*resources, Resource("kubernetes:networking.k8s.io/v1:NetworkPolicy", "p", opening)])
    assert message == "no NetworkPolicy denies all egress by default"


@pytest.mark.parametrize("stack", recorded.ALL)
def test_no_stack_breaks_a_rule(stack: str) -> None:
    resources = [as_resource(each) for each in recorded.record(stack)]
    assert len(resources) > 100
    assert [str(each) for each in rules.violations(resources)] == []


SPOILT = ("aws:", STATEFUL_SET)


def spoilt(made: list[Recorded]) -> Iterator[tuple[str, list[Resource]]]:
    """Each stack once for each rule that the stack's own resources could break, with one of them broken."""
    for rule, kind, change, _ in BAD:
        for index, each in enumerate(made):
            if each.typ == kind and kind.startswith(SPOILT) and each.inputs.get("tags", {}) is not None:
                resources = [as_resource(other) for other in made]
                resources[index] = as_resource(each, {**copy.deepcopy(each.inputs), **change})
                yield rule, resources
                break


def test_a_resource_of_production_that_is_spoilt_is_found() -> None:
    """The rules look where the program really puts things: spoiling any one of them is found."""
    rules_tried = set()
    for rule, resources in spoilt(recorded.record("prod")):
        assert rule in {each.rule for each in rules.violations(resources)}, rule
        rules_tried.add(rule)
    assert len(rules_tried) >= 15
    assert {"grants", "kept-pods", "launch-templates", "no-wildcard-iam"} <= rules_tried


@pytest.mark.parametrize("stack", recorded.ALL)
def test_the_pods_of_jobs_keep_the_rules_on_every_pool(stack: str) -> None:
    """No stack makes one: Airflow does, by the library, from the stack's capacity document."""
    document = capacity.loads(recorded.outputs(stack)["capacity"])
    rules_of_pods = [rule for rule in rules.RULES if POD in rule.types]
    for pool in (each for each in document.pools.values() if each.jobs):
        manifest = pods.manifest(place(Job("t", pool=pool.name, gpus=pool.gpus), document), "i:1", document)
        asked = Resource(POD, pool.name, manifest)
        assert {rule.name: list(rule.check(asked)) for rule in rules_of_pods if list(rule.check(asked))} == {}
        manifest["metadata"]["annotations"].pop(LATE)
        assert [rule.name for rule in rules_of_pods if list(rule.check(asked))] == ["job-pods"]


def test_every_type_that_takes_tags_is_asked_for_them() -> None:
    asked = next(rule.types for rule in rules.RULES if rule.name == "tags")
    tagged = {each.typ for stack in recorded.ALL for each in recorded.record(stack) if each.inputs.get("tags")}
    assert {kind for kind in tagged if kind.startswith(("aws:", "eks:"))} <= asked


def test_before_the_first_deployment_no_rule_is_broken_by_what_is_not_known_yet() -> None:
    left_out = 0
    for each in recorded.record("prod", preview=True):
        resource = as_resource(each, partial(each.inputs))
        for rule in rules.RULES:
            if resource.type in rule.types:
                try:
                    assert list(rule.check(resource)) == [], (rule.name, resource.name)
                except NotKnown:
                    left_out += 1
    assert 0 < left_out < 60


def test_reading_what_is_not_known_raises_and_going_through_leaves_it_out() -> None:
    inputs = Partial({"a": 1}, ["b"])
    assert (inputs.get("a"), inputs.get("c"), list(inputs)) == (1, None, ["a"])
    with pytest.raises(NotKnown):
        inputs.get("b")
    with pytest.raises(NotKnown):
        inputs["b"]
