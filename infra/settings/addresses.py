"""Whether a VPC's range is one, and has an address for every machine and pod that may come to a zone. Pure.

With the VPC CNI a pod has an address of its machine's subnet. Nothing here reckons with prefix delegation, which takes
addresses in blocks of 16 and is off, nor with pods on the host's network, which take none: the figures are upper bounds
for what runs at once. (An address that a pod gave back rests for half a minute, and may be replaced by another.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from infra.aws import subnets
from infra.naming import SYSTEM_POOL
from infra.settings.model_aws import AwsPool, Network, SystemNodes

OTHERS = 32
"""Addresses of a private subnet for what is no machine: control plane, endpoints, database, load balancers."""

PRIVATE_RANGES = tuple(ipaddress.IPv4Network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


@dataclass(frozen=True)
class Demand:
    """A pool's machines in one zone, at most, and the pods that each may hold."""

    machines: int
    max_pods: int

    @property
    def addresses(self) -> int:
        """Of all its machines."""
        return self.machines * self.of_each

    @property
    def of_each(self) -> int:
        """Of one machine."""
        return subnets.taken(self.max_pods)


def mistake(cidr: str) -> str | None:
    """What is allowed instead, if the range is none that a VPC can have here."""
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        return f"an IPv4 range such as 10.0.0.0/16, with no bit set behind the prefix ({error})"
    if not any(network.subnet_of(each) for each in PRIVATE_RANGES):
        return f"a private range, in one of {', '.join(map(str, PRIVATE_RANGES))}"
    if not 16 <= network.prefixlen <= 24:
        return "a range from /24 (else its subnets are too small) to /16 (the most that AWS allows)"
    if network.overlaps(ipaddress.IPv4Network(subnets.SERVICE_CIDR)):
        return f"a range apart from {subnets.SERVICE_CIDR}, the addresses of the cluster's Services"
    return None


def shortages(network: Network, pools: Mapping[str, AwsPool], system: SystemNodes) -> dict[str, str]:
    """By zone, the arithmetic in words where the machines that may come to it need more than its private subnet has.

    EC2 chooses the zone of a group's machines, and may choose the same one for all. The range must be one (`mistake`).
    """
    found = {}
    for zone, subnet in subnets.plan(network.cidr, network.zones).private.items():
        demands = {SYSTEM_POOL: Demand(system.maximum, system.max_pods)}
        demands |= {name: Demand(in_zone(pool), pool.max_pods) for name, pool in pools.items() if zone in pool.zones}
        needed, there = sum(each.addresses for each in demands.values()), subnets.addresses(subnet)
        if needed > there - OTHERS:
            terms = " + ".join(
                f"{name} {each.machines} x {each.of_each} with {each.max_pods} pods" for name, each in demands.items()
            )
            found[zone] = (
                f"zone {zone} needs {needed} addresses for machines and pods ({terms}) and has {there - OTHERS} "
                f"(private subnet {subnet}: {there}, less {OTHERS} for what is no machine)"
            )
    return found


def in_zone(pool: AwsPool) -> int:
    """A pool's machines in one zone, at most: with a group for each zone they are shared out."""
    return -(-pool.maximum // len(pool.zones)) if pool.group_per_zone else pool.maximum
