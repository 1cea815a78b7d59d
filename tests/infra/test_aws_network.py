from __future__ import annotations

import ipaddress
import json

import pytest

from infra.aws import endpoints, instance_types, subnets
from infra.aws.network import Network, NetworkArgs
from infra.settings import model_aws
from tests.infra.recording import Made, made_by

ZONES = ("eu-central-1a", "eu-central-1b", "eu-central-1c")
TAGS = {"tidepool.dev/owner": "data", "tidepool.dev/environment": "dev"}


def network(*, nat: str = "one", interface_endpoints: bool = True, preview: bool = False) -> Made:
    settings = model_aws.Network(
        cidr="10.20.0.0/16",
        zones=ZONES,
        nat=nat,  # type: ignore[arg-type]
        interface_endpoints=interface_endpoints,
        flow_log_days=30,
    )
    args = NetworkArgs(name="dev", region="eu-central-1", network=settings, tags=TAGS)
    return made_by(lambda: Network("network", args), preview=preview)


@pytest.mark.parametrize("zones", [ZONES[:2], ZONES])
def test_subnets_lie_in_the_vpc_and_do_not_overlap(zones: tuple[str, ...]) -> None:
    plan = subnets.plan("10.20.0.0/16", zones)
    parts = [ipaddress.ip_network(cidr) for cidr in [*plan.private.values(), *plan.public.values()]]
    assert list(plan.private) == list(plan.public) == list(zones)
    assert all(part.subnet_of(ipaddress.ip_network("10.20.0.0/16")) for part in parts)
    assert not any(one.overlaps(other) for one in parts for other in parts if one is not other)
    assert plan.private[zones[0]] == "10.20.0.0/18"
    assert subnets.addresses(plan.private[zones[0]]) == 16379


def test_a_zone_added_at_the_end_moves_no_other() -> None:
    two, three = subnets.plan("10.20.0.0/16", ZONES[:2]), subnets.plan("10.20.0.0/16", ZONES)
    assert two.private.items() <= three.private.items()
    assert two.public.items() <= three.public.items()


@pytest.mark.parametrize(
    ("cidr", "zones", "complaint"),
    [
        ("10.20.0.0/15", ZONES, "/16"),
        ("10.20.0.0/25", ZONES, "/24"),
        ("10.20.0.1/16", ZONES, "host bits"),
        ("fd00::/56", ZONES, "IPv4"),
        ("10.96.128.0/18", ZONES, "Services"),
        ("10.20.0.0/16", ZONES[:1], "2 or 3"),
        ("10.20.0.0/16", (*ZONES, "eu-central-1d"), "2 or 3"),
        ("10.20.0.0/16", (ZONES[0], ZONES[0]), "twice"),
    ],
)
def test_an_impossible_vpc_is_refused(cidr: str, zones: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        subnets.plan(cidr, zones)


def test_all_problems_of_a_vpc_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)/16.*Services.*2 or 3.*twice"):
        subnets.plan("10.96.0.0/15", (ZONES[0], ZONES[0], *ZONES))


@pytest.mark.parametrize(("max_pods", "taken"), [(1, 5), (7, 10), (8, 12), (20, 25), (29, 35), (110, 125)])
def test_a_machine_takes_an_address_for_each_pod_for_two_more_and_for_each_interface(max_pods: int, taken: int) -> None:
    assert subnets.taken(max_pods) == taken


def test_no_type_has_fewer_addresses_on_an_interface_than_the_check_reckons_with() -> None:
    """The smallest types hold 29 pods: 3 interfaces of 9, and 2 on the host's network; others have more on each."""
    fewest = min(each.pod_addresses for each in instance_types.table().values())
    assert fewest == 3 * subnets.INTERFACE_ADDRESSES + 2


def test_no_subnet_gives_public_addresses() -> None:
    made = network().of("ec2/subnet:Subnet").values()
    assert len(made) == 6
    assert {each.inputs["mapPublicIpOnLaunch"] for each in made} == {False}


def test_subnets_say_which_load_balancers_they_are_for() -> None:
    made = network().of("ec2/subnet:Subnet")
    assert all(made[f"network-public-{zone}"].inputs["tags"]["kubernetes.io/role/elb"] == "1" for zone in ZONES)
    assert all(
        made[f"network-private-{zone}"].inputs["tags"]["kubernetes.io/role/internal-elb"] == "1" for zone in ZONES
    )


