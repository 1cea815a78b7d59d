"""Newer prices from AWS: the Pricing API's list prices and EC2's spot price history. Clients are handed in.

What the two APIs answer is read by pure functions; `refresh` only asks and puts both together. Linux, shared tenancy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from tidepool.prices.book import Price

SPOT_PRODUCTS = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")
SHARED_LINUX = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
"""The attributes that leave one list price of an instance type in a region."""


class Client(Protocol):
    """What is used of a boto3 client, of `pricing` and of `ec2`."""

    def get_paginator(self, operation: str, /) -> Any: ...


def refresh(pricing: Client, ec2: Client, region: str, instance_types: Sequence[str], since: float) -> list[Price]:
    """Today's list prices of these types in a region, and their spot prices from `since` (Unix seconds) on.

    `pricing` is a client of us-east-1 or another region that has the Pricing API, `ec2` one of `region`. A type that
    AWS does not know of has no price in the result. Raises what the clients raise.
    """
    return list_prices(pricing, region, instance_types) + spot_prices(ec2, region, instance_types, since)


def list_prices(pricing: Client, region: str, instance_types: Sequence[str]) -> list[Price]:
    """On-demand prices, as `refresh`."""
    found: list[Price] = []
    for instance_type in instance_types:
        wanted = {**SHARED_LINUX, "regionCode": region, "instanceType": instance_type}
        filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
        pages = pricing.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
        found += on_demand(product for page in pages for product in page["PriceList"])
    return found


def spot_prices(ec2: Client, region: str, instance_types: Sequence[str], since: float) -> list[Price]:
    """Spot prices, as `refresh`."""
    history = ec2.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=list(instance_types),
        ProductDescriptions=list(SPOT_PRODUCTS),
        StartTime=datetime.fromtimestamp(since, UTC),
    )
    return list(spot(region, (entry for page in history for entry in page["SpotPriceHistory"])))


def on_demand(products: Iterable[str | Mapping[str, Any]]) -> Iterator[Price]:
    """The prices in products of the Pricing API, JSON text or what it says; products of other kinds are left out."""
    for product in products:
        said = json.loads(product) if isinstance(product, str) else product
        attributes = said.get("product", {}).get("attributes", {})
        if any(attributes.get(field) != value for field, value in SHARED_LINUX.items()):
            continue
        for term in said.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                usd = float(dimension["pricePerUnit"].get("USD", 0))
                if dimension["unit"] == "Hrs" and usd > 0:
                    yield Price(
                        region=attributes["regionCode"],
                        instance_type=attributes["instanceType"],
                        market="on-demand",
                        usd_per_hour=usd,
                        since=datetime.fromisoformat(term["effectiveDate"]).timestamp(),
                        source="AWS Pricing API",
                    )


def spot(region: str, history: Iterable[Mapping[str, Any]]) -> Iterator[Price]:
    """The prices in entries of DescribeSpotPriceHistory; entries of other operating systems are left out."""
    for entry in history:
        if entry["ProductDescription"] in SPOT_PRODUCTS:
            yield Price(
                region=region,
                zone=entry["AvailabilityZone"],
                instance_type=entry["InstanceType"],
                market="spot",
                usd_per_hour=float(entry["SpotPrice"]),
                since=entry["Timestamp"].timestamp(),
                source="EC2 spot price history",
            )
