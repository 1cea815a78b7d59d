"""Publishes what each budget's jobs cost, where the jobs of each team look before they start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from kubernetes.client import ApiException, CoreV1Api
from sqlalchemy.exc import SQLAlchemyError
from urllib3.exceptions import HTTPError

from tidepool import budget
from tidepool.budget import Figure
from tidepool.capacity import SPENDING_CONFIG_MAP, Budget, Capacity, CapacityError
from tidepool.ledger import history
from tidepool.ledger.store import Store

EVERY_SECONDS = 15.0
_TIMEOUT = (3, 10)
_log = logging.getLogger("tidepool.spending")


def figures(store: Store, budgets: Mapping[str, Budget], now: float) -> dict[str, Figure]:
    """What each budget's jobs cost in the day or month (UTC) that `now` is in."""
    found = {}
    begins = {each: budget.period(each, now)[0] for each in {each.per for each in budgets.values()}}
    spent = {each: history.spent(store, _day(begin)) for each, begin in begins.items()}
    for name, each in budgets.items():
        own = [one for one in spent[each.per] if one.is_of(each)]
        found[name] = Figure(
            usd=round(sum(one.usd for one in own), 6),
            begin=begins[each.per],
            unpriced_seconds=round(sum(one.unpriced_seconds for one in own), 1),
        )
    return found


class Publisher:
    """Writes the figures into a ConfigMap of every team's namespace. What is set aside there is the jobs' own."""

    def __init__(
        self,
        store: Store,
        core: CoreV1Api,
        capacity: Callable[[], Capacity],
        may_act: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._core = core
        self._capacity = capacity
        self._may_act = may_act
        self._failed: set[str] = set()

    def run(self) -> None:
        """Publish until the process ends."""
        while True:
            try:
                self.step(time.time())
            except (SQLAlchemyError, CapacityError) as error:
                _log.warning("what was spent is not published: %s", " ".join(str(error).split())[:300])
            time.sleep(EVERY_SECONDS)

    def step(self, now: float) -> None:
        """Publish once; nothing where there is no budget."""
        capacity = self._capacity()
        if not capacity.budgets or not self._may_act():
            return
        known = history.counted_until(self._store, now)
        text = budget.dump_spent(known, figures(self._store, capacity.budgets, known))
        for namespace in sorted({tenant.namespace for tenant in capacity.tenants.values()}):
            self._write(namespace, text)

    def _write(self, namespace: str, text: str) -> None:
        body = {"data": {budget.SPENT: text}}
        try:
            self._core.patch_namespaced_config_map(SPENDING_CONFIG_MAP, namespace, body, _request_timeout=_TIMEOUT)
        except (ApiException, HTTPError, OSError) as error:
            if namespace not in self._failed:
                _log.warning("ConfigMap %s/%s is not written: %s", namespace, SPENDING_CONFIG_MAP, error)
                self._failed.add(namespace)
            return
        self._failed.discard(namespace)


def _day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).date().isoformat()
