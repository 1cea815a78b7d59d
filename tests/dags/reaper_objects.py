"""Pods, nodes, claims and Leases as the API server's JSON, for tests of the reaper; times are Unix seconds."""

from __future__ import annotations

from typing import Any

from tidepool import pod as pods
from tidepool.capacity import POOL_LABEL, Tenant
from tidepool.cluster import ROLE_LABEL
from tidepool.keeper.ownership import Word
from tidepool.labels import HOLDER, LEASE, utc

NOW = 1_767_225_600.0
NAMESPACE = "tidepool-analytics"
TENANTS = {"analytics": Tenant(NAMESPACE, "job"), "research": Tenant("tidepool-research", "job")}
Object = dict[str, Any]

WORDS = {True: Word.LIVES, False: Word.OVER, None: Word.SILENT}
"""Airflow's, by whether somebody lives."""


def metadata(name: str, task: str = "clean", run: str = "manual__1", attempt: int = 1, **more: Any) -> Object:
    """Of something that a task of tidepool's made."""
    labels, annotations = pods.owner("flights", task, run, attempt, "analytics")
    made = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "creationTimestamp": utc(NOW - 3600),
        "labels": {**labels, POOL_LABEL: "spot-small"},
        "annotations": annotations,
    }
    return made | more


def job(
    name: str = "clean",
    lease: float | None = NOW + 800,
    phase: str = "Running",
    node: str = "node-1",
    created: float = NOW - 3600,
    holder: int | None = None,
    **owner: Any,
) -> Object:
    """A main pod. lease: until when; None for none."""
    about = metadata(name, **owner) | {"creationTimestamp": utc(created)}
    if lease is not None:
        about["annotations"] |= {LEASE: utc(lease)}
    if holder is not None:
        about["annotations"] |= {HOLDER: str(holder)}
    return {"metadata": about, "spec": {"nodeName": node} if node else {}, "status": {"phase": phase}}


def member(main: Object, name: str = "exec-1", referred: bool = True, node: str = "node-2") -> Object:
    """An executor of a main pod."""
    made = job(name, lease=None, node=node)
    made["metadata"]["labels"] |= {ROLE_LABEL: "executor"}
    if referred:
        reference = {"kind": "Pod", "name": main["metadata"]["name"], "uid": main["metadata"]["uid"]}
        made["metadata"]["ownerReferences"] = [reference]
    return made


def ended(pod: Object, at: float, phase: str = "Succeeded") -> Object:
    """The same pod, its container ended."""
    states = [{"name": "base", "state": {"terminated": {"finishedAt": utc(at), "exitCode": 0}}}]
    return pod | {"status": {"phase": phase, "containerStatuses": states}}


def node(name: str = "node-1", ready: str = "True", pool: str = "spot-small", **spec: Any) -> Object:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {POOL_LABEL: pool},
            "creationTimestamp": utc(NOW - 7200),
        },
        "spec": {"providerID": f"aws:///us-east-1a/i-{name}", **spec},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def claim(name: str = "scratch", **owner: Any) -> Object:
    return {"metadata": metadata(name, **owner), "spec": {}, "status": {"phase": "Bound"}}
