"""What an environment costs in a month in which no job runs: the price of being there. Pure.

List prices of us-east-1, 2026-11-23, without traffic, requests, logs, objects in buckets, snapshots and tax; a month
has 730 hours. EC2 from the price table (instance_types); the rest from AWS's price pages for EKS, VPC, EBS, RDS, KMS
and Secrets Manager, as repeated by cloudburn.io, infratally.com and hivebook.wiki in 2026. A price that is not in here
is None, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.aws import endpoints
from infra.settings.model_aws import AwsCloud, RdsDatabase

HOURS = 730
CONTROL_PLANE_USD_PER_HOUR = 0.10
NAT_USD_PER_HOUR = 0.045
PUBLIC_IPV4_USD_PER_HOUR = 0.005
INTERFACE_ENDPOINT_USD_PER_HOUR = 0.01
GP3_USD_PER_GIB = 0.08
RDS_GP3_USD_PER_GIB = 0.115
KMS_KEY_USD = 1.0
SECRET_USD = 0.40
RDS_USD_PER_HOUR = {"db.t4g.micro": 0.016, "db.t4g.small": 0.032, "db.t4g.medium": 0.065}
"""PostgreSQL, one zone; two zones cost twice as much."""


@dataclass(frozen=True)
class Item:
    """One line. count: of what there is; usd: per month, None where the price book has no price."""

    what: str
    count: str
    usd: float | None


def items(cloud: AwsCloud, volumes_gib: int) -> list[Item]:
    """The fixed cost by part. volumes_gib: what the services claim together, each replica of a server for itself.

    System machines at their `min`, of the dearest type, with their volumes; so are the machines that pools keep.
    """
    zones = len(cloud.network.zones)
    gateways = 1 if cloud.network.nat == "one" else zones
    interfaces = len(endpoints.INTERFACE_SERVICES) * zones if cloud.network.interface_endpoints else 0
    system = max(cloud.system.instance_types, key=lambda each: each.on_demand_usd_per_hour)
    pools = cloud.pools.values()
    kept = sum(pool.minimum * max(each.price(pool.market) for each in pool.instance_types) for pool in pools)
    roots_gib = cloud.system.minimum * cloud.system.root_volume_gib
    roots_gib += sum((pool.minimum + pool.warm) * pool.root_volume_gib for pool in pools)
    gib = roots_gib + volumes_gib
    secrets = 0 if cloud.database is None else 1
    return [
        Item("EKS control plane", "1", CONTROL_PLANE_USD_PER_HOUR * HOURS),
        Item(
            "system machines",
            f"{cloud.system.minimum} {system.name}",
            cloud.system.minimum * system.on_demand_usd_per_hour * HOURS,
        ),
        Item("job machines kept", str(sum(pool.minimum for pool in pools)), kept * HOURS),
        Item(
            "NAT gateways, each with an address",
            str(gateways),
            gateways * (NAT_USD_PER_HOUR + PUBLIC_IPV4_USD_PER_HOUR) * HOURS,
        ),
        Item("interface endpoints, by zone", str(interfaces), interfaces * INTERFACE_ENDPOINT_USD_PER_HOUR * HOURS),
        _database(cloud.database),
        Item("volumes", f"{gib:,} GiB", gib * GP3_USD_PER_GIB),
        Item("KMS key", "1", KMS_KEY_USD),
        Item("secret in Secrets Manager", str(secrets), secrets * SECRET_USD),
    ]


def total(lines: Sequence[Item]) -> float | None:
    """The sum, or None where a part has no known price."""
    known = [line.usd for line in lines if line.usd is not None]
    return sum(known) if len(known) == len(lines) else None


def _database(database: RdsDatabase | None) -> Item:
    if database is None:
        return Item("PostgreSQL", "0", 0.0)
    copies = 2 if database.multi_zone else 1
    price = RDS_USD_PER_HOUR.get(database.instance_class)
    usd = None if price is None else copies * (price * HOURS + database.storage_gib * RDS_GP3_USD_PER_GIB)
    return Item("PostgreSQL", f"{copies} {database.instance_class}, {database.storage_gib} GiB", usd)
