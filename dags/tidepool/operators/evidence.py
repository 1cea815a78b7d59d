"""What the API server can still tell of a pod's end: its machine and its events. Never raises: less is known then."""

from __future__ import annotations

import json
import logging
from typing import Any

from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException

from tidepool.operators.pod_manager import GONE_STATUS

log = logging.getLogger(__name__)

TIMEOUT = (5, 10)
Object = dict[str, Any]


def machine(api: CoreV1Api, pod: Object) -> tuple[Object | None, bool]:
    """The Node that the pod was on, None where it cannot be read, and whether it is gone.

    A Node of that name that is younger than the pod's stay on it is another machine.
    """
    name = (pod.get("spec") or {}).get("nodeName")
    if not name:
        return None, False
    try:
        node: Object = json.loads(api.read_node(name, _preload_content=False, _request_timeout=TIMEOUT).data)
    except ApiException as error:
        return None, error.status == GONE_STATUS
    except Exception as error:  # noqa: BLE001 - whatever it was, the machine is then not known
        log.debug("node %s cannot be read: %s", name, error)
        return None, False
    born, bound = (
        str(node["metadata"].get("creationTimestamp") or ""),
        str((pod["status"] or {}).get("startTime") or ""),
    )
    return (None, True) if bound and born > bound else (node, False)


def events(api: CoreV1Api, pod: Object) -> list[Object]:
    """The pod's own events, oldest first; none where they cannot be read."""
    metadata = pod.get("metadata") or {}
    if not metadata.get("uid"):
        return []
    try:
        answer = api.list_namespaced_event(
            metadata["namespace"],
            field_selector=f"involvedObject.uid={metadata['uid']}",
            _preload_content=False,
            _request_timeout=TIMEOUT,
        )
        items: list[Object] = json.loads(answer.data)["items"]
    except Exception as error:  # noqa: BLE001
        log.debug("events of pod %s cannot be read: %s", metadata.get("name"), error)
        return []
    return sorted(items, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
