"""Counts the pods of each task by a watch of its own on the API server, past everything that a test kills."""

from __future__ import annotations

import threading
from typing import Any

import kubernetes
from urllib3.exceptions import HTTPError

Key = tuple[str, str, str]
"""DAG, run and task."""

_OVER = ("Succeeded", "Failed")


class LivePods(threading.Thread):
    """Follows the pods of a namespace until stopped.

    pods: of each task, the UIDs in the order of their creation. twice: where more than one of a task was alive at once,
    in words; a pod is alive until it has come to its final phase or its object is gone. gaps: how often what happened
    in between was lost.
    """

    def __init__(self, api: kubernetes.client.CoreV1Api, namespace: str) -> None:
        super().__init__(name="live pods", daemon=True)
        self._api = api
        self._namespace = namespace
        self._stopped = threading.Event()
        self._live: dict[Key, dict[str, str]] = {}
        self.pods: dict[Key, list[str]] = {}
        self.twice: list[str] = []
        self.gaps = 0

    def run(self) -> None:
        """List once, then watch, and go on from the last change whenever that breaks off."""
        version = ""
        while not self._stopped.is_set():
            try:
                if not version:
                    version = self._list()
                for event in kubernetes.watch.Watch().stream(
                    self._api.list_namespaced_pod,
                    self._namespace,
                    resource_version=version,
                    timeout_seconds=20,
                    _request_timeout=(3, 30),
                ):
                    version = event["raw_object"]["metadata"]["resourceVersion"]
                    self.take(event["type"], event["raw_object"])
            except kubernetes.client.ApiException as error:
                if error.status == 410:
                    version, self.gaps = "", self.gaps + 1
                self._stopped.wait(0.2)
            except (HTTPError, OSError, ValueError):
                self._stopped.wait(0.2)

    def stop(self) -> None:
        """End it, within a watch's length."""
        self._stopped.set()

    def take(self, kind: str, pod: dict[str, Any]) -> None:
        """One change of one pod."""
        said = pod["metadata"].get("annotations") or {}
        owner = [str(said.get(f"tidepool.dev/owner-{what}", "")) for what in ("dag", "run", "task")]
        key: Key = (owner[0], owner[1], owner[2])
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        seen = self.pods.setdefault(key, [])
        if uid not in seen:
            seen.append(uid)
        live = self._live.setdefault(key, {})
        if kind == "DELETED" or (pod.get("status") or {}).get("phase") in _OVER:
            live.pop(uid, None)
            return
        is_new = uid not in live
        live[uid] = name
        if is_new and len(live) > 1:
            self.twice.append(f"{'/'.join(key)}: {', '.join(live.values())}")

    def _list(self) -> str:
        found = self._api.list_namespaced_pod(self._namespace, _request_timeout=(3, 30))
        for pod in found.items:
            self.take("ADDED", kubernetes.client.ApiClient().sanitize_for_serialization(pod))
        return str(found.metadata.resource_version)
