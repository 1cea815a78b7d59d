"""How a VPC's range is split: one private and one public subnet in each zone, at addresses that never move."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

MOST_ZONES = 3
RESERVED_ADDRESSES = 5
"""What AWS keeps of every subnet: network, router, DNS, one for later, broadcast."""

SERVICE_CIDR = "10.96.0.0/16"
"""Addresses of the cluster's Services, on AWS and locally. Not EKS's own 172.20.0.0/16: docker hands that out too."""

SPARE_ADDRESSES = 2
FIRST_ADDRESSES = 4
"""Addresses that the VPC CNI keeps on a machine for pods that may come, and takes at least: enough for a job and the
agents beside it at once. By its own default it keeps a whole network interface free, of up to 50 addresses.
Source: aws/amazon-vpc-cni-k8s, docs/eni-and-ip-target.md."""

INTERFACE_ADDRESSES = 9
"""Addresses for pods on a network interface, the fewest of all types in the price table (those that hold 29 pods have
three interfaces); each interface has one more for itself."""


@dataclass(frozen=True)
class Plan:
    """CIDRs by zone."""

    public: dict[str, str]
    private: dict[str, str]


def plan(cidr: str, zones: Sequence[str]) -> Plan:
    """The subnets of a VPC: a quarter of it for each zone's machines and pods, a sixteenth for its public subnet.

    The third zone's place is kept where there are two, so a zone added at the end moves no other. Raises ValueError
    with every problem, one a line.
    """
    problems = _problems(cidr, zones)
    if problems:
        raise ValueError("\n".join(problems))
    quarters = list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=2))
    sixteenths = list(quarters[MOST_ZONES].subnets(prefixlen_diff=2))
    return Plan(
        public={zone: str(sixteenths[index]) for index, zone in enumerate(zones)},
        private={zone: str(quarters[index]) for index, zone in enumerate(zones)},
    )


def addresses(cidr: str) -> int:
    """How many machines and pods a subnet has addresses for."""
    return ipaddress.IPv4Network(cidr).num_addresses - RESERVED_ADDRESSES


def taken(max_pods: int) -> int:
    """The most addresses that one machine takes of its subnet: for pods, for those to come, for its interfaces."""
    pods = max(max_pods + SPARE_ADDRESSES, FIRST_ADDRESSES)
    return pods + -(-pods // INTERFACE_ADDRESSES)


def _problems(cidr: str, zones: Sequence[str]) -> list[str]:
    found = []
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        found.append(f"cidr {cidr!r}: {error}; must be an IPv4 network such as 10.0.0.0/16")
    else:
        if not 16 <= network.prefixlen <= 24:
            found.append(f"cidr {cidr!r}: must be a /16 (the most that AWS allows) to a /24 (else too small)")
        if network.overlaps(ipaddress.IPv4Network(SERVICE_CIDR)):
            found.append(f"cidr {cidr!r}: overlaps {SERVICE_CIDR}, the addresses of the cluster's Services")
    if not 2 <= len(zones) <= MOST_ZONES:
        found.append(f"zones: {len(zones)} given, must be 2 or 3: EKS wants two, and the VPC is split for three")
    if len(set(zones)) < len(zones):
        found.append(f"zones: {', '.join(zones)} names a zone twice")
    return found
