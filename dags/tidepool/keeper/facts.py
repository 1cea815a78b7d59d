"""What a pod or node object says happened, as events. Pure: objects as the API server's JSON, times as Unix seconds.

Kubernetes' own times are whole seconds, cut off. What is seen as it happens gets the time of seeing, but no later than
its stamp allows; what happened before anybody looked gets its stamp, and is marked as reconstructed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from tidepool.capacity import POOL_LABEL, TEAM_LABEL, Pool, pool_of
from tidepool.keeper.requests import allocatable, requested
from tidepool.labels import ATTEMPT, OWNER_DAG, OWNER_RUN, OWNER_TASK
from tidepool.ledger.events import Event
from tidepool.objects import Object, condition, is_over
from tidepool.outcome import SPOT_TAINTS, Seen, conclude

CORDONED = "node.kubernetes.io/unschedulable"
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
"""On a node until its cloud's controller has written its provider ID."""

AWS = "aws:"
PULLING = "Pulling"
"""The reason of the event that a kubelet sends when it fetches an image."""

_LONGEST = 250  # of a name, as in Airflow; a pod's annotations may be 256 KiB
_PHASES = ("pod.queued", "pod.scheduled", "pod.running", "pod.ended", "pod.gone")


def machine_id(node: Object) -> str:
    """The EC2 instance id in a node's provider ID `aws:///<zone>/<id>`; else its name and the beginning of its UID.

    Only on AWS does an id's last part name one machine for all time. Empty while its cloud has not said what it is.
    """
    provider = str(node.get("spec", {}).get("providerID") or "")
    if provider.startswith(AWS):
        return provider.rpartition("/")[2]
    if any(taint.get("key") == UNINITIALIZED for taint in node.get("spec", {}).get("taints") or []):
        return ""
    name, uid = str(node["metadata"].get("name", "")), str(node["metadata"].get("uid") or "")
    return f"{name}-{uid[:8]}" if uid else name


def is_of(node: Object, clouds: Iterable[str]) -> bool:
    """Whether the node's machine is of a cloud that is asked about it. clouds: beginnings of provider IDs."""
    return str(node.get("spec", {}).get("providerID") or "").startswith(tuple(clouds))


def node_events(
    node: Object, now: float, live: bool, pools: Iterable[Pool] = (), clouds: Iterable[str] = ()
) -> list[Event]:
    """machine.ready once the node is, machine.cordoned and machine.reclaimed where its taints say so.

    `live`: seen as it happened, not found on a first look. pools: that its labels may say it is of. clouds: that are
    asked about machines, by how their provider IDs begin; of others a pool says the market and the price.
    """
    about = _about(node, pools, clouds) | {"reconstructed": not live}
    if not about["machine"]:
        return []
    told = []
    if (ready := condition(node, "Ready")).get("status") == "True":
        told.append(Event(_when(ready.get("lastTransitionTime"), now, live), "machine.ready", **about))
    for taint in node.get("spec", {}).get("taints") or []:
        added = taint.get("timeAdded")
        if taint.get("key") == CORDONED:
            told.append(Event(_when(added, now, live), "machine.cordoned", occurrence=str(added or ""), **about))
        if taint.get("key") in SPOT_TAINTS:
            told.append(Event(_when(added, now, live), "machine.reclaimed", **about))
    return told


def node_gone(node: Object, now: float, pools: Iterable[Pool] = ()) -> Event:
    """machine.gone of a node that was just deleted, where no cloud says when its machine ended."""
    return Event(now, "machine.gone", **_about(node, pools))


def _about(node: Object, pools: Iterable[Pool], clouds: Iterable[str] = ()) -> dict[str, Any]:
    labels = _labels(node)
    cpu, memory = allocatable(node)
    about: dict[str, Any] = {
        "machine": machine_id(node),
        "pool": _name(pool_of(labels, pools)),
        "zone": _name(labels.get("topology.kubernetes.io/zone")),
        "instance_type": _name(labels.get("node.kubernetes.io/instance-type")),
        "cpu_millis": cpu,
        "memory_bytes": memory,
    }
    pool = next((each for each in pools if each.name == about["pool"]), None)
    if pool is not None and not is_of(node, clouds):
        about |= {"market": pool.market, "usd_per_hour": pool.usd_per_hour or None}
    return about


