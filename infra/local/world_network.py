"""Networks in moto: VPCs, subnets, gateways, routes, security groups and endpoints."""

from __future__ import annotations

from typing import Any

from infra.local.world_rows import Inputs, Row, Setter, calls, filtered, pairs, parameters_of
from infra.local.world_state import Entry

ANY_PROTOCOL = "-1"


def set_tags(client: Any, identity: str, wanted: dict[str, str], before: dict[str, str] | None) -> None:
    """The tags of an EC2 resource."""
    if stale := [{"Key": key} for key in sorted((before or {}).keys() - wanted.keys())]:
        client.delete_tags(Resources=[identity], Tags=stale)
    client.create_tags(Resources=[identity], Tags=pairs(wanted))


def _vpc_attribute(name: str) -> Setter:
    return lambda client, identity, wanted, before: client.modify_vpc_attribute(
        VpcId=identity, **{name: {"Value": wanted}}
    )


def _subnet_attribute(name: str) -> Setter:
    return lambda client, identity, wanted, before: client.modify_subnet_attribute(
        SubnetId=identity, **{name: {"Value": wanted}}
    )


def _attach_gateway(client: Any, identity: str, wanted: str, before: str | None) -> None:
    (gateway,) = client.describe_internet_gateways(InternetGatewayIds=[identity])["InternetGateways"]
    for attached in gateway["Attachments"]:
        client.detach_internet_gateway(InternetGatewayId=identity, VpcId=attached["VpcId"])
    client.attach_internet_gateway(InternetGatewayId=identity, VpcId=wanted)


def _delete_gateway(client: Any, old: Entry) -> None:
    client.detach_internet_gateway(InternetGatewayId=old.id, VpcId=old.inputs["vpcId"])
    client.delete_internet_gateway(InternetGatewayId=old.id)


def _find_route(client: Any, inputs: Inputs) -> list[str]:
    tables = client.describe_route_tables(RouteTableIds=[inputs["routeTableId"]])["RouteTables"]
    there = {route.get("DestinationCidrBlock") for table in tables for route in table["Routes"]}
    return [f"{inputs['routeTableId']}:{inputs['destinationCidrBlock']}"] * (inputs["destinationCidrBlock"] in there)


def _set_rules(direction: str) -> Setter:
    """A security group's inline rules: all that it has of one direction."""

    def set_them(client: Any, identity: str, wanted: list[dict[str, Any]], before: Any) -> None:
        (group,) = client.describe_security_groups(GroupIds=[identity])["SecurityGroups"]
        there = group["IpPermissions" if direction == "ingress" else "IpPermissionsEgress"]
        if there:
            getattr(client, f"revoke_security_group_{direction}")(GroupId=identity, IpPermissions=there)
        if wanted:
            operation = f"authorize_security_group_{direction}"
            new = {"GroupId": identity, "IpPermissions": [_permission(rule, identity) for rule in wanted]}
            getattr(client, operation)(**parameters_of(client, operation, new))

    return set_them


def _permission(rule: dict[str, Any], group: str) -> dict[str, Any]:
    """An inline rule of the provider as EC2's IpPermission."""
    rest = dict(rule)
    said = {"Description": rest.pop("description")} if rest.get("description") else {}
    groups = rest.pop("securityGroups", []) + [group] * rest.pop("self", False)
    return {
        "IpProtocol": rest.pop("protocol"),
        "IpRanges": [{"CidrIp": each, **said} for each in rest.pop("cidrBlocks", [])],
        "Ipv6Ranges": [{"CidrIpv6": each, **said} for each in rest.pop("ipv6CidrBlocks", [])],
        "UserIdGroupPairs": [{"GroupId": each, **said} for each in groups],
        **rest,
    }


