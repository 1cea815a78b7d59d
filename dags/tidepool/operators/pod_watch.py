"""A watch on one pod, so that the reason of its end is known even where the pod object is gone a moment later."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable

from kubernetes import client, watch

from tidepool.objects import Object, is_over

log = logging.getLogger(__name__)

WATCH_SECONDS = 300
RETRY_SECONDS = 1

LOG_DRAIN_SECONDS = 10
"""How long the log may go on after the pod's end before `on_end` is called."""


class PodWatch(threading.Thread):
    """Keeps the last that was seen of a pod (`last`, as JSON), through any outage of the API server, until stopped.

    is_gone: the pod object is no longer there.

    on_end is called from this thread a while after the pod has ended or was deleted, unless stopped before.
    """

    def __init__(self, api: client.CoreV1Api, name: str, namespace: str, on_end: Callable[[], None]) -> None:
        super().__init__(name=f"watch {name}", daemon=True)
        self._api = api
        self._pod = name
        self._namespace = namespace
        self._on_end = on_end
        self._stopped = threading.Event()
        self._watch = watch.Watch()
        self.last: Object | None = None
        self.is_gone = False

    def run(self) -> None:
        """Watch until the pod has ended. The API server's outages end a round, and the next one reads afresh."""
        while not self._stopped.is_set():
            try:
                if self._round():
                    if not self._stopped.wait(LOG_DRAIN_SECONDS):
                        self._on_end()
                    return
            except Exception as error:  # noqa: BLE001 - whatever it was: without the watch the cause would be lost
                log.debug("watch of pod %s interrupted: %s", self._pod, error)
            self._stopped.wait(RETRY_SECONDS)

    def stop(self) -> None:
        """End the watch; `last` stays."""
        self._stopped.set()
        self._watch.stop()

    def _round(self) -> bool:
        """Read the pod, then watch it; True once it has ended."""
        selector = f"metadata.name={self._pod}"
        answer = self._api.list_namespaced_pod(
            self._namespace, field_selector=selector, _request_timeout=30, _preload_content=False
        )
        listed = json.loads(answer.data)
        if not listed["items"]:
            self.is_gone = self.last is not None
            return self.is_gone
        self.last = listed["items"][0]
        if is_over(self.last):
            return True
        for event in self._watch.stream(
            self._api.list_namespaced_pod,
            self._namespace,
            field_selector=selector,
            resource_version=listed["metadata"]["resourceVersion"],
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=(10, WATCH_SECONDS + 10),
        ):
            self.last = event["raw_object"]
            self.is_gone = event["type"] == "DELETED"
            if self.is_gone or is_over(self.last):
                return True
        return False
