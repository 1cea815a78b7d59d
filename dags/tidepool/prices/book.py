"""The price book: what a machine costs an hour, by its type, market and zone, at a time. Pure.

A price that is not in the book is None, never 0.
"""

from __future__ import annotations

import bisect
import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

COLUMNS = ("region", "zone", "instance_type", "market", "since", "usd_per_hour", "source")
MARKETS = ("spot", "on-demand")

_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")


class PriceError(Exception):
    """A price list holds what is no price; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Price:
    """A price from a time on. zone: empty for a whole region. since: Unix seconds; 0: for all time, until another."""

    region: str
    instance_type: str
    market: str
    usd_per_hour: float
    zone: str = ""
    since: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        if self.market not in MARKETS:
            raise PriceError(f"market must be one of {', '.join(MARKETS)}, not {self.market!r}")
        if not 0 < self.usd_per_hour < math.inf:
            raise PriceError(f"{self.instance_type}: usd_per_hour must be above 0, not {self.usd_per_hour!r}")
        if not 0 <= self.since < math.inf:
            raise PriceError(f"{self.instance_type}: since must be Unix seconds, not {self.since!r}")


_Key = tuple[str, str, str]
_Series = tuple[list[float], list[Price]]


class PriceBook:
    """Prices that can be looked up. Of two for the same place and time the later in `prices` counts."""

    def __init__(self, prices: Iterable[Price] = ()) -> None:
        latest = {(*_key(each), each.since): each for each in prices}
        self._series: dict[_Key, _Series] = {}
        for key in sorted(latest):
            times, series = self._series.setdefault(key[:3], ([], []))
            times.append(key[3])
            series.append(latest[key])

    def prices(self) -> list[Price]:
        """Everything in the book."""
        return [price for _, series in self._series.values() for price in series]

    def merged(self, newer: Iterable[Price]) -> PriceBook:
        """This book with newer prices, which win where both have one."""
        return PriceBook([*self.prices(), *newer])

    def series(
        self, instance_type: str, market: str, zone: str, begin: float, end: float, stated: float | None = None
    ) -> list[tuple[float, float | None]]:
        """(from when on, USD per hour or None) of a machine's prices between two times; the first is at `begin`.

        A price of the machine's own zone comes first, as AWS charged it; then what its events state; then its
        region's.
        """
        own, first = self._find(instance_type, market, zone, begin, end) if zone else ([], None)
        if first is not None:
            return [(begin, first), *own]
        if stated:
            otherwise: list[tuple[float, float | None]] = [(begin, stated)]
        else:
            changes, first = self._find(instance_type, market, region(zone), begin, end)
            otherwise = [(begin, first), *changes]
        reached = own[0][0] if own else math.inf
        return [each for each in otherwise if each[0] < reached] + own

    def _find(
        self, instance_type: str, market: str, place: str, begin: float, end: float
    ) -> tuple[list[tuple[float, float | None]], float | None]:
        """What changes after `begin` and before `end`, and the price at `begin`."""
        times, prices = self._series.get((instance_type, market, place), ([], []))
        first = bisect.bisect_right(times, begin)
        changes = prices[first : max(first, bisect.bisect_left(times, end))]
        return [(each.since, each.usd_per_hour) for each in changes], prices[first - 1].usd_per_hour if first else None

    def at(self, instance_type: str, market: str, zone: str, time: float) -> float | None:
        """USD per hour at a time, or None."""
        return self.series(instance_type, market, zone, time, time)[0][1]


def region(zone: str) -> str:
    """The region of a zone (us-east-1a, us-west-2-lax-1a), or the region itself; empty where it is neither."""
    match = _REGION.match(zone)
    return match.group() if match else ""


def dumps(prices: Sequence[Price]) -> str:
    """The prices as CSV text with COLUMNS; `since` as a UTC time, empty for all time."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in prices:
        since = datetime.fromtimestamp(each.since, UTC).isoformat() if each.since else ""
        writer.writerow(
            (each.region, each.zone, each.instance_type, each.market, since, repr(each.usd_per_hour), each.source)
        )
    return text.getvalue()


def loads(text: str, where: str = "price list") -> list[Price]:
    """Read CSV text with COLUMNS. Raises PriceError with every problem at once; `where` names the source in it."""
    reader = csv.DictReader(io.StringIO(text))
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise PriceError(f"{where}: no column {', '.join(missing)}; a price list has {', '.join(COLUMNS)}")
    found, problems = [], []
    for row in reader:
        try:
            found.append(_read(row))
        except (PriceError, ValueError, TypeError) as error:
            problems.append(f"{where}, line {reader.line_num}: {error}")
    if problems:
        raise PriceError("\n".join(problems))
    return found


def _read(row: dict[str, str]) -> Price:
    since = row["since"]
    return Price(
        region=row["region"],
        zone=row["zone"],
        instance_type=row["instance_type"],
        market=row["market"],
        since=datetime.fromisoformat(since).timestamp() if since else 0.0,
        usd_per_hour=float(row["usd_per_hour"]),
        source=row["source"],
    )


def _key(price: Price) -> _Key:
    return price.instance_type, price.market, price.zone or price.region
