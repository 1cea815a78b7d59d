"""Rules about ways in: from the internet, to the API server, and into subnets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.policy.names import CLUSTERS, GROUP, NODE_GROUP
from infra.policy.rule import Resource, Rule, StackRule, is_true, listed

WORLD = ("0.0.0.0/0", "::/0")

CONTROL_PLANE_LOGS = frozenset({"api", "audit", "authenticator", "controllerManager", "scheduler"})


def _ingress(resource: Resource) -> Iterator[str]:
    inputs = resource.inputs
    if resource.type.endswith("SecurityGroupRule") and inputs.get("type") != "ingress":
        return
    rules = listed(inputs.get("ingress")) if "ingress" in inputs else [inputs]
    for rule in rules:
        ranges = [
            *listed(rule.get("cidrBlocks")),
            *listed(rule.get("ipv6CidrBlocks")),
            *listed(rule.get("cidrIpv4")),
            *listed(rule.get("cidrIpv6")),
        ]
        if any(each in WORLD for each in ranges):
            yield f"the whole internet may come in (ports {_port(rule, 'fromPort')} to {_port(rule, 'toPort')})"


def _port(rule: Mapping[str, Any], key: str) -> str:
    port = rule.get(key)
    return "any" if port is None else f"{port:.0f}"


def _cluster(cluster: Resource) -> Iterator[str]:
    inputs = cluster.inputs
    access = inputs.get("vpcConfig") or inputs  # of the plain resource, or of the component
    encrypted = inputs.get("encryptionConfig") or inputs.get("encryptionConfigKeyArn")
    if not is_true(access.get("endpointPrivateAccess")):
        yield "machines reach its API server only over the internet: endpointPrivateAccess is not true"
    if access.get("endpointPublicAccess") is not False:
        ranges = listed(access.get("publicAccessCidrs"))
        if not ranges or any(each in WORLD for each in ranges):
            yield "its API server answers the whole internet"
    missing = CONTROL_PLANE_LOGS - set(listed(inputs.get("enabledClusterLogTypes")))
    if missing:
        yield f"it keeps no log of {', '.join(sorted(missing))}"
    if not encrypted:
        yield "its Secrets are not encrypted with a key of our own"


def _public_subnets(resources: Sequence[Resource]) -> Iterator[tuple[Resource, str]]:
    """Machines and databases lie in subnets that no internet gateway leads to."""
    open_tables = {
        route.inputs.get("routeTableId")
        for route in _of(resources, "aws:ec2/route:Route")
        if route.inputs.get("gatewayId") and route.inputs.get("destinationCidrBlock") in WORLD
    }
    public = {
        str(each.inputs.get("subnetId"))
        for each in _of(resources, "aws:ec2/routeTableAssociation:RouteTableAssociation")
        if each.inputs.get("routeTableId") in open_tables
    }
    for kind, key in (
        (GROUP, "vpcZoneIdentifiers"),
        (NODE_GROUP, "subnetIds"),
        ("aws:rds/subnetGroup:SubnetGroup", "subnetIds"),
        *((cluster, "subnetIds") for cluster in CLUSTERS),
    ):
        for resource in _of(resources, kind):
            holder = resource.inputs.get("vpcConfig") or resource.inputs
            if found := sorted(public & set(listed(holder.get(key)))):
                yield resource, f"it lies in public subnets: {', '.join(found)}"


def _flow_logs(resources: Sequence[Resource]) -> Iterator[tuple[Resource, str]]:
    logged = {each.inputs.get("vpcId") for each in _of(resources, "aws:ec2/flowLog:FlowLog")}
    closed = {
        each.inputs.get("vpcId")
        for each in _of(resources, "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
        if not listed(each.inputs.get("ingress"))
    }
    for vpc in _of(resources, "aws:ec2/vpc:Vpc"):
        if vpc.id and vpc.id not in logged:
            yield vpc, "it has no flow logs"
        if vpc.id and vpc.id not in closed:
            yield vpc, "its default security group is open"


def _of(resources: Sequence[Resource], kind: str) -> list[Resource]:
    return [each for each in resources if each.type == kind]


SECURITY_GROUPS = frozenset(
    {
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/securityGroupRule:SecurityGroupRule",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    }
)

RULES = (
    Rule("no-open-ingress", "Nothing lets the whole internet in.", SECURITY_GROUPS, _ingress),
    Rule("cluster", "The API server is private and logged, and Secrets are encrypted.", frozenset(CLUSTERS), _cluster),
)

STACK_RULES = (
    StackRule("private-subnets", "Machines and databases lie in private subnets.", _public_subnets),
    StackRule("network", "Every VPC has flow logs and a closed default security group.", _flow_logs),
)
