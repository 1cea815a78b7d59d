"""What the stand-in autoscaler says of pods and groups, as Kubernetes events: the cluster-autoscaler's own words.

Source: kubernetes/autoscaler, cluster-autoscaler/processors/status/eventing_scale_up_processor.go and
core/scaleup/orchestrator; of failed groups it tells on its status ConfigMap, clusterstate/clusterstate.go.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import kubernetes
from urllib3.exceptions import HTTPError

from infra.autoscaler_flags import FLAGS
from infra.local.autoscaler_plan import Growth
from infra.local.aws import Group, seconds
from infra.local.daemon import log
from infra.naming import AUTOSCALER_NAMESPACE
from tidepool.labels import utc

COMPONENT = "cluster-autoscaler"
STATUS_CONFIG_MAP = "cluster-autoscaler-status"

REPEAT_SECONDS = seconds(FLAGS["scan-interval"])
"""How soon the same is said again: at the cluster-autoscaler's next look."""

BURST, REFILL_SECONDS = 25, 300.0
"""Kubernetes' event recorder says so much of one object at once, and then one more each five minutes."""

_TIMEOUT = 5


@dataclass
class _Said:
    """An event that was written, and when last (monotonic)."""

    name: str
    count: int
    at: float


@dataclass
class _Allowance:
    """What may still be said of one object."""

    left: float = BURST
    at: float = 0.0

    def take(self, now: float) -> bool:
        self.left = min(BURST, self.left + (now - self.at) / REFILL_SECONDS) if self.at else self.left
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Events:
    """Writes events; the same word on the same object again only raises a count, and that not too often.

    Nothing here ever stops the autoscaler: an event that can't be written is left out.
    """

    def __init__(self, api: kubernetes.client.CoreV1Api) -> None:
        self._api = api
        self._said: dict[tuple[str, str, str], _Said] = {}
        self._allowances: dict[str, _Allowance] = {}

    def triggered(self, pods: Iterable[dict[str, Any]], group: Group, growth: Growth, now: float) -> None:
        """Machines were asked for, for these pods."""
        size = f"{group.desired}->{group.desired + growth.machines} (max: {group.maximum})"
        for pod in pods:
            self._say(
                _pod(pod), "Normal", "TriggeredScaleUp", f"pod triggered scale-up: [{{{group.name} {size}}}]", now
            )

    def not_triggered(self, pod: dict[str, Any], reasons: str, now: float) -> None:
        """No group would help the pod, or may grow."""
        self._say(_pod(pod), "Normal", "NotTriggerScaleUp", f"pod didn't trigger scale-up: {reasons}", now)

    def failed(self, group: Group, error: Exception, now: float) -> None:
        """The group could not be raised."""
        message = f"Scale-up failed for group {group.name}: {error}"
        self._say(_status(), "Warning", "FailedToScaleUpGroup", message, now)

    def timed_out(self, group: Group, seconds: float, now: float) -> None:
        """Machines were asked for and did not come."""
        message = f"Nodes added to group {group.name} failed to register within {_duration(seconds)}"
        self._say(_status(), "Warning", "ScaleUpTimedOut", message, now)

    def forget_all_but(self, pods: Iterable[dict[str, Any]]) -> None:
        """Pods that are gone need no memory."""
        here = {str(pod["metadata"].get("uid", "")) for pod in pods} | {STATUS_CONFIG_MAP}
        self._said = {key: said for key, said in self._said.items() if key[0] in here}
        self._allowances = {uid: left for uid, left in self._allowances.items() if uid in here}

    def _say(self, about: dict[str, str], kind: str, reason: str, message: str, now: float) -> None:
        subject = about.get("uid") or about["name"]
        key = (subject, reason, message)
        said = self._said.get(key)
        if said is not None and now - said.at < REPEAT_SECONDS:
            return
        if not self._allowances.setdefault(subject, _Allowance()).take(now):
            return
        stamp = utc(time.time())
        namespace = about["namespace"]
        try:
            if said is not None:
                again = dataclasses.replace(said, count=said.count + 1, at=now)
                body = {"count": again.count, "lastTimestamp": stamp}
                self._api.patch_namespaced_event(said.name, namespace, body, _request_timeout=_TIMEOUT)
            else:
                again = _Said(f"{about['name']}.{uuid.uuid4().hex[:16]}", 1, now)
                self._api.create_namespaced_event(
                    namespace, _event(again.name, about, kind, reason, message, stamp), _request_timeout=_TIMEOUT
                )
        except (kubernetes.client.ApiException, HTTPError, OSError) as error:
            log(f"event {reason} of {namespace}/{about['name']} is left out: {error}")
            self._said.pop(key, None)  # the event may be gone: the next one is a new one
            return
        self._said[key] = again


def _event(name: str, about: dict[str, str], kind: str, reason: str, message: str, stamp: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": about["namespace"]},
        "involvedObject": about,
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "count": 1,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
    }


def _pod(pod: dict[str, Any]) -> dict[str, str]:
    metadata = pod["metadata"]
    about = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"]}
    return about | {key: metadata[key] for key in ("uid", "resourceVersion") if key in metadata}


def _status() -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": STATUS_CONFIG_MAP, "namespace": AUTOSCALER_NAMESPACE}


def _duration(seconds: float) -> str:
    """As Go writes it."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
