"""What an environment costs in a month in which no job runs: the price of being there.

List prices of us-east-1, 2026-11-23, without traffic, requests, logs, snapshots and tax; a month has 730 hours. EC2
from the price table (instance_types); the rest from AWS's price pages for EKS, VPC, EBS, RDS and KMS, as repeated by
cloudburn.io and infratally.com in 2026. A price that is not in here is None, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.settings.model import AwsCloud, Hdfs, Services

HOURS = 730
CONTROL_PLANE_USD_PER_HOUR = 0.10
NAT_USD_PER_HOUR = 0.045
PUBLIC_IPV4_USD_PER_HOUR = 0.005
INTERFACE_ENDPOINT_USD_PER_HOUR = 0.01
GP3_USD_PER_GIB = 0.08
RDS_GP3_USD_PER_GIB = 0.115
KMS_KEY_USD = 1.0
RDS_USD_PER_HOUR = {"db.t4g.micro": 0.016, "db.t4g.small": 0.032, "db.t4g.medium": 0.065}
"""PostgreSQL, one zone; two zones cost twice as much."""

JOURNAL_AND_ZOOKEEPER_GIB = 10


@dataclass(frozen=True)
class Item:
    """One line of the table. usd: per month; None where the price book has no price."""

    what: str
    usd: float | None


def items(cloud: AwsCloud, services: Services, interface_endpoints: int) -> list[Item]:
    """The fixed cost by part. interface_endpoints: how many services have one, each in every zone."""
    zones = len(cloud.network.zones)
    gateways = 1 if cloud.network.nat == "one" else zones
    endpoints = interface_endpoints * zones if cloud.network.interface_endpoints else 0
    machine = max(each.on_demand_usd_per_hour for each in cloud.system.instance_types)
    volumes = cloud.system.minimum * cloud.system.root_volume_gib + _volumes_gib(services)
    return [
        Item("EKS control plane", CONTROL_PLANE_USD_PER_HOUR * HOURS),
        Item(f"system machines ({cloud.system.minimum})", cloud.system.minimum * machine * HOURS),
        Item(f"NAT gateways ({gateways})", gateways * (NAT_USD_PER_HOUR + PUBLIC_IPV4_USD_PER_HOUR) * HOURS),
        Item(f"interface endpoints ({endpoints})", endpoints * INTERFACE_ENDPOINT_USD_PER_HOUR * HOURS),
        Item("database", _database(cloud)),
        Item(f"volumes ({volumes} GiB)", volumes * GP3_USD_PER_GIB),
        Item("KMS key", KMS_KEY_USD),
    ]


def total(lines: Sequence[Item]) -> float | None:
    """The sum, or None where a part has no known price."""
    known = [line.usd for line in lines if line.usd is not None]
    return sum(known) if len(known) == len(lines) else None


def _database(cloud: AwsCloud) -> float | None:
    if cloud.database is None:
        return 0.0
    price = RDS_USD_PER_HOUR.get(cloud.database.instance_class)
    if price is None:
        return None
    copies = 2 if cloud.database.multi_zone else 1
    return copies * (price * HOURS + cloud.database.storage_gib * RDS_GP3_USD_PER_GIB)


def _volumes_gib(services: Services) -> int:
    hdfs = _hdfs_gib(services.hdfs) if services.hdfs else 0
    return hdfs + (services.monitoring.volume_gib if services.monitoring else 0)


def _hdfs_gib(hdfs: Hdfs) -> int:
    names = 2 if hdfs.high_availability else 1
    quorum = 2 * 3 * JOURNAL_AND_ZOOKEEPER_GIB if hdfs.high_availability else 0
    return hdfs.datanodes * hdfs.volume_gib + names * hdfs.namenode_volume_gib + quorum
