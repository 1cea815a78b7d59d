"""The keys of `cluster.kind: eks`: everything that the AWS folder makes."""

from __future__ import annotations

import ipaddress
from typing import Any

from infra import versions
from infra.settings import addresses, patterns, pools
from infra.settings.model_aws import (
    AwsCloud,
    Budget,
    EksCluster,
    Machines,
    Network,
    Quotas,
    RdsDatabase,
    Storage,
    SystemNodes,
)
from infra.settings.strict import Table
from tidepool.capacity import Architecture

RETENTION_DAYS = (
    1,
    3,
    5,
    7,
    14,
    30,
    60,
    90,
    120,
    150,
    180,
    365,
    400,
    545,
    731,
    1096,
    1827,
    2192,
    2557,
    2922,
    3288,
    3653,
)
"""The retentions that CloudWatch Logs knows (PutRetentionPolicy)."""

KUBERNETES = ".".join(versions.KUBERNETES.split(".")[:2])


def read(top: Table, architectures: tuple[Architecture, ...]) -> AwsCloud:
    """The cloud of a stack file's top table. architectures: what container images are built for."""
    region = top.string("aws:region", patterns.REGION, patterns.REGION_WORDS)
    cluster = _cluster(top.table("tidepool:cluster"))
    network_body = top.table("tidepool:network")
    network = _network(network_body, region)
    system = _system(top.table("tidepool:system"), architectures)
    machines_body = top.table("tidepool:machines")
    machines = _machines(machines_body)
    pools_body = top.table("tidepool:pools")
    read_pools = pools.read(pools_body, network.zones, architectures)
    quotas_body = top.table("tidepool:quotas")
    quotas = _quotas(quotas_body)
    pools.check_markets(pools_body, read_pools, machines)
    pools.check_image(machines_body, read_pools, machines, system)
    pools.check_quotas(quotas_body, read_pools, system, quotas)
    pools.check_addresses(network_body, read_pools, system, network)
    return AwsCloud(
        region=region,
        protect=top.boolean("tidepool:protect", default=True),
        cluster=cluster,
        network=network,
        system=system,
        machines=machines,
        pools=read_pools,
        storage=_storage(top.optional("tidepool:storage")),
        database=_database(top.optional("tidepool:database")),
        budget=_budget(top.optional("tidepool:budget")),
        quotas=quotas,
    )


def retention(body: Table, key: str, default: int) -> int:
    """Days that CloudWatch keeps logs."""
    days = body.integer(key, RETENTION_DAYS[0], RETENTION_DAYS[-1], default=default)
    if days not in RETENTION_DAYS:
        body.problem(key, days, f"a retention that CloudWatch has: {', '.join(map(str, RETENTION_DAYS))}")
    return days


def _cluster(body: Table) -> EksCluster:
    body.choice("kind", ("eks",))
    words = f"{KUBERNETES} in quotes, the minor version that infra/versions.py has add-ons and an autoscaler for"
    cluster = EksCluster(
        name=body.string("name", patterns.CLUSTER, patterns.CLUSTER_WORDS),
        version=body.string("version", KUBERNETES.replace(".", r"\."), words),
        public_access_cidrs=body.strings("public_access_cidrs", ".+", "an IPv4 range", default=()),
        admins=body.strings("admins", patterns.ROLE_ARN, patterns.ROLE_ARN_WORDS),
        viewers=body.strings("viewers", patterns.ROLE_ARN, patterns.ROLE_ARN_WORDS, default=()),
        log_days=retention(body, "log_days", default=90),
    )
    for index, cidr in enumerate(cluster.public_access_cidrs):
        if wrong := _public_mistake(cidr):
            body.problem(f"public_access_cidrs[{index}]", cidr, wrong)
    for index, arn in enumerate(cluster.viewers):
        if arn in cluster.admins:
            body.problem(
                f"viewers[{index}]", arn, "a role that is not among admins; EKS knows one access entry for each"
            )
    body.done()
    return cluster


def _public_mistake(cidr: str) -> str | None:
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        return f"an IPv4 range such as 203.0.113.7/32, with no bit set behind the prefix ({error})"
    if any(network.subnet_of(each) for each in addresses.PRIVATE_RANGES):
        return "a public range; whoever is in the VPC reaches the private endpoint"
    if network.prefixlen < 8:
        return "the range of an office or a CI system, /8 or narrower; not the whole internet"
    return None