@pytest.mark.parametrize(("nat", "count"), [("one", 1), ("per-zone", 3)])
def test_nat_is_one_or_one_for_each_zone(nat: str, count: int) -> None:
    made = network(nat=nat)
    assert len(made.of("ec2/natGateway:NatGateway")) == len(made.of("ec2/eip:Eip")) == count
    routes = made.of("ec2/route:Route")
    for zone in ZONES:
        gateway = zone if nat == "per-zone" else ZONES[0]
        assert routes[f"network-private-{zone}-nat"].inputs["natGatewayId"] == f"network-nat-{gateway}-id"
    assert all(
        each.inputs["subnetId"].startswith("network-public-") for each in made.of("ec2/natGateway:NatGateway").values()
    )


def test_only_public_subnets_have_a_route_to_the_internet_gateway() -> None:
    made = network()
    routes = [each for each in made.of("ec2/route:Route").values() if "gatewayId" in each.inputs]
    assert [each.inputs["routeTableId"] for each in routes] == ["network-public-id"]
    associated = made.of("ec2/routeTableAssociation:RouteTableAssociation").values()
    on_public = {each.inputs["subnetId"] for each in associated if each.inputs["routeTableId"] == "network-public-id"}
    assert on_public == {f"network-public-{zone}-id" for zone in ZONES}
    assert len(associated) == 6


def test_s3_has_a_gateway_endpoint_in_every_private_route_table() -> None:
    for interface_endpoints in (True, False):
        s3 = network(interface_endpoints=interface_endpoints).of("ec2/vpcEndpoint:VpcEndpoint")["network-s3"]
        assert s3.inputs["vpcEndpointType"] == "Gateway"
        assert s3.inputs["routeTableIds"] == [f"network-private-{zone}-id" for zone in ZONES]


def test_interface_endpoints_answer_https_from_the_vpc_only() -> None:
    made = network()
    interfaces = [
        each
        for each in made.of("ec2/vpcEndpoint:VpcEndpoint").values()
        if each.inputs["vpcEndpointType"] == "Interface"
    ]
    assert {each.inputs["serviceName"] for each in interfaces} == {
        f"com.amazonaws.eu-central-1.{service}" for service in endpoints.INTERFACE_SERVICES
    }
    assert all(each.inputs["privateDnsEnabled"] for each in interfaces)
    (rule,) = made.one("ec2/securityGroup:SecurityGroup").inputs["ingress"]
    assert (rule["fromPort"], rule["toPort"], rule["protocol"], rule["cidrBlocks"]) == (
        443,
        443,
        "tcp",
        ["10.20.0.0/16"],
    )


def test_interface_endpoints_can_be_left_out() -> None:
    made = network(interface_endpoints=False)
    assert list(made.of("ec2/vpcEndpoint:VpcEndpoint")) == ["network-s3"]
    assert not made.of("ec2/securityGroup:SecurityGroup")


def test_the_vpcs_default_security_group_allows_nothing() -> None:
    group = network().one("ec2/defaultSecurityGroup:DefaultSecurityGroup").inputs
    assert (group["ingress"], group["egress"]) == ([], [])


def test_all_traffic_is_logged_for_the_days_of_the_settings() -> None:
    made = network()
    assert made.one("ec2/flowLog:FlowLog").inputs["trafficType"] == "ALL"
    assert made.one("cloudwatch/logGroup:LogGroup").inputs["retentionInDays"] == 30
    (statement,) = json.loads(made.one("iam/rolePolicy:RolePolicy").inputs["policy"])["Statement"]
    assert statement["Resource"] == ["arn:aws:mock:::network-flow-logs", "arn:aws:mock:::network-flow-logs:*"]


def test_everything_that_takes_tags_carries_them() -> None:
    untagged = {"aws:ec2/route:Route", "aws:ec2/routeTableAssociation:RouteTableAssociation"}
    untagged |= {"aws:iam/rolePolicy:RolePolicy"}
    for each in network():
        assert each.type in untagged or TAGS.items() <= each.inputs["tags"].items(), each.name


def test_a_network_can_be_previewed_before_anything_is_there() -> None:
    assert network(preview=True).names() == network().names()