def _rule(direction: str) -> Row:
    """A rule of its own, for which its group may be another component's."""

    def parameters(inputs: Inputs) -> dict[str, Any]:
        said = {"Description": inputs["description"]} if "description" in inputs else {}
        permission: dict[str, Any] = {"IpProtocol": inputs["ipProtocol"]}
        permission |= {key[0].upper() + key[1:]: inputs[key] for key in ("fromPort", "toPort") if key in inputs}
        if "cidrIpv4" in inputs:
            permission["IpRanges"] = [{"CidrIp": inputs["cidrIpv4"], **said}]
        if "referencedSecurityGroupId" in inputs:
            permission["UserIdGroupPairs"] = [{"GroupId": inputs["referencedSecurityGroupId"], **said}]
        return {"GroupId": inputs["securityGroupId"], "IpPermissions": [permission]}

    def find(client: Any, inputs: Inputs) -> list[str]:
        group = [{"Name": "group-id", "Values": [inputs["securityGroupId"]]}]
        rules = client.describe_security_group_rules(Filters=group)["SecurityGroupRules"]
        return [rule["SecurityGroupRuleId"] for rule in rules if _same_rule(rule, inputs, direction == "egress")]

    def delete(client: Any, old: Entry) -> None:
        revoke = getattr(client, f"revoke_security_group_{direction}")
        revoke(GroupId=old.inputs["securityGroupId"], SecurityGroupRuleIds=[old.id])

    return Row(
        service="ec2",
        create=f"authorize_security_group_{direction}",
        id="SecurityGroupRules[0].SecurityGroupRuleId",
        parameters=parameters,
        tag_resource="security-group-rule",
        setters={"tags": set_tags},
        find=find,
        delete=delete,
        outputs={"arn": "arn:aws:ec2:{region}:{account}:security-group-rule/{id}", "securityGroupRuleId": "{id}"},
    )


def _same_rule(rule: dict[str, Any], inputs: Inputs, egress: bool) -> bool:
    any_port = inputs["ipProtocol"] == ANY_PROTOCOL
    wanted = (
        egress,
        inputs["ipProtocol"],
        *([] if any_port else [inputs.get("fromPort"), inputs.get("toPort")]),
        inputs.get("cidrIpv4"),
        inputs.get("referencedSecurityGroupId"),
    )
    return wanted == (
        rule["IsEgress"],
        rule["IpProtocol"],
        *([] if any_port else [rule["FromPort"], rule["ToPort"]]),
        rule.get("CidrIpv4"),
        rule.get("ReferencedGroupInfo", {}).get("GroupId"),
    )


