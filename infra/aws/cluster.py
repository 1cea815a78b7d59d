"""The EKS cluster that machines join, and how to reach it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws import user_data
from tidepool.capacity import Taint


@dataclass(frozen=True)
class Cluster:
    """What machines and services need to know of a cluster.

    certificate_authority: the API server's CA, PEM in base64. subnet_ids: by zone. kubeconfig: JSON without secrets.
    """

    name: str
    endpoint: pulumi.Output[str]
    certificate_authority: pulumi.Output[str]
    service_cidr: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    subnet_ids: dict[str, pulumi.Output[Sequence[str]]]
    kubeconfig: pulumi.Output[str]

    def subnets(self, zones: Sequence[str]) -> pulumi.Output[list[str]]:
        """The subnets in the given zones."""
        each = pulumi.Output.all(*(self.subnet_ids[zone] for zone in zones))
        return each.apply(lambda found: [subnet for subnets in found for subnet in subnets])

    def user_data(self, max_pods: int, labels: Mapping[str, str], taints: Sequence[Taint]) -> pulumi.Output[str]:
        """The user data of machines that join this cluster, as plain text."""
        known = pulumi.Output.all(self.endpoint, self.certificate_authority, self.service_cidr)
        return known.apply(
            lambda facts: user_data.render(
                cluster=self.name,
                endpoint=facts[0],
                certificate_authority=facts[1],
                service_cidr=facts[2],
                max_pods=max_pods,
                labels=labels,
                taints=taints,
            )
        )


def look_up(name: str, region: str, zones: Sequence[str]) -> Cluster:
    """An EKS cluster that is there already, with those of its own subnets that lie in the zones."""
    found = aws.eks.get_cluster_output(name=name)
    certificate_authority = found.certificate_authorities[0].data
    return Cluster(
        name=name,
        endpoint=found.endpoint,
        certificate_authority=certificate_authority,
        service_cidr=found.kubernetes_network_configs[0].service_ipv4_cidr,
        security_group_id=found.vpc_config.cluster_security_group_id,
        subnet_ids={zone: _subnet_ids(name, found.vpc_config.subnet_ids, zone) for zone in zones},
        kubeconfig=pulumi.Output.all(found.endpoint, certificate_authority).apply(
            lambda known: kubeconfig(name, region, endpoint=known[0], certificate_authority=known[1])
        ),
    )


def kubeconfig(name: str, region: str, endpoint: str, certificate_authority: str) -> str:
    """A kubeconfig that asks the AWS CLI for a token at each use, as JSON."""
    login = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"],
        "interactiveMode": "Never",
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": endpoint, "certificate-authority-data": certificate_authority}}
        ],
        "users": [{"name": name, "user": {"exec": login}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(document)


def _subnet_ids(cluster: str, subnets: pulumi.Output[Sequence[str]], zone: str) -> pulumi.Output[Sequence[str]]:
    found = aws.ec2.get_subnets_output(
        filters=subnets.apply(
            lambda ids: [
                aws.ec2.GetSubnetsFilterArgs(name="subnet-id", values=ids),
                aws.ec2.GetSubnetsFilterArgs(name="availability-zone", values=[zone]),
            ]
        )
    )
    return found.ids.apply(lambda ids: _at_least_one(cluster, zone, ids))


def _at_least_one(cluster: str, zone: str, ids: Sequence[str]) -> Sequence[str]:
    if not ids:
        raise pulumi.RunError(
            f"cluster {cluster} has no subnet in {zone}; take the zone out of the pools in the stack file, or give the "
            "cluster a subnet there"
        )
    return ids