def _network(body: Table, region: str) -> Network:
    nat: Any = body.choice("nat", ("one", "per-zone"), default="one")
    words = f"a zone of the region such as {region or 'us-east-1'}a"
    network = Network(
        cidr=body.string("cidr"),
        zones=body.strings("zones", rf"{region or '[a-z0-9-]+'}[a-z]", words, most=3),
        nat=nat,
        interface_endpoints=body.boolean("interface_endpoints", default=False),
        flow_log_days=retention(body, "flow_log_days", default=14),
    )
    if len(network.zones) == 1 and not body.wrong("zones"):
        body.problem("zones", list(network.zones), "two or three zones; EKS takes no fewer than two")
    if network.cidr and (wrong := addresses.mistake(network.cidr)):
        body.problem("cidr", network.cidr, wrong)
    body.done()
    return network


def _system(body: Table, architectures: tuple[Architecture, ...]) -> SystemNodes:
    system = SystemNodes(
        instance_types=pools.instance_types(body),
        minimum=body.integer("min", 1, 100),
        maximum=body.integer("max", 1, 100),
        max_pods=body.integer("max_pods", 10, 250, default=29),
        root_volume_gib=body.integer("root_volume_gib", 20, 16384, default=80),
    )
    pools.check_architecture(body, "", system.instance_types, architectures)
    pools.check_max_pods(body, system.instance_types, system.max_pods)
    if system.maximum < system.minimum and not body.wrong("max"):
        body.problem("max", system.maximum, f"at least min, which is {system.minimum}")
    if any(each.gpus for each in system.instance_types):
        body.problem(
            "instance_types", [each.name for each in system.instance_types], "types without GPUs; no service uses them"
        )
    body.done()
    return system


def _machines(body: Table) -> Machines:
    machines = Machines(
        ami_release=body.string(
            "ami_release", r"v20\d{6}", "a release of the EKS-optimised AMI such as v20261101", default=""
        ),
        image=body.string("image", patterns.AMI, patterns.AMI_WORDS, default=""),
        minimum_spot_types=body.integer("minimum_spot_types", 1, 20, default=3),
    )
    given = bool(machines.ami_release) + bool(machines.image)
    if given != 1 and not body.wrong("ami_release") and not body.wrong("image"):
        body.problem("", {"ami_release": machines.ami_release, "image": machines.image}, "one of ami_release and image")
    body.done()
    return machines


def _storage(body: Table | None) -> Storage:
    body = body or Table({}, "", [])
    storage = Storage(
        log_days=body.integer("log_days", 1, 3650, default=365),
        event_log_days=body.integer("event_log_days", 1, 3650, default=30),
        lake_version_days=body.integer("lake_version_days", 1, 3650, default=30),
    )
    body.done()
    return storage


def _database(body: Table | None) -> RdsDatabase | None:
    if body is None:
        return None
    database = RdsDatabase(
        instance_class=body.string(
            "instance_class", r"db\.[a-z0-9-]+\.[a-z0-9]+", "an RDS instance class such as db.t4g.medium"
        ),
        storage_gib=body.integer("storage_gib", 20, 65536, default=20),
        backup_days=body.integer("backup_days", 1, 35, default=7),
        multi_zone=body.boolean("multi_zone", default=False),
    )
    body.done()
    return database


def _budget(body: Table | None) -> Budget | None:
    if body is None:
        return None
    budget = Budget(
        monthly_usd=body.integer("monthly_usd", 1, 10_000_000),
        emails=body.strings("emails", patterns.EMAIL, patterns.EMAIL_WORDS, most=10),  # of one notification
    )
    body.done()
    return budget


def _quotas(body: Table) -> Quotas:
    quotas = Quotas(
        spot_vcpus=body.integer("spot_vcpus", 0, 1_000_000),
        on_demand_vcpus=body.integer("on_demand_vcpus", 0, 1_000_000),
        gpu_spot_vcpus=body.integer("gpu_spot_vcpus", 0, 1_000_000, default=0),
        gpu_on_demand_vcpus=body.integer("gpu_on_demand_vcpus", 0, 1_000_000, default=0),
        p_spot_vcpus=body.integer("p_spot_vcpus", 0, 1_000_000, default=0),
        p_on_demand_vcpus=body.integer("p_on_demand_vcpus", 0, 1_000_000, default=0),
    )
    body.done()
    return quotas