def _adopt_default_group(client: Any, inputs: Inputs) -> list[str]:
    filters = [{"Name": "vpc-id", "Values": [inputs["vpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
    return [each["GroupId"] for each in client.describe_security_groups(Filters=filters)["SecurityGroups"]]


def _flow_log(inputs: Inputs) -> dict[str, Any]:
    return {
        "ResourceIds": [inputs["vpcId"]],
        "ResourceType": "VPC",
        "TrafficType": inputs["trafficType"],
        "LogDestination": inputs["logDestination"],
        "DeliverLogsPermissionArn": inputs["iamRoleArn"],
        "MaxAggregationInterval": inputs["maxAggregationInterval"],
    }


def _ec2(resource: str) -> dict[str, str]:
    return {"arn": f"arn:aws:ec2:{{region}}:{{account}}:{resource}/{{id}}"}


ROWS = {
    "aws:ec2/vpc:Vpc": Row(
        service="ec2",
        create="create_vpc",
        id="Vpc.VpcId",
        tag_resource="vpc",
        setters={
            "enableDnsSupport": _vpc_attribute("EnableDnsSupport"),
            "enableDnsHostnames": _vpc_attribute("EnableDnsHostnames"),
            "tags": set_tags,
        },
        find=filtered("describe_vpcs", "Vpcs[].VpcId", cidr="cidrBlock", tag_Name="tags.Name"),
        delete=calls("delete_vpc", VpcId="id"),
        outputs=_ec2("vpc"),
    ),
    "aws:ec2/subnet:Subnet": Row(
        service="ec2",
        create="create_subnet",
        id="Subnet.SubnetId",
        tag_resource="subnet",
        setters={"mapPublicIpOnLaunch": _subnet_attribute("MapPublicIpOnLaunch"), "tags": set_tags},
        find=filtered("describe_subnets", "Subnets[].SubnetId", vpc_id="vpcId", cidr_block="cidrBlock"),
        delete=calls("delete_subnet", SubnetId="id"),
        outputs=_ec2("subnet"),
    ),
    "aws:ec2/internetGateway:InternetGateway": Row(
        service="ec2",
        create="create_internet_gateway",
        id="InternetGateway.InternetGatewayId",
        tag_resource="internet-gateway",
        setters={"vpcId": _attach_gateway, "tags": set_tags},
        find=filtered("describe_internet_gateways", "InternetGateways[].InternetGatewayId", tag_Name="tags.Name"),
        delete=_delete_gateway,
        outputs=_ec2("internet-gateway"),
    ),
    "aws:ec2/eip:Eip": Row(
        service="ec2",
        create="allocate_address",
        id="AllocationId",
        tag_resource="elastic-ip",
        setters={"tags": set_tags},
        find=filtered("describe_addresses", "Addresses[].AllocationId", tag_Name="tags.Name"),
        delete=calls("release_address", AllocationId="id"),
        outputs={**_ec2("elastic-ip"), "allocationId": "{id}"},
    ),
    "aws:ec2/natGateway:NatGateway": Row(
        service="ec2",
        create="create_nat_gateway",
        id="NatGateway.NatGatewayId",
        tag_resource="natgateway",
        setters={"tags": set_tags},
        find=filtered(
            "describe_nat_gateways",
            "NatGateways[?State!='deleted'].NatGatewayId",
            subnet_id="subnetId",
            tag_Name="tags.Name",
        ),
        delete=calls("delete_nat_gateway", NatGatewayId="id"),
        outputs=_ec2("natgateway"),
    ),
    "aws:ec2/routeTable:RouteTable": Row(
        service="ec2",
        create="create_route_table",
        id="RouteTable.RouteTableId",
        tag_resource="route-table",
        setters={"tags": set_tags},
        find=filtered("describe_route_tables", "RouteTables[].RouteTableId", vpc_id="vpcId", tag_Name="tags.Name"),
        delete=calls("delete_route_table", RouteTableId="id"),
        outputs=_ec2("route-table"),
    ),
    "aws:ec2/route:Route": Row(
        service="ec2",
        create="create_route",
        id="{routeTableId}:{destinationCidrBlock}",
        put="replace_route",
        identity=("routeTableId", "destinationCidrBlock"),
        find=_find_route,
        delete=calls("delete_route", RouteTableId="routeTableId", DestinationCidrBlock="destinationCidrBlock"),
    ),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": Row(
        service="ec2",
        create="associate_route_table",
        id="AssociationId",
        delete=calls("disassociate_route_table", AssociationId="id"),
    ),
    "aws:ec2/securityGroup:SecurityGroup": Row(
        service="ec2",
        create="create_security_group",
        id="GroupId",
        names={"name": "groupName"},
        defaults={"description": "Managed by Pulumi"},
        tag_resource="security-group",
        setters={"ingress": _set_rules("ingress"), "egress": _set_rules("egress"), "tags": set_tags},
        find=filtered("describe_security_groups", "SecurityGroups[].GroupId", vpc_id="vpcId", group_name="name"),
        delete=calls("delete_security_group", GroupId="id"),
        outputs=_ec2("security-group"),
        auto_name="name",
    ),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": Row(
        service="ec2",
        create="describe_security_groups",
        id="",
        setters={"ingress": _set_rules("ingress"), "egress": _set_rules("egress"), "tags": set_tags},
        find=_adopt_default_group,
        delete=lambda client, old: None,  # it goes with its VPC
        outputs=_ec2("security-group"),
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _rule("ingress"),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _rule("egress"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": Row(
        service="ec2",
        create="create_vpc_endpoint",
        id="VpcEndpoint.VpcEndpointId",
        names={"policy": "policyDocument"},
        tag_resource="vpc-endpoint",
        setters={"tags": set_tags},
        find=filtered(
            "describe_vpc_endpoints",
            "VpcEndpoints[?State!='deleted'].VpcEndpointId",
            vpc_id="vpcId",
            service_name="serviceName",
        ),
        delete=lambda client, old: client.delete_vpc_endpoints(VpcEndpointIds=[old.id]),
        outputs=_ec2("vpc-endpoint"),
    ),
    "aws:ec2/flowLog:FlowLog": Row(
        service="ec2",
        create="create_flow_logs",
        id="FlowLogIds[0]",
        parameters=_flow_log,
        tag_resource="vpc-flow-log",
        setters={"tags": set_tags},
        find=filtered("describe_flow_logs", "FlowLogs[].FlowLogId", resource_id="vpcId"),
        delete=lambda client, old: client.delete_flow_logs(FlowLogIds=[old.id]),
        outputs=_ec2("vpc-flow-log"),
    ),
}
