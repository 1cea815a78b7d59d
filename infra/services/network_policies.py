"""Which connections the pods of a namespace may have: everything is denied, then opened one by one. Pure.

Specifications of NetworkPolicies by name, as the API server takes them. They need a network plugin that enforces them:
on EKS the VPC CNI with network policy on. The local cloud has none; its API server takes them and nothing heeds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from infra import naming
from tidepool.capacity import TEAM_LABEL

DNS_PORT = 53
HTTPS_PORTS = (443, 6443)
"""6443 is the API server's on many clusters: a Service's address is translated before policies are asked."""

POSTGRESQL_PORT = 5432

HDFS_PORTS = (8020, 9864, 9866, 9867, 9870)
"""What an HDFS client connects to: the NameNode's RPC and HTTP (8020, 9870), DataNodes' HTTP, data and IPC."""

LINK_LOCAL = "169.254.0.0/16"
"""Where the machine's metadata and credentials are (169.254.169.254): never part of the outside."""

POD_IDENTITY_AGENT = "169.254.170.23/32"
"""EKS Pod Identity's agent on each machine, which gives a pod the credentials of its own ServiceAccount."""

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


def tenant() -> dict[str, Any]:
    """A team's jobs reach each other, DNS, HDFS, HTTPS outside and their credentials; nobody else reaches them.

    The API server is among what is outside: drivers of Spark on Kubernetes start their executors there.
    """
    platform = {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: naming.PLATFORM_NAMESPACE}}}
    return {
        **_basics(),
        "hdfs": _egress([platform], HDFS_PORTS),
        "https": _egress([_outside()], HTTPS_PORTS),
    }


def platform() -> dict[str, Any]:
    """The platform's services reach each other, DNS, a database, HTTPS outside and their credentials; teams reach HDFS.

    Web pages are reached by `kubectl port-forward`, which no policy concerns. A service that lets others in, such as
    Prometheus, brings a policy of its own.
    """
    teams = {"namespaceSelector": {"matchExpressions": [{"key": TEAM_LABEL, "operator": "Exists"}]}}
    return {
        **_basics(),
        "hdfs-for-teams": _ingress([teams], HDFS_PORTS),
        "https": _egress([_outside()], HTTPS_PORTS),
        "database": _egress([_outside()], [POSTGRESQL_PORT]),
    }


def _basics() -> dict[str, Any]:
    anybody_here: Mapping[str, Any] = {"podSelector": {}}
    return {
        "default-deny": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        "within-namespace": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [anybody_here]}],
            "egress": [{"to": [anybody_here]}],
        },
        # To any address: CoreDNS is pods behind a Service, an agent on the machine, or locally a process of the host.
        "dns": _egress([], [DNS_PORT], protocols=("UDP", "TCP")),
        "pod-identity": _egress([{"ipBlock": {"cidr": POD_IDENTITY_AGENT}}], [80]),
    }


def _outside() -> dict[str, Any]:
    return {"ipBlock": {"cidr": "0.0.0.0/0", "except": [LINK_LOCAL]}}


def _egress(to: list[dict[str, Any]], ports: Iterable[int], protocols: Iterable[str] = ("TCP",)) -> dict[str, Any]:
    """To these peers, or to anywhere if there are none, on these ports only."""
    rule: dict[str, Any] = {"ports": _ports(ports, protocols)} | ({"to": to} if to else {})
    return {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}


def _ingress(sources: list[dict[str, Any]], ports: Iterable[int]) -> dict[str, Any]:
    rule = {"ports": _ports(ports, ("TCP",)), "from": sources}
    return {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]}


def _ports(ports: Iterable[int], protocols: Iterable[str]) -> list[dict[str, Any]]:
    return [{"protocol": protocol, "port": port} for protocol in protocols for port in ports]
