"""What a team's attempts find out about pools, shared in a ConfigMap of its namespace.

Per team, not for the cluster: nobody's odd job closes a pool for others, and no right outside of the namespace is
needed. infra/services/tenants.py makes the ConfigMap; where it is missing or may not be used, each attempt finds out
for itself. Nothing here ever fails a job: what can't be written, as others wrote every time, is lost, and the log of
the task says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from kubernetes.client import CoreV1Api

from tidepool.breaker import Breaker, State, dump, load
from tidepool.capacity import BREAKERS_CONFIG_MAP
from tidepool.operators.config_map import MissingError, SharedMap

log = logging.getLogger(__name__)


class Breakers:
    """The breakers of one namespace: one key for each pool, with its breaker as JSON."""

    def __init__(self, api: CoreV1Api, namespace: str) -> None:
        self._map = SharedMap(api, namespace, BREAKERS_CONFIG_MAP)

    def read(self) -> dict[str, Breaker]:
        """By pool; closed ones may be missing."""
        try:
            return {pool: load(text) for pool, text in self._map.read().items()}
        except Exception as error:  # noqa: BLE001 - whatever it was, the ladder works without
            self._give_up("what others found out about pools cannot be read", error)
            return {}

    def tell(self, pool: str, change: Callable[[Breaker, float], Breaker]) -> None:
        """Change one pool's breaker; what others wrote in the meantime is kept."""

        def changed(data: dict[str, str]) -> dict[str, str] | None:
            known = load(data.get(pool, ""))
            after = change(known, time.time())
            return None if after == known else {**data, pool: dump(after)}

        try:
            self._map.change(changed)
        except Exception as error:  # noqa: BLE001
            self._give_up(f"others do not learn what was found out about pool {pool}", error)

    def probe(self, pool: str) -> bool:
        """Try a half-open pool; false where another attempt does already. True also where nothing can be written."""
        is_free = True

        def taken(known: Breaker, now: float) -> Breaker:
            nonlocal is_free
            state = known.state(now)
            is_free = state is not State.OPEN
            return known.probed(now) if state is State.HALF_OPEN else known

        self.tell(pool, taken)
        return is_free

    def _give_up(self, words: str, error: Exception) -> None:
        (log.debug if isinstance(error, MissingError) else log.warning)("%s: %s", words, error)
