"""What pods may connect to, worked out from the policies as Kubernetes defines them: what any of them allows."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

import pytest

from infra import naming
from infra.services import network_policies

NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """A pod by its namespace's labels, or an address outside the cluster."""

    namespace: dict[str, str] | None = None
    address: str = "0.0.0.0"  # noqa: S104 - no address is listened on


def space(name: str, **labels: str) -> Peer:
    return Peer(namespace={NAMESPACE_NAME: name, **{f"tidepool.dev/{key}": value for key, value in labels.items()}})


MINE, OTHERS = space("tidepool-mine", team="mine"), space("tidepool-others", team="others")
PLATFORM, SYSTEM = space("tidepool"), space("kube-system")
INTERNET, DATABASE, METADATA, AGENT = (
    Peer(address=address) for address in ("203.0.113.7", "10.0.3.4", "169.254.169.254", "169.254.170.23")
)

POLICIES = {"tidepool-mine": network_policies.tenant(), "tidepool": network_policies.platform()}


def allowed(own: Peer, peer: Peer, port: int, direction: str, protocol: str = "TCP") -> bool:
    """Whether some policy of the pod's own namespace has a rule with this peer and this port."""
    assert own.namespace is not None
    specs = POLICIES[own.namespace[NAMESPACE_NAME]].values()
    assert any(direction in spec["policyTypes"] for spec in specs), "without a policy everything is allowed"
    key, side = direction.lower(), "to" if direction == "Egress" else "from"
    return any(
        (side not in rule or any(matches(each, own, peer) for each in rule[side]))
        and ("ports" not in rule or {"protocol": protocol, "port": port} in rule["ports"])
        for spec in specs
        if direction in spec["policyTypes"]
        for rule in spec.get(key, [])
    )


def matches(rule: dict[str, Any], own: Peer, peer: Peer) -> bool:
    """Whether a rule's peer is this one. The kinds of rules that are used here, and no other."""
    if "ipBlock" in rule:
        assert rule.keys() == {"ipBlock"}
        address, block = ipaddress.ip_address(peer.address), rule["ipBlock"]
        inside = [address in ipaddress.ip_network(cidr) for cidr in (block["cidr"], *block.get("except", []))]
        return peer.namespace is None and inside[0] and not any(inside[1:])
    if "namespaceSelector" not in rule:
        assert rule == {"podSelector": {}}
        return own.namespace == peer.namespace
    assert rule.keys() == {"namespaceSelector"}
    selector, labels = rule["namespaceSelector"], peer.namespace
    assert selector, "an empty selector would be every namespace"
    return labels is not None and all(
        (
            *(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()),
            *(each["operator"] == "Exists" and each["key"] in labels for each in selector.get("matchExpressions", [])),
        )
    )


@pytest.mark.parametrize(
    ("peer", "port", "protocol"),
    [
        *((SYSTEM, 53, protocol) for protocol in ("UDP", "TCP")),
        (Peer(address="10.200.0.1"), 53, "UDP"),  # CoreDNS of the local cloud
        (Peer(address="169.254.20.10"), 53, "UDP"),  # NodeLocal DNS
        *((PLATFORM, port, "TCP") for port in (8020, 9866, 9867, 9864)),
        (INTERNET, 443, "TCP"),
        (Peer(address="10.0.9.9"), 443, "TCP"),  # EKS' API server
        (Peer(address="10.200.0.1"), 6443, "TCP"),  # that of the local cloud
        (AGENT, 80, "TCP"),
        (MINE, 7078, "TCP"),  # a Spark driver and its executors
    ],
)
def test_a_job_reaches_what_it_needs(peer: Peer, port: int, protocol: str) -> None:
    assert allowed(MINE, peer, port, "Egress", protocol)


@pytest.mark.parametrize(
    ("peer", "port"),
    [
        (METADATA, 80),
        (METADATA, 443),
        (Peer(address="169.254.169.253"), 443),
        (INTERNET, 80),
        (INTERNET, 22),
        (DATABASE, 5432),
        (OTHERS, 443),
        (OTHERS, 7078),
        (PLATFORM, 8080),  # Airflow
        (PLATFORM, 5432),
        (SYSTEM, 443),
        (space("tidepool-fake"), 8020),
    ],
)
def test_a_job_reaches_nothing_else(peer: Peer, port: int) -> None:
    assert not allowed(MINE, peer, port, "Egress")


@pytest.mark.parametrize("peer", [OTHERS, PLATFORM, SYSTEM, INTERNET, Peer(address="10.0.3.4")])
@pytest.mark.parametrize("port", [53, 80, 443, 4040, 8020])
def test_nobody_reaches_a_job_from_outside_its_namespace(peer: Peer, port: int) -> None:
    assert not allowed(MINE, peer, port, "Ingress")
    assert allowed(MINE, MINE, port, "Ingress")


@pytest.mark.parametrize(
    ("peer", "port"),
    [
        (PLATFORM, 8020),
        (PLATFORM, 9866),
        (DATABASE, 5432),
        (Peer(address="10.0.9.9"), 443),  # EKS' API server
        (Peer(address="10.200.0.1"), 6443),  # others'
        (INTERNET, 443),
        (AGENT, 80),
        (SYSTEM, 53),
    ],
)
def test_the_platform_reaches_what_it_needs(peer: Peer, port: int) -> None:
    assert allowed(PLATFORM, peer, port, "Egress")


@pytest.mark.parametrize(("peer", "port"), [(METADATA, 80), (METADATA, 443), (MINE, 8080), (INTERNET, 22)])
def test_the_platform_reaches_nothing_else(peer: Peer, port: int) -> None:
    assert not allowed(PLATFORM, peer, port, "Egress")


def test_teams_reach_the_platforms_hdfs_and_nothing_else_there() -> None:
    assert all(allowed(PLATFORM, team, port, "Ingress") for team in (MINE, OTHERS) for port in (8020, 9864, 9866, 9867))
    assert not any(allowed(PLATFORM, team, port, "Ingress") for team in (MINE, OTHERS) for port in (80, 5432, 8080))
    assert not any(allowed(PLATFORM, peer, 8020, "Ingress") for peer in (SYSTEM, INTERNET, DATABASE))


def test_what_a_team_may_reach_at_the_platform_the_platform_lets_in() -> None:
    ports = [port for port in range(1, 65536) if allowed(MINE, PLATFORM, port, "Egress") and port != 53]
    assert ports == [port for port in range(1, 65536) if allowed(PLATFORM, MINE, port, "Ingress")]


@pytest.mark.parametrize("specs", POLICIES.values(), ids=POLICIES)
def test_every_policy_is_of_all_pods_and_the_first_denies_everything(specs: dict[str, Any]) -> None:
    assert all(spec["podSelector"] == {} for spec in specs.values())
    assert specs["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_namespaces_of_the_model_are_those_that_the_program_makes() -> None:
    assert naming.tenant_namespace("mine") in POLICIES
    assert naming.PLATFORM_NAMESPACE in POLICIES
