"""Until when a pod has an owner: an annotation that its task renews, so that a pod whose task is gone can be told.

Nothing here ever fails a job: a lease that could not be renewed is renewed the next time.
"""

from __future__ import annotations

import logging
import threading
import time

from kubernetes.client import CoreV1Api

from tidepool.labels import LEASE, LEASE_SECONDS, RENEW_SECONDS, utc

log = logging.getLogger(__name__)

DEFERRED_SECONDS = 24 * 3600
"""While a task is deferred nobody renews its pod's lease; this is for one that has no execution_timeout."""


def until(seconds: float) -> str:
    """The annotation's value for a lease of so many seconds from now."""
    return utc(time.time() + seconds)


def extend(api: CoreV1Api, name: str, namespace: str, seconds: float) -> None:
    """Let the lease end so many seconds from now."""
    body = {"metadata": {"annotations": {LEASE: until(seconds)}}}
    try:
        api.patch_namespaced_pod(name, namespace, body, _request_timeout=(5, 10))
    except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again, and the job goes on
        log.debug("lease of pod %s not renewed: %s", name, error)


class Lease(threading.Thread):
    """Renews a pod's lease until stopped."""

    def __init__(self, api: CoreV1Api, name: str, namespace: str) -> None:
        super().__init__(name=f"lease {name}", daemon=True)
        self._api = api
        self._pod = name
        self._namespace = namespace
        self._stopped = threading.Event()

    def run(self) -> None:
        """Renew it now, as a pod that was taken over may have little left, and then again and again."""
        while not self._stopped.is_set():
            extend(self._api, self._pod, self._namespace, LEASE_SECONDS)
            self._stopped.wait(RENEW_SECONDS)

    def stop(self) -> None:
        """End it; what is left of the lease stays."""
        self._stopped.set()