def pull_event(event: Object, pod: Object, machine: str, now: float, live: bool) -> Event:
    """pod.pulling, from the kubelet's event about the pod; its first image counts."""
    stamp = event.get("firstTimestamp") or event.get("eventTime")
    when = _when(stamp, now, live)
    return Event(when, "pod.pulling", machine=machine, reconstructed=not live, **pod_identity(pod))


def pod_lost(pod: Object, machine: str, now: float) -> list[Event]:
    """What has happened to a pod whose machine is gone: it has ended, though its object may stay for a minute."""
    return pod_events(pod, machine, now, live=True, gone=True, lost=True)[:-1]


def pod_events(
    pod: Object,
    machine: str,
    now: float,
    live: bool,
    gone: bool = False,
    lost: bool = False,
    last_seen: float | None = None,
    node: Object | None = None,
) -> list[Event]:
    """Everything that has happened to the pod so far, in order; times never go backwards.

    machine: the id of the machine that its node is, empty while it has none.
    gone: the pod object was deleted; a pod that had not ended by then ends with it. lost: so is its machine.
    last_seen: nobody saw it go; until then it was there. node: its machine's, where that says why its pods have to go.
    """
    scheduled = condition(pod, "PodScheduled")
    state = _main_state(pod)
    ran, ended = state.get("running") or state.get("terminated"), state.get("terminated")
    stamps: dict[str, Any] = {"pod.queued": pod["metadata"].get("creationTimestamp")}
    if scheduled.get("status") == "True":
        stamps["pod.scheduled"] = scheduled.get("lastTransitionTime")
    if ran and ran.get("startedAt"):
        stamps["pod.running"] = ran["startedAt"]
    if ended or is_over(pod) or gone:
        stamps["pod.ended"] = (ended or {}).get("finishedAt")
    if gone:
        stamps["pod.gone"] = None
    end = conclude(Seen(pod, _main_container(pod), gone=gone, node=node, node_gone=lost))
    told: list[Event] = []
    for kind in (phase for phase in _PHASES if phase in stamps):
        time = max(_when(stamps[kind], now, live), told[-1].time if told else 0.0)
        details: dict[str, Any] = {"machine": machine} if kind != "pod.queued" else {}
        if not live or (last_seen is not None and stamps[kind] is None):
            details |= {"reconstructed": True, "earliest": 0.0 if stamps[kind] else min(last_seen or 0.0, time)}
        if kind == "pod.ended":
            details |= {"cause": str(end.cause), "message": end.message.strip().partition("\n")[0][:300]}
        told.append(Event(time, kind, **details, **pod_identity(pod)))
    return told


def pod_identity(pod: Object) -> dict[str, Any]:
    """Whose it is and how large, as events say it."""
    metadata = pod["metadata"]
    # Annotations carry what is too long or too odd for a label.
    said = {**_labels(pod), **(metadata.get("annotations") or {})}
    attempt, mapped = str(said.get(ATTEMPT, "")), str(said.get("map_index", ""))
    cpu, memory = requested(pod)
    return {
        "pod": metadata["name"],
        "pod_uid": metadata["uid"],
        "namespace": metadata.get("namespace", ""),
        "pool": _name(said.get(POOL_LABEL)),
        "team": _name(said.get(TEAM_LABEL)),
        "dag": _name(said.get(OWNER_DAG)),
        "task": _name(said.get(OWNER_TASK)),
        "run": _name(said.get(OWNER_RUN)),
        "map_index": mapped if mapped.isdecimal() and len(mapped) < 10 else "",
        "attempt": int(attempt) if attempt.isdecimal() and len(attempt) < 10 else 0,
        "cpu_millis": cpu,
        "memory_bytes": memory,
    }


def _name(said: str | None) -> str:
    return (said or "")[:_LONGEST]


def _main_container(pod: Object) -> str:
    """The first container of the pod's specification is the job; sidecars don't count."""
    containers = (pod.get("spec") or {}).get("containers") or [{}]
    return str(containers[0].get("name", ""))


def _main_state(pod: Object) -> Object:
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status.get("name") == _main_container(pod):
            return status.get("state") or {}
    return {}


def _labels(thing: Object) -> dict[str, str]:
    return thing["metadata"].get("labels") or {}


def _when(stamp: str | None, now: float, live: bool) -> float:
    if not stamp:
        return now
    stamped = datetime.fromisoformat(stamp).timestamp()
    return min(now, stamped + 1.0) if live else min(now, stamped)
