"""The VPC: private subnets for all machines, public ones for NAT and load balancers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws import endpoints, policies, subnets
from infra.settings.model_aws import Network as NetworkSettings

ANYWHERE = "0.0.0.0/0"
HTTPS = 443
FLOW_LOG_SECONDS = 600


@dataclass(frozen=True)
class NetworkArgs:
    """Inputs of a network. name: what its parts' Name tags begin with; tags: of everything in it."""

    name: str
    region: str
    network: NetworkSettings
    tags: Mapping[str, str]


class Network(pulumi.ComponentResource):
    """A VPC over two or three zones, its way out, its endpoints and its flow logs.

    private_subnet_ids, public_subnet_ids: by zone, known once the subnet has its way out: a machine that starts before
    pulls no image. Nothing in it gets a public address by itself.
    """

    vpc_id: pulumi.Output[str]
    private_subnet_ids: dict[str, pulumi.Output[str]]
    public_subnet_ids: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:Network", name, {}, opts)
        self._name = name
        self._args = args
        self._inside = pulumi.ResourceOptions(parent=self)
        plan = subnets.plan(args.network.cidr, args.network.zones)
        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=args.network.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags=self._tags("vpc"),
            opts=self._inside,
        )
        self.vpc_id = vpc.id
        # It exists in every VPC; without rules nothing that ends up in it by mistake can talk.
        aws.ec2.DefaultSecurityGroup(
            f"{name}-default", vpc_id=vpc.id, ingress=[], egress=[], tags=self._tags("default"), opts=self._inside
        )
        public = self._subnets("public", plan.public, "kubernetes.io/role/elb")
        private = self._subnets("private", plan.private, "kubernetes.io/role/internal-elb")
        self.public_subnet_ids = self._public_routes(public)
        self.private_subnet_ids, tables = self._private_routes(private)
        self._endpoints(tables)
        self._flow_logs()
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "private_subnet_ids": self.private_subnet_ids,
                "public_subnet_ids": self.public_subnet_ids,
            }
        )

    def _tags(self, suffix: str) -> dict[str, str]:
        return {**self._args.tags, "Name": f"{self._args.name}-{suffix}"}

    def _subnets(self, kind: str, cidrs: Mapping[str, str], role: str) -> dict[str, aws.ec2.Subnet]:
        return {
            zone: aws.ec2.Subnet(
                f"{self._name}-{kind}-{zone}",
                vpc_id=self.vpc_id,
                availability_zone=zone,
                cidr_block=cidr,
                map_public_ip_on_launch=False,
                tags={**self._tags(f"{kind}-{zone}"), role: "1"},
                opts=self._inside,
            )
            for zone, cidr in cidrs.items()
        }

    def _public_routes(self, subnets: Mapping[str, aws.ec2.Subnet]) -> dict[str, pulumi.Output[str]]:
        """The way to the internet; ids of the subnets that have it."""
        gateway = aws.ec2.InternetGateway(
            f"{self._name}-internet", vpc_id=self.vpc_id, tags=self._tags("internet"), opts=self._inside
        )
        table = aws.ec2.RouteTable(
            f"{self._name}-public", vpc_id=self.vpc_id, tags=self._tags("public"), opts=self._inside
        )
        route = aws.ec2.Route(
            f"{self._name}-public-internet",
            route_table_id=table.id,
            destination_cidr_block=ANYWHERE,
            gateway_id=gateway.id,
            opts=self._inside,
        )
        return {
            zone: self._routed(subnet, self._associate(f"public-{zone}", table, subnet), route)
            for zone, subnet in subnets.items()
        }

    def _private_routes(
        self, subnets: Mapping[str, aws.ec2.Subnet]
    ) -> tuple[dict[str, pulumi.Output[str]], list[aws.ec2.RouteTable]]:
        """One table for each zone, so that more NAT gateways change only where routes point to. Ids of the subnets."""
        zones = self._args.network.zones
        with_nat = zones[:1] if self._args.network.nat == "one" else zones
        gateways = {zone: self._nat(zone) for zone in with_nat}
        ids, tables = {}, []
        for zone, subnet in subnets.items():
            table = aws.ec2.RouteTable(
                f"{self._name}-private-{zone}",
                vpc_id=self.vpc_id,
                tags=self._tags(f"private-{zone}"),
                opts=self._inside,
            )
            route = aws.ec2.Route(
                f"{self._name}-private-{zone}-nat",
                route_table_id=table.id,
                destination_cidr_block=ANYWHERE,
                nat_gateway_id=gateways.get(zone, gateways[zones[0]]).id,
                opts=self._inside,
            )
            ids[zone] = self._routed(subnet, self._associate(f"private-{zone}", table, subnet), route)
            tables.append(table)
        return ids, tables

    def _nat(self, zone: str) -> aws.ec2.NatGateway:
        name, tags = f"{self._name}-nat-{zone}", self._tags(f"nat-{zone}")
        address = aws.ec2.Eip(name, domain="vpc", tags=tags, opts=self._inside)
        return aws.ec2.NatGateway(
            name,
            allocation_id=address.allocation_id,
            subnet_id=self.public_subnet_ids[zone],
            tags=tags,
            opts=self._inside,
        )

    def _associate(
        self, suffix: str, table: aws.ec2.RouteTable, subnet: aws.ec2.Subnet
    ) -> aws.ec2.RouteTableAssociation:
        return aws.ec2.RouteTableAssociation(
            f"{self._name}-{suffix}", route_table_id=table.id, subnet_id=subnet.id, opts=self._inside
        )

    def _routed(self, subnet: aws.ec2.Subnet, *way_out: pulumi.CustomResource) -> pulumi.Output[str]:
        return pulumi.Output.all(subnet.id, *(each.id for each in way_out)).apply(lambda ids: str(ids[0]))

    def _endpoints(self, tables: list[aws.ec2.RouteTable]) -> None:
        region = self._args.region
        aws.ec2.VpcEndpoint(
            f"{self._name}-s3",
            vpc_id=self.vpc_id,
            service_name=endpoints.service_name(region, "s3"),
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables],
            tags=self._tags("s3"),
            opts=self._inside,
        )
        if not self._args.network.interface_endpoints:
            return
        group = aws.ec2.SecurityGroup(
            f"{self._name}-endpoints",
            vpc_id=self.vpc_id,
            description="HTTPS from the VPC to the endpoints of AWS services",
            ingress=[
                aws.ec2.SecurityGroupIngressArgs(
                    description="HTTPS from the VPC",
                    protocol="tcp",
                    from_port=HTTPS,
                    to_port=HTTPS,
                    cidr_blocks=[self._args.network.cidr],
                )
            ],
            tags=self._tags("endpoints"),
            opts=self._inside,
        )
        for service in endpoints.INTERFACE_SERVICES:
            aws.ec2.VpcEndpoint(
                f"{self._name}-{service.replace('.', '-')}",
                vpc_id=self.vpc_id,
                service_name=endpoints.service_name(region, service),
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=list(self.private_subnet_ids.values()),
                security_group_ids=[group.id],
                tags=self._tags(service),
                opts=self._inside,
            )

    def _flow_logs(self) -> None:
        name, tags = f"{self._name}-flow-logs", self._tags("flow-logs")
        group = aws.cloudwatch.LogGroup(
            name,
            name=f"/tidepool/{self._args.name}/flow-logs",
            retention_in_days=self._args.network.flow_log_days,
            tags=tags,
            opts=self._inside,
        )
        role = aws.iam.Role(
            name,
            assume_role_policy=policies.trust_service("vpc-flow-logs.amazonaws.com"),
            tags=tags,
            opts=self._inside,
        )
        allowed = aws.iam.RolePolicy(
            name, role=role.name, policy=group.arn.apply(policies.flow_logs), opts=self._inside
        )
        aws.ec2.FlowLog(
            name,
            vpc_id=self.vpc_id,
            traffic_type="ALL",
            iam_role_arn=role.arn,
            log_destination=group.arn,
            max_aggregation_interval=FLOW_LOG_SECONDS,
            tags=tags,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[allowed]),
        )
