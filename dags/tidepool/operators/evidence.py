"""What the API server can still tell of a pod's end: its machine and its events. Never raises: less is known then."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException

from tidepool.capacity import Pool, pool_of
from tidepool.objects import Object
from tidepool.operators.pod_manager import GONE_STATUS

log = logging.getLogger(__name__)

TIMEOUT = (5, 10)


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


def pool(api: CoreV1Api, pod: Object, pools: Sequence[Pool]) -> str:
    """The pool, of those that the pod may be on, whose machine it has; empty where that cannot be read."""
    if len(pools) == 1:
        return pools[0].name
    node, _ = machine(api, pod)
    return pool_of((node.get("metadata") or {}).get("labels") or {}, pools) if node is not None else ""


def events(api: CoreV1Api, pod: Object) -> list[Object]:
    """The pod's own events, oldest first; none where they cannot be read."""
    metadata = pod.get("metadata") or {}
    return _events(api, metadata["namespace"], f"involvedObject.uid={metadata['uid']}") if metadata.get("uid") else []


def gone_pod(api: CoreV1Api, namespace: str, name: str) -> Object | None:
    """What its events still tell of a pod that is gone and that nobody watched: its uid, its machine, how far it came.

    None where they tell nothing. For pods whose name nobody else ever has.
    """
    told = _events(api, namespace, f"involvedObject.kind=Pod,involvedObject.name={name}")
    placed = next((event for event in told if event.get("reason") == "Scheduled"), None)
    if placed is None:
        return None
    found: Object = {
        "metadata": {"name": name, "namespace": namespace, "uid": placed["involvedObject"].get("uid")},
        "spec": {"nodeName": str(placed.get("message")).rpartition(" to ")[2]},
        "status": {"phase": "Running" if any(event.get("reason") == "Started" for event in told) else "Pending"},
    }
    stamp = placed.get("eventTime") or placed.get("firstTimestamp")
    if stamp:
        found["status"]["startTime"] = str(stamp).partition(".")[0].rstrip("Z") + "Z"
    return found


def _events(api: CoreV1Api, namespace: str, selector: str) -> list[Object]:
    try:
        answer = api.list_namespaced_event(
            namespace, field_selector=selector, _preload_content=False, _request_timeout=TIMEOUT
        )
        items: list[Object] = json.loads(answer.data)["items"]
    except Exception as error:  # noqa: BLE001
        log.debug("events of %s cannot be read: %s", selector, error)
        return []
    return sorted(items, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
