"""Job pools on AWS, and what must fit together: market, AMI, quotas, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from infra.aws.allocatable import MIB, allocatable
from infra.aws.instance_types import InstanceType, table
from infra.naming import DNS_LABEL, SYSTEM_POOL
from infra.settings import addresses, patterns
from infra.settings.model_aws import AwsPool, Machines, Network, Quotas, SystemNodes
from infra.settings.strict import Table, near
from tidepool.capacity import Architecture

UNNEEDED_TIME = "20s"
"""How long a job machine idles. Of the autoscaler's own 10 minutes a ten-minute job would be billed twice its time;
less than two of its looks (10 s) would give a machine back between two tasks of a DAG."""


def read(body: Table, zones: tuple[str, ...], architectures: tuple[Architecture, ...]) -> dict[str, AwsPool]:
    """The pools by name. zones: of the network, for pools that name none. architectures: of container images."""
    if SYSTEM_POOL in body.names():
        body.problem(SYSTEM_POOL, SYSTEM_POOL, "another name: this is the system node group's, see tidepool:system")
    for name in body.names():
        if not re.fullmatch(DNS_LABEL, name):
            body.problem(name, name, f"a name of {patterns.LABEL_WORDS}")
    pools = {name: _pool(name, body.table(name), zones) for name in body.names()}
    for name, pool in pools.items():
        check_architecture(body, f"{name}.", pool.instance_types, architectures)
    if not pools and not body.missing:
        body.problem("", {}, "at least one pool; else no job has a machine")
    return pools


def instance_types(body: Table) -> tuple[InstanceType, ...]:
    """The known types of the key `instance_types`, which must be of one shape."""
    names = body.strings("instance_types", r"[a-z0-9.-]+", "an EC2 instance type such as m5.large")
    known = table()
    for index, name in enumerate(names):
        if name not in known:
            body.problem(f"instance_types[{index}]", name, f"a type of the price table{near(name, known)}")
    types = tuple(known[name] for name in names if name in known)
    if len({each.shape for each in types}) > 1:
        shapes = "; ".join(f"{each.name}: {each.shape}" for each in types)
        body.problem(
            "instance_types",
            list(names),
            f"of one shape, because the autoscaler takes the first for all, but there are {shapes}",
        )
    return types


def check_max_pods(body: Table, types: Iterable[InstanceType], max_pods: int) -> None:
    """Every pod that a machine may hold gets an address."""
    fewest = min(types, key=lambda each: each.pod_addresses, default=None)
    if fewest is not None and max_pods > fewest.pod_addresses and not body.wrong("max_pods"):
        body.problem(
            "max_pods",
            max_pods,
            f"{fewest.pod_addresses} at most: the VPC CNI has no more addresses on a {fewest.name}",
        )


def check_markets(body: Table, pools: Mapping[str, AwsPool], machines: Machines) -> None:
    """Spot pools have enough types to choose from, and an on-demand pool that the same pods fit."""
    unsure = any(body.wrong(f"{name}.{key}") for name in pools for key in ("market", "instance_types"))
    on_demand = [each for each in pools.values() if each.market == "on-demand"]
    for pool in pools.values():
        if pool.market != "spot" or any(body.wrong(f"{pool.name}.{key}") for key in ("market", "instance_types")):
            continue
        if len(pool.instance_types) < machines.minimum_spot_types:
            body.problem(
                f"{pool.name}.instance_types",
                [each.name for each in pool.instance_types],
                f"{machines.minimum_spot_types} types at least in a spot pool (machines.minimum_spot_types): EC2 "
                "reclaims a type at a time",
            )
        if not unsure and not any(_falls_back(pool, other) for other in on_demand):
            found = ", ".join(f"{each.name} ({each.instance_types[0].shape})" for each in on_demand) or "none"
            body.problem(
                f"{pool.name}.market",
                "spot",
                "backed by an on-demand pool that a job of this one fits when EC2 has no spot machine: "
                f"{pool.instance_types[0].shape}, with {_memory_bytes(pool) // MIB} MiB allocatable at least "
                f"(max_pods takes some); on-demand pools: {found}",
            )


def check_architecture(
    body: Table, path: str, types: tuple[InstanceType, ...], architectures: tuple[Architecture, ...]
) -> None:
    """The container images are built for the processor of the types, which stand at `path` + `instance_types`."""
    name = _kind(types[0]).split()[0] if types else ""
    if types and name not in architectures and not body.wrong(f"{path}instance_types"):
        body.problem(
            f"{path}instance_types",
            [each.name for each in types],
            f"of a processor that images are built for (images.architectures: {', '.join(architectures)}), "
            f"but these are {name}",
        )


def check_image(body: Table, pools: Mapping[str, AwsPool], machines: Machines, system: SystemNodes) -> None:
    """One AMI for all is of the right kind for all that have none of their own. body: of the key `machines`."""
    if not machines.image:
        return
    users: dict[str, SystemNodes | AwsPool] = {SYSTEM_POOL: system}
    users |= {name: pool for name, pool in pools.items() if not pool.image}
    kinds = {name: _kind(each.instance_types[0]) for name, each in users.items() if each.instance_types}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
        body.problem(
            "image",
            machines.image,
            "for machines of one kind; use ami_release, or give each pool of another kind an image of its own: "
            f"{listed}",
        )


def check_quotas(body: Table, pools: Mapping[str, AwsPool], system: SystemNodes, quotas: Quotas) -> None:
    """The account lets all pools grow to their maximum at once."""
    asked: dict[str, dict[str, int]] = {name: {} for name in vars(quotas)}
    if system.instance_types:
        asked["on_demand_vcpus"][SYSTEM_POOL] = system.maximum * system.instance_types[0].vcpu
    for name, pool in pools.items():
        # EC2 may give all machines of either type, so a pool of both counts whole for both.
        for family in {_quota_family(each) for each in pool.instance_types}:
            asked[f"{family}{pool.market.replace('-', '_')}_vcpus"][name] = pool.maximum * pool.instance_types[0].vcpu
    for quota, vcpus in asked.items():
        allowed, needed = getattr(quotas, quota), sum(vcpus.values())
        if needed > allowed and not body.wrong(quota):
            terms = " + ".join(f"{name} {count}" for name, count in vcpus.items())
            body.problem(
                quota,
                allowed,
                f"{needed} at least, the vCPUs of all machines at most ({terms}): lower max, or have AWS raise the "
                "quota (Service Quotas, EC2) and write down the new one",
            )


def check_addresses(body: Table, pools: Mapping[str, AwsPool], system: SystemNodes, network: Network) -> None:
    """Each zone's private subnet has an address for every machine and pod that may come to it."""
    if body.wrong("cidr") or body.wrong("zones"):
        return
    for shortage in addresses.shortages(network, pools, system).values():
        body.problem("cidr", network.cidr, f"larger, or max and max_pods of the pools lower: {shortage}")


