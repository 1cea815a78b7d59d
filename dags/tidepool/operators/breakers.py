"""What a team's attempts find out about pools, shared in a ConfigMap of its namespace.

Per team, not for the cluster: nobody's odd job closes a pool for others, and no right outside of the namespace is
needed. Nothing here ever fails a job: without the ConfigMap each attempt finds out for itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from kubernetes.client import CoreV1Api, V1ConfigMap, V1ObjectMeta
from kubernetes.client.exceptions import ApiException

from tidepool.capacity import BREAKERS_CONFIG_MAP
from tidepool.ladder import Breaker, dump, load
from tidepool.operators.pod_manager import CONFLICT_STATUS, GONE_STATUS

log = logging.getLogger(__name__)

WRITES = 5
"""So often it is tried to write where others write at the same time."""

TIMEOUT = (3, 5)


class Breakers:
    """The breakers of one namespace: one key for each pool, with its breaker as JSON."""

    def __init__(self, api: CoreV1Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    def read(self) -> dict[str, Breaker]:
        """By pool; closed ones may be missing."""
        try:
            return {pool: load(text) for pool, text in (self._get().data or {}).items()}
        except Exception as error:  # noqa: BLE001 - whatever it was, the ladder works without
            self._give_up(error)
            return {}

    def tell(self, pool: str, change: Callable[[Breaker, float], Breaker]) -> None:
        """Change one pool's breaker; what others wrote in the meantime is kept."""
        try:
            for _ in range(WRITES):
                if self._change(pool, change):
                    return
        except Exception as error:  # noqa: BLE001
            self._give_up(error)

    def _change(self, pool: str, change: Callable[[Breaker, float], Breaker]) -> bool:
        try:
            current = self._get()
            data = dict(current.data or {})
            known = load(data.get(pool, ""))
            changed = change(known, time.time())
            if changed == known:
                return True
            current.data = {**data, pool: dump(changed)}
            if current.metadata.resource_version is None:
                self._api.create_namespaced_config_map(self._namespace, current, _request_timeout=TIMEOUT)
            else:
                # With the version that was read: who wrote in between makes it a conflict.
                self._api.replace_namespaced_config_map(
                    BREAKERS_CONFIG_MAP, self._namespace, current, _request_timeout=TIMEOUT
                )
        except ApiException as error:
            if error.status == CONFLICT_STATUS:
                return False
            raise
        return True

    def _get(self) -> V1ConfigMap:
        try:
            return self._api.read_namespaced_config_map(BREAKERS_CONFIG_MAP, self._namespace, _request_timeout=TIMEOUT)
        except ApiException as error:
            if error.status != GONE_STATUS:
                raise
            return V1ConfigMap(metadata=V1ObjectMeta(name=BREAKERS_CONFIG_MAP), data={})

    def _give_up(self, error: Exception) -> None:
        log.debug("breakers in ConfigMap %s/%s: %s", self._namespace, BREAKERS_CONFIG_MAP, error)
