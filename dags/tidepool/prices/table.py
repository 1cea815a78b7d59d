"""The bundled table `ec2-us-east-1.csv`: shapes and prices of EC2 instance types, the one copy that all code reads.

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
from pathlib import Path

from tidepool.prices.book import Price, PriceBook

REGION = "us-east-1"


def rows() -> list[dict[str, str]]:
    """The table as it is: a row an instance type, figures as text."""
    with Path(__file__).with_name(f"ec2-{REGION}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def prices() -> list[Price]:
    """The table's prices. Each has one date and is taken for all time, until a newer price is known."""
    found = []
    for row in rows():
        for market, column, date in (
            ("on-demand", "on_demand_usd_per_hour", "price_date"),
            ("spot", "spot_usd_per_hour", "spot_price_date"),
        ):
            if row[column]:
                price = float(row[column])
                found.append(Price(REGION, row["instance_type"], market, price, source=f"bundled {row[date]}"))
    return found


@functools.cache
def bundled() -> PriceBook:
    """The bundled prices as a book."""
    return PriceBook(prices())