def _pool(name: str, body: Table, zones: tuple[str, ...]) -> AwsPool:
    market: Any = body.choice("market", ("spot", "on-demand"))
    pool = AwsPool(
        name=name,
        instance_types=instance_types(body),
        market=market,
        minimum=body.integer("min", 0, 1000, default=0),
        maximum=body.integer("max", 1, 1000),
        priority=body.integer("priority", 1, 1000, default=10),
        max_pods=body.integer("max_pods", 4, 250, default=20),
        unneeded_time=body.string("unneeded_time", patterns.DURATION, patterns.DURATION_WORDS, default=UNNEEDED_TIME),
        zones=body.strings(
            "zones", "|".join(zones) or ".+", f"one of network.zones: {', '.join(zones)}", default=zones
        ),
        group_per_zone=body.boolean("group_per_zone", default=False),
        root_volume_gib=body.integer("root_volume_gib", 20, 16384, default=80),
        nvme=body.boolean("nvme", default=False),
        image=body.string("image", patterns.AMI, patterns.AMI_WORDS, default=""),
        warm=body.integer("warm", 0, 1000, default=0),
        capacity_rebalance=body.boolean("capacity_rebalance", default=False),
    )
    body.done()
    _check(body, pool)
    return pool


def _check(body: Table, pool: AwsPool) -> None:
    """What must fit together within one pool."""
    if pool.maximum < pool.minimum and not body.wrong("max"):
        body.problem("max", pool.maximum, f"at least min, which is {pool.minimum}")
    check_max_pods(body, pool.instance_types, pool.max_pods)
    if pool.group_per_zone and pool.maximum < len(pool.zones) and not body.wrong("max"):
        body.problem("max", pool.maximum, f"{len(pool.zones)} at least with group_per_zone, one for each zone's group")
    if pool.nvme and (without := [each.name for each in pool.instance_types if not each.nvme_bytes]):
        body.problem("nvme", True, f"false: {', '.join(without)} has no instance store; m5d, r5d, i4i, g5 and g6 have")
    if pool.capacity_rebalance and pool.market != "spot":
        body.problem("capacity_rebalance", True, "false: EC2 sends rebalance recommendations to spot machines only")
    if pool.warm > pool.maximum:
        body.problem("warm", pool.warm, f"at most max, which is {pool.maximum}")
    if pool.warm and pool.market == "spot":
        body.problem("warm", pool.warm, "0 in a spot pool: EC2 has no warm pools of spot machines")
    elif pool.warm and len(pool.instance_types) > 1:
        body.problem(
            "warm",
            pool.warm,
            "0 with several instance types: EC2 has no warm pools in groups with a mixed instances policy; "
            "leave a single type",
        )


def _kind(machine: InstanceType) -> str:
    """What AMIs differ by: the processor, as images call it, and whether NVIDIA's driver is needed."""
    return f"{'arm64' if machine.architecture == 'arm64' else 'amd64'}{' with GPU' if machine.gpus else ''}"


def _quota_family(machine: InstanceType) -> str:
    """What the names of a type's quotas begin with: EC2 counts P types and G types each by themselves."""
    if not machine.gpus:
        return ""
    return "p_" if machine.name.startswith("p") else "gpu_"


def _falls_back(pool: AwsPool, other: AwsPool) -> bool:
    """Whether a pod sized for one machine of `pool`, alone there, fits one of `other`, and is alone there too."""
    mine, its = pool.instance_types[0], other.instance_types[0]
    same = (mine.vcpu, mine.gpus, mine.architecture) == (its.vcpu, its.gpus, its.architecture)
    return same and _memory_bytes(other) >= _memory_bytes(pool)


def _memory_bytes(pool: AwsPool) -> int:
    sizes = [allocatable(each, pool.max_pods, pool.root_volume_gib, pool.nvme) for each in pool.instance_types]
    return min(each.memory_bytes for each in sizes)
