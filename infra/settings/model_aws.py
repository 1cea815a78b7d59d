"""What an environment is on AWS: everything that the AWS folder makes, as typed data.

Sizes are in the unit of their name; durations of the autoscaler stay text such as `10m`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infra.aws.instance_types import InstanceType
from tidepool.capacity import Architecture, Market


@dataclass(frozen=True)
class Network:
    """The VPC. cidr: its range, split over the zones; nat: one gateway in all or one per zone."""

    cidr: str
    zones: tuple[str, ...]
    nat: Literal["one", "per-zone"]
    interface_endpoints: bool
    flow_log_days: int


@dataclass(frozen=True)
class EksCluster:
    """The EKS cluster. version: Kubernetes' minor, `1.36`; admins and viewers: ARNs of IAM roles.

    public_access_cidrs: who may reach the API server from outside the VPC; empty: nobody.
    """

    name: str
    version: str
    public_access_cidrs: tuple[str, ...]
    admins: tuple[str, ...]
    viewers: tuple[str, ...]
    log_days: int


@dataclass(frozen=True)
class SystemNodes:
    """The managed on-demand node group for what must not be interrupted. Its pool's name is `system`."""

    instance_types: tuple[InstanceType, ...]
    minimum: int
    maximum: int
    max_pods: int
    root_volume_gib: int

    @property
    def architecture(self) -> Architecture:
        """The processor that services' images must be built for."""
        return _architecture(self.instance_types)


@dataclass(frozen=True)
class Machines:
    """What job pools share. ami_release: of the EKS-optimised AL2023 AMI, `v20261101`; empty with an AMI id in `image`.

    image: AMI id for pools that name none of their own; empty: looked up by release.
    minimum_spot_types: fewest instance types that a spot pool must have.
    """

    ami_release: str
    image: str
    minimum_spot_types: int


@dataclass(frozen=True)
class AwsPool:
    """Equal machines behind one Auto Scaling Group, or one for each zone. unneeded_time: idle time before scale-down.

    image: AMI id, empty for the one of `machines`; nvme: instance store as one RAID0 for pods and images;
    warm: stopped machines kept ready (on-demand with a single type only).
    """

    name: str
    instance_types: tuple[InstanceType, ...]
    market: Market
    minimum: int
    maximum: int
    priority: int
    max_pods: int
    unneeded_time: str
    zones: tuple[str, ...]
    group_per_zone: bool
    root_volume_gib: int
    nvme: bool
    image: str
    warm: int
    capacity_rebalance: bool

    @property
    def gpus(self) -> int:
        """GPUs of one machine."""
        return self.instance_types[0].gpus

    @property
    def architecture(self) -> Architecture:
        """The processor that images must be built for."""
        return _architecture(self.instance_types)


@dataclass(frozen=True)
class Storage:
    """Buckets for logs, Spark event logs and the lake: days until objects (lake: old versions) expire."""

    log_days: int
    event_log_days: int
    lake_version_days: int


@dataclass(frozen=True)
class RdsDatabase:
    """PostgreSQL on RDS for Airflow and the ledger."""

    instance_class: str
    storage_gib: int
    backup_days: int
    multi_zone: bool


@dataclass(frozen=True)
class Budget:
    """AWS Budgets: a monthly limit in USD, and who gets a mail at 80 % of it and when it is forecast to be passed."""

    monthly_usd: int
    emails: tuple[str, ...]


@dataclass(frozen=True)
class Quotas:
    """The account's EC2 vCPU quotas (Service Quotas) that pools must stay within. gpu: G and VT types; p: P types."""

    spot_vcpus: int
    on_demand_vcpus: int
    gpu_spot_vcpus: int
    gpu_on_demand_vcpus: int
    p_spot_vcpus: int
    p_on_demand_vcpus: int


@dataclass(frozen=True)
class AwsCloud:
    """`cluster.kind: eks`: everything that the AWS folder makes. protect: nothing that holds data can be destroyed."""

    region: str
    protect: bool
    cluster: EksCluster
    network: Network
    system: SystemNodes
    machines: Machines
    pools: dict[str, AwsPool]
    storage: Storage
    database: RdsDatabase | None
    budget: Budget | None
    quotas: Quotas


def _architecture(types: tuple[InstanceType, ...]) -> Architecture:
    """A group's machines have all the same."""
    return "arm64" if types[0].architecture == "arm64" else "amd64"
