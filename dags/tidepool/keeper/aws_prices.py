"""Prices that AWS charges now: list prices once a day, spot prices once an hour, kept in the ledger's database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from tidepool.keeper.aws import forever
from tidepool.keeper.figures import PRICES_MARK
from tidepool.ledger.store import Store
from tidepool.prices import aws

SPOT_SECONDS, LIST_SECONDS = 3600.0, 86_400.0
FIRST_SECONDS = 7 * 86_400.0
"""So far back spot prices are asked for by a keeper that has none; AWS keeps them for 90 days."""

_STEP_SECONDS = 60.0
_log = logging.getLogger("tidepool.aws")


class Prices:
    """instance_types: those that can be bought, as they are now. clock: Unix seconds."""

    def __init__(
        self,
        pricing: Any,
        ec2: Any,
        region: str,
        store: Store,
        instance_types: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pricing = pricing
        self._ec2 = ec2
        self._region = region
        self._store = store
        self._types = instance_types
        self._clock = clock
        self._list_due = self._spot_due = 0.0
        self._asked: frozenset[str] = frozenset()

    def run(self) -> None:
        """Ask when it is due, forever."""
        forever(self.step, _STEP_SECONDS, "asking AWS for prices")

    def step(self) -> int:
        """Ask for what is due, or of types that are new; how many prices AWS told."""
        now, types = self._clock(), frozenset(self._types())
        if not types or (now < min(self._list_due, self._spot_due) and types <= self._asked):
            return 0
        chosen, is_new = sorted(types), not types <= self._asked
        # The spot price that a machine began with was set before.
        since = now - FIRST_SECONDS
        if (asked := self._store.marked(PRICES_MARK)) and not is_new:
            since = max(since, float(asked) - 2 * SPOT_SECONDS)
        found = aws.spot_prices(self._ec2, self._region, chosen, since)
        if now >= self._list_due or is_new:
            found += aws.list_prices(self._pricing, self._region, chosen)
            self._list_due = now + LIST_SECONDS
        self._store.keep_prices(found)
        self._store.mark(PRICES_MARK, repr(now))
        self._spot_due, self._asked = now + SPOT_SECONDS, types
        _log.info("%d prices of %d instance types in %s", len(found), len(types), self._region)
        return len(found)
