import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tidepool.prices import aws, book, table
from tidepool.prices.book import Price, PriceBook, PriceError, region

ZONE = "eu-west-1b"


def price(usd: float, since: float = 0, zone: str = "", market: str = "spot") -> Price:
    return Price("eu-west-1", "m5.large", market, usd, zone, since, "test")


def test_a_price_that_is_not_in_the_book_is_none() -> None:
    known = PriceBook([price(0.04, since=100)])
    assert known.at("m5.large", "spot", ZONE, 99) is None
    assert known.at("m5.large", "spot", ZONE, 100) == 0.04
    assert known.at("m5.large", "on-demand", ZONE, 100) is None
    assert known.at("m5.large", "spot", "us-east-1a", 100) is None
    assert known.at("m5.large", "spot", "", 100) is None


def test_a_zones_own_price_comes_before_what_events_state_and_that_before_the_regions() -> None:
    known = PriceBook([price(0.04), price(0.05, 100, ZONE)])
    both = known.series("m5.large", "spot", ZONE, 50, 200, stated=0.03)
    assert both == [(50, 0.03), (100, 0.05)]
    assert known.series("m5.large", "spot", ZONE, 150, 200, stated=0.03) == [(150, 0.05)]
    assert known.series("m5.large", "spot", "eu-west-1a", 50, 200, stated=0.03) == [(50, 0.03)]
    assert known.series("m5.large", "spot", ZONE, 50, 200) == [(50, 0.04), (100, 0.05)]


def test_prices_that_change_count_from_their_time_on() -> None:
    known = PriceBook([price(0.06, 30, ZONE), price(0.04, 10, ZONE), price(0.05, 20, ZONE)])
    assert known.series("m5.large", "spot", ZONE, 15, 30) == [(15, 0.04), (20, 0.05)]
    assert known.series("m5.large", "spot", ZONE, 5, 12) == [(5, None), (10, 0.04)]


def test_newer_prices_win_where_both_have_one_and_merging_twice_changes_nothing() -> None:
    old = PriceBook([price(0.04), price(0.05, 100, ZONE)])
    newer = [price(0.06, 100, ZONE), price(0.07, 200, ZONE)]
    merged = old.merged(newer)
    assert [merged.at("m5.large", "spot", ZONE, each) for each in (50, 100, 200)] == [0.04, 0.06, 0.07]
    assert merged.merged(newer).prices() == merged.prices()
    assert old.at("m5.large", "spot", ZONE, 100) == 0.05


@pytest.mark.parametrize("usd", [0.0, -1.0, float("nan"), float("inf")])
def test_nothing_costs_nothing(usd: float) -> None:
    with pytest.raises(PriceError, match="above 0"):
        price(usd)


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("us-east-1a", "us-east-1"),
        ("us-east-1", "us-east-1"),
        ("us-gov-west-1b", "us-gov-west-1"),
        ("us-west-2-lax-1a", "us-west-2"),
        ("", ""),
        ("my machine room", ""),
    ],
)
def test_the_region_of_a_zone(zone: str, expected: str) -> None:
    assert region(zone) == expected


def test_a_price_list_reads_back_as_it_was_written_whatever_is_in_its_names() -> None:
    odd = Price("eu-west-1", 'm5,"large"\nx', "spot", 0.1 + 0.2, ZONE, 1234.5, "=1+1")
    assert book.loads(book.dumps([odd, price(0.04)])) == [odd, price(0.04)]


def test_every_problem_of_a_price_list_is_said_at_once_with_its_line() -> None:
    text = book.dumps([price(0.04)]) + "eu-west-1,,m5.large,spot,,free,\neu-west-1,,m5.large,future,,0.1,\n"
    with pytest.raises(PriceError, match=r"prices.csv, line 3: .*free.*\nprices.csv, line 4: market must be one of"):
        book.loads(text, "prices.csv")
    with pytest.raises(PriceError, match="no column region, zone"):
        book.loads("a,b\n1,2\n", "prices.csv")


def test_the_bundled_table_has_both_prices_of_every_type_and_says_of_when_they_are() -> None:
    known = table.prices()
    assert len(known) == 2 * len(table.rows()) == 370
    assert {each.source for each in known if each.market == "on-demand"} == {"bundled 2026-07-20"}
    assert table.bundled().at("m5.large", "on-demand", "us-east-1a", 0) == 0.096


def product(instance_type: str, usd: str, **attributes: str) -> dict[str, Any]:
    """As the Pricing API's documentation has it."""
    said = {**aws.SHARED_LINUX, "regionCode": "eu-west-1", "instanceType": instance_type, **attributes}
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": usd}}
    term = {"effectiveDate": "2026-11-01T00:00:00Z", "priceDimensions": {"A.B.C": dimension}}
    return {"product": {"attributes": said}, "terms": {"OnDemand": {"A.B": term}, "Reserved": {}}}


class Pages:
    """A client that answers from lists, and keeps what it was asked."""

    def __init__(self, pages: list[dict[str, Any]]) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def get_paginator(self, operation: str) -> "Pages":
        self.asked.append({"operation": operation})
        return self

    def paginate(self, **question: Any) -> list[dict[str, Any]]:
        self.asked[-1] |= question
        return self.pages


def test_refreshed_prices_are_list_prices_and_each_zones_spot_prices() -> None:
    listed = [
        product("m5.large", "0.1070000000"),
        product("m5.large", "0.2", operatingSystem="Windows"),
        product("m5.large", "0.0000000000"),
    ]
    pricing = Pages([{"PriceList": [json.dumps(each) for each in listed]}, {"PriceList": []}])
    entry = {
        "AvailabilityZone": ZONE,
        "InstanceType": "m5.large",
        "ProductDescription": "Linux/UNIX",
        "SpotPrice": "0.0412",
        "Timestamp": datetime(2026, 11, 2, tzinfo=UTC),
    }
    ec2 = Pages([{"SpotPriceHistory": [entry]}, {"SpotPriceHistory": [{**entry, "ProductDescription": "Windows"}]}])
    found = aws.refresh(pricing, ec2, "eu-west-1", ["m5.large"], since=0)
    assert [(each.market, each.usd_per_hour, each.zone) for each in found] == [
        ("on-demand", 0.107, ""),
        ("spot", 0.0412, ZONE),
    ]
    known = table.bundled().merged(found)
    assert known.at("m5.large", "on-demand", ZONE, datetime(2026, 11, 3, tzinfo=UTC).timestamp()) == 0.107
    assert ec2.asked[0]["InstanceTypes"] == ["m5.large"]
    assert {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "eu-west-1"} in pricing.asked[0]["Filters"]


def test_ec2s_own_client_takes_the_question_and_its_answer_is_read() -> None:
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    with moto.mock_aws():
        ec2 = boto3.client("ec2", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        found = aws.refresh(Pages([{"PriceList": []}]), ec2, "us-east-1", ["m5.large"], since=0)
    assert {(each.instance_type, each.market, each.region) for each in found} == {("m5.large", "spot", "us-east-1")}
    assert all(each.zone.startswith("us-east-1") for each in found)
