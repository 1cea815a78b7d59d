"""Rules about machines and their disks, and about the tags that say whose everything is."""

from __future__ import annotations

from collections.abc import Iterator

from infra.policy.names import (
    BUCKET,
    CLUSTERS,
    DATABASE,
    DATABASE_CLUSTER,
    ENVIRONMENT,
    FILE_SYSTEM,
    GROUP,
    INSTANCES,
    LAUNCH_CONFIGURATION,
    NODE_GROUP,
    OWNER,
    POOL,
    TEMPLATE,
)
from infra.policy.rule import Resource, Rule, is_true, listed

TAGGED = frozenset(
    {
        "aws:budgets/budget:Budget",
        "aws:cloudwatch/eventRule:EventRule",
        "aws:cloudwatch/logGroup:LogGroup",
        "aws:ebs/volume:Volume",
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "aws:ec2/eip:Eip",
        "aws:ec2/flowLog:FlowLog",
        "aws:ec2/internetGateway:InternetGateway",
        "aws:ec2/natGateway:NatGateway",
        "aws:ec2/routeTable:RouteTable",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/subnet:Subnet",
        "aws:ec2/vpc:Vpc",
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "aws:ecr/repository:Repository",
        "aws:eks/accessEntry:AccessEntry",
        "aws:eks/addon:Addon",
        "aws:eks/podIdentityAssociation:PodIdentityAssociation",
        "aws:iam/instanceProfile:InstanceProfile",
        "aws:iam/policy:Policy",
        "aws:iam/role:Role",
        "aws:kms/key:Key",
        "aws:rds/parameterGroup:ParameterGroup",
        "aws:rds/subnetGroup:SubnetGroup",
        "aws:secretsmanager/secret:Secret",
        "aws:sqs/queue:Queue",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        BUCKET,
        DATABASE,
        DATABASE_CLUSTER,
        FILE_SYSTEM,
        *CLUSTERS,
        *INSTANCES,
    }
)
"""Types that must say whose they are. Machines must say more: see POOLED."""

POOLED = frozenset({TEMPLATE, NODE_GROUP})


def _rebalancing(group: Resource) -> Iterator[str]:
    if "AZRebalance" not in listed(group.inputs.get("suspendedProcesses")):
        yield "AZRebalance is not suspended: to even out zones it ends machines with jobs on them"
    if group.inputs.get("instanceRefresh"):
        yield "it refreshes its machines on a change, and ends the jobs on them; new machines come by themselves"


def _public(resource: Resource) -> Iterator[str]:
    inputs = resource.inputs
    for interface in listed(inputs.get("networkInterfaces")):
        if is_true(interface.get("associatePublicIpAddress")):
            yield "its machines get a public address"
    if is_true(inputs.get("associatePublicIpAddress")):
        yield "it gets a public address"
    if is_true(inputs.get("mapPublicIpOnLaunch")):
        yield "every machine in it gets a public address"
    if is_true(inputs.get("publiclyAccessible")):
        yield "it can be reached from the internet"


def _disks(resource: Resource) -> Iterator[str]:
    if resource.type == TEMPLATE:
        disks = [each.get("ebs") for each in listed(resource.inputs.get("blockDeviceMappings")) if each.get("ebs")]
        if not disks:
            yield "it leaves the root volume to the AMI, which does not encrypt it"
        for disk in disks:
            if not is_true(disk.get("encrypted")):
                yield "a volume of its machines is not encrypted"
            if disk.get("volumeType") != "gp3":
                yield f"a volume of its machines is {disk.get('volumeType')}, not gp3, which is faster for less"
    elif resource.type in INSTANCES:
        root = resource.inputs.get("rootBlockDevice")
        if root is None and resource.inputs.get("launchTemplate") is None:
            yield "it leaves the root volume to the AMI, which does not encrypt it"
        disks = [*([] if root is None else [root]), *listed(resource.inputs.get("ebsBlockDevices"))]
        if not all(is_true(disk.get("encrypted")) for disk in disks):
            yield "a volume of it is not encrypted"
    elif resource.type in (DATABASE, DATABASE_CLUSTER):
        if not is_true(resource.inputs.get("storageEncrypted")):
            yield "its storage is not encrypted"
    elif not is_true(resource.inputs.get("encrypted")):
        yield "it is not encrypted"


def _template(resource: Resource) -> Iterator[str]:
    """Disks and metadata are what a launch template says; without one EKS and the AMI decide."""
    if resource.type == NODE_GROUP and resource.inputs.get("launchTemplate") is None:
        yield "it has no launch template: its disks are not encrypted, and its machines answer without a token (IMDSv1)"
    if resource.type == GROUP and resource.inputs.get("launchConfiguration"):
        yield "it has a launch configuration, which AWS no longer develops; take a launch template"
    if resource.type == LAUNCH_CONFIGURATION:
        yield "AWS no longer develops launch configurations; take a launch template"


def _metadata(machines: Resource) -> Iterator[str]:
    options = machines.inputs.get("metadataOptions")
    if machines.type in INSTANCES and options is None and machines.inputs.get("launchTemplate") is not None:
        return
    options = options or {}
    if options.get("httpTokens") != "required":
        yield "its machines answer metadata requests without a token (IMDSv1)"
    if options.get("httpPutResponseHopLimit") != 1:
        yield "pods reach its machines' credentials: the hop limit of the metadata service is not 1"


def _tags(resource: Resource) -> Iterator[str]:
    if resource.type == GROUP:
        passed_on = {
            tag.get("key") for tag in listed(resource.inputs.get("tags")) if is_true(tag.get("propagateAtLaunch"))
        }
        yield from (f"its machines lack the tag {key}" for key in (OWNER, ENVIRONMENT, POOL) if key not in passed_on)
        return
    wanted = (OWNER, ENVIRONMENT, POOL) if resource.type in POOLED else (OWNER, ENVIRONMENT)
    own = resource.inputs.get("tags") or {}
    yield from (f"it lacks the tag {key}" for key in wanted if not own.get(key))
    if resource.type == TEMPLATE:
        specifications = {
            each.get("resourceType"): each.get("tags") or {}
            for each in listed(resource.inputs.get("tagSpecifications"))
        }
        missing = [key for key in wanted if not specifications.get("volume", {}).get(key)]
        if missing:
            yield f"the volumes of its machines lack the tags {', '.join(missing)}"


RULES = (
    Rule("no-rebalancing", "Auto Scaling Groups end no machine of their own accord.", {GROUP}, _rebalancing),
    Rule(
        "no-public-address",
        "No machine, subnet or database has a public address.",
        {TEMPLATE, LAUNCH_CONFIGURATION, "aws:ec2/subnet:Subnet", DATABASE, *INSTANCES},
        _public,
    ),
    Rule(
        "encrypted-disks",
        "Every disk is encrypted.",
        {TEMPLATE, "aws:ebs/volume:Volume", FILE_SYSTEM, DATABASE, DATABASE_CLUSTER, *INSTANCES},
        _disks,
    ),
    Rule(
        "metadata-tokens",
        "Machines answer metadata requests with a token only (IMDSv2).",
        {TEMPLATE, *INSTANCES},
        _metadata,
    ),
    Rule(
        "launch-templates",
        "Machines of a group have a launch template, which the rules about disks and metadata look at.",
        {NODE_GROUP, GROUP, LAUNCH_CONFIGURATION},
        _template,
    ),
    Rule("tags", "Everything says whose it is; machines also which pool.", TAGGED | POOLED | {GROUP}, _tags),
)
