"""EC2 instance types: shape and price, from the table `ec2-us-east-1.csv` beside this module.

The table holds us-east-1, Linux, shared tenancy: 185 types of 27 families, gathered 2026-11-22. Its columns:

- vcpu, memory_gib, gpu_count, gpu_model, local_nvme_gib: moto 5.2.5's instance types; p3 from Karpenter's
  documentation. NVMe in GiB, 0 = EBS only.
- on_demand_usd_per_hour, price_date: list price (2026-07-20), from Karpenter's generated price table.
- spot_usd_per_hour, spot_price_date: AWS's public spot feed, one figure per region and type (August 2026), as kept by
  alexei-led/spotinfo.
- spot_interruption_bucket, spot_savings_pct, advisor_date: AWS Spot Advisor (2025-06-28), from the same place. A
  bucket is the share of instances interrupted in the trailing month, a range and no hourly hazard.
- pod_addresses: pods that the VPC CNI has addresses for without prefix delegation, AWS's own formula
  (interfaces x (addresses of each - 1) + 2) on moto's figures; p3 from awslabs/amazon-eks-ami's eni-max-pods.txt.

Three dates are mixed, and a few spot figures are oddly high, as published. No EBS, transfer, control plane or tax.
"""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GIB = 1024**3

Architecture = Literal["x86_64", "arm64"]


@dataclass(frozen=True)
class InstanceType:
    """What EC2 sells: memory in bytes as EC2 states it (the kernel sees less), prices in USD per hour in us-east-1.

    pod_addresses: most pods that can run on one, for want of addresses.
    """

    name: str
    vcpu: int
    memory_bytes: int
    gpus: int
    gpu_model: str
    nvme_bytes: int
    architecture: Architecture
    on_demand_usd_per_hour: float
    spot_usd_per_hour: float
    pod_addresses: int

    def price(self, market: str) -> float:
        """USD per hour in a market, `spot` or `on-demand`."""
        return self.spot_usd_per_hour if market == "spot" else self.on_demand_usd_per_hour

    @property
    def shape(self) -> str:
        """What must be equal in one pool, for people and for comparison."""
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        return f"{self.vcpu} vCPU, {self.memory_bytes / GIB:g} GiB{gpus}, {self.architecture}"


@functools.cache
def table() -> dict[str, InstanceType]:
    """All known types by name."""
    with Path(__file__).with_name("ec2-us-east-1.csv").open(encoding="utf-8", newline="") as file:
        return {row["instance_type"]: _read(row) for row in csv.DictReader(file)}


def architecture(name: str) -> Architecture:
    """The processor behind a type's name: Graviton carries a g after the generation (m7g.large), except a1."""
    family = name.split(".")[0]
    return "arm64" if family == "a1" or re.match(r"[a-z-]+\d+[a-z-]*g", family) else "x86_64"


def _read(row: dict[str, str]) -> InstanceType:
    return InstanceType(
        name=row["instance_type"],
        vcpu=int(row["vcpu"]),
        memory_bytes=int(float(row["memory_gib"]) * GIB),
        gpus=int(row["gpu_count"]),
        gpu_model=row["gpu_model"],
        nvme_bytes=int(float(row["local_nvme_gib"]) * GIB),
        architecture=architecture(row["instance_type"]),
        on_demand_usd_per_hour=float(row["on_demand_usd_per_hour"]),
        spot_usd_per_hour=float(row["spot_usd_per_hour"]),
        pod_addresses=int(row["pod_addresses"]),
    )
