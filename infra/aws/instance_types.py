"""EC2 instance types: shape and price, from the one table that the program, the ledger and the reports read.

tidepool.prices.table says where its figures are from, and what is mixed in them.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal

from tidepool.prices.table import rows

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
    return {row["instance_type"]: _read(row) for row in rows()}


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
