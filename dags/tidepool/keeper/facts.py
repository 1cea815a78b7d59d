"""What a pod or node object says happened, as events. Pure: objects as the API server's JSON, times as Unix seconds.

Kubernetes' own times are whole seconds, cut off. What is seen as it happens gets the time of seeing, but no later than
its stamp allows; what happened before anybody looked gets its stamp.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tidepool.capacity import LABEL_PREFIX, POOL_LABEL
from tidepool.ledger.events import Event
from tidepool.outcome import Seen, conclude

Object = dict[str, Any]
_PHASES = ("pod.queued", "pod.scheduled", "pod.running", "pod.ended", "pod.gone")


def machine_id(node: Object) -> str:
    """The EC2 instance id in a node's provider ID `aws:///<zone>/<id>`; empty where there is none."""
    return str(node.get("spec", {}).get("providerID") or "").rpartition("/")[2]


def node_events(node: Object, now: float, live: bool) -> list[Event]:
    """machine.ready, once the node is. `live`: seen as it happened, not found on a first look."""
    machine = machine_id(node)
    ready = _condition(node, "Ready")
    if not machine or ready is None:
        return []
    pool = str(_labels(node).get(POOL_LABEL, ""))
    return [Event(_when(ready.get("lastTransitionTime"), now, live), "machine.ready", machine=machine, pool=pool)]


def pod_lost(pod: Object, machine: str, now: float) -> list[Event]:
    """What has happened to a pod whose machine is gone: it has ended, though its object may stay for a minute."""
    return pod_events(pod, machine, now, live=True, gone=True, lost=True)[:-1]


def pod_events(
    pod: Object, machine: str, now: float, live: bool, gone: bool = False, lost: bool = False
) -> list[Event]:
    """Everything that has happened to the pod so far, in order; times never go backwards.

    machine: the id of the machine that its node is, empty while it has none.
    gone: the pod object was deleted; a pod that had not ended by then ends with it. lost: so is its machine.
    """
    status = pod.get("status") or {}
    scheduled = _condition(pod, "PodScheduled")
    state = _main_state(pod)
    ran, ended = state.get("running") or state.get("terminated"), state.get("terminated")
    over = status.get("phase") in ("Succeeded", "Failed")
    stamps: dict[str, Any] = {"pod.queued": pod["metadata"].get("creationTimestamp")}
    if scheduled is not None:
        stamps["pod.scheduled"] = scheduled.get("lastTransitionTime")
    if ran and ran.get("startedAt"):
        stamps["pod.running"] = ran["startedAt"]
    if ended or over or gone:
        stamps["pod.ended"] = (ended or {}).get("finishedAt")
    if gone:
        stamps["pod.gone"] = None
    end = conclude(Seen(pod, _main_container(pod), gone=gone, node_gone=lost))
    told: list[Event] = []
    for kind in (phase for phase in _PHASES if phase in stamps):
        time = max(_when(stamps[kind], now, live), told[-1].time if told else 0.0)
        details: dict[str, Any] = {"machine": machine} if kind != "pod.queued" else {}
        if kind == "pod.ended":
            details |= {"cause": str(end.cause), "message": end.message.strip().partition("\n")[0][:300]}
        told.append(Event(time, kind, **details, **_identity(pod)))
    return told


def _identity(pod: Object) -> dict[str, Any]:
    metadata = pod["metadata"]
    # Annotations carry what is too long or too odd for a label.
    said = {**_labels(pod), **(metadata.get("annotations") or {})}
    attempt = str(said.get(LABEL_PREFIX + "attempt", ""))
    return {
        "pod": metadata["name"],
        "pod_uid": metadata["uid"],
        "namespace": metadata.get("namespace", ""),
        "pool": said.get(POOL_LABEL, ""),
        "dag": said.get(LABEL_PREFIX + "owner-dag", ""),
        "task": said.get(LABEL_PREFIX + "owner-task", ""),
        "run": said.get(LABEL_PREFIX + "owner-run", ""),
        "attempt": int(attempt) if attempt.isdecimal() else 0,
    }


def _main_container(pod: Object) -> str:
    """The first container of the pod's specification is the job; sidecars don't count."""
    containers = (pod.get("spec") or {}).get("containers") or [{}]
    return str(containers[0].get("name", ""))


def _main_state(pod: Object) -> Object:
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status.get("name") == _main_container(pod):
            return status.get("state") or {}
    return {}


def _condition(thing: Object, kind: str) -> Object | None:
    """The condition of this type if it is True."""
    for condition in thing.get("status", {}).get("conditions") or []:
        if condition.get("type") == kind and condition.get("status") == "True":
            return dict(condition)
    return None


def _labels(thing: Object) -> dict[str, str]:
    return thing["metadata"].get("labels") or {}


def _when(stamp: str | None, now: float, live: bool) -> float:
    if not stamp:
        return now
    stamped = datetime.fromisoformat(stamp).timestamp()
    return min(now, stamped + 1.0) if live else min(now, stamped)
