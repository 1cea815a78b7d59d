"""Why a job's pod ended: one cause for every end, read from the last that was seen of the pod.

The cause, not the exit code, decides what happens next. Pods are plain dicts, as the API server's JSON has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SPARK_OUT_OF_MEMORY = 52
"""SparkExitCode.OOM: the heap was too small, though the pod was not."""


class Cause(StrEnum):
    """Every end that a job can have."""

    OK = "ok"
    APP_ERROR = "app_error"
    OUT_OF_MEMORY = "out_of_memory"
    SPOT_RECLAIM = "spot_reclaim"
    NODE_LOST = "node_lost"
    EVICTED = "evicted"
    IMAGE_PULL = "image_pull"
    UNSCHEDULABLE = "unschedulable"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Outcome:
    """A cause, and what was seen of it in words."""

    cause: Cause
    message: str


class JobFailed(Exception):
    """A job's attempt did not end well; `cause` says how."""

    def __init__(self, pod: str, outcome: Outcome) -> None:
        super().__init__(f"pod {pod}: {outcome.cause}: {outcome.message}")
        self.pod = pod
        self.cause = outcome.cause


def outcome(pod: dict[str, Any] | None, container: str = "base") -> Outcome:
    """The cause of a pod's end. `pod` is the last that was seen of it, whether or not it still exists.

    A pod that was seen alive and is gone without a word went with its machine.
    """
    status = (pod or {}).get("status") or {}
    phase = status.get("phase", "Unknown")
    if phase == "Succeeded":
        return Outcome(Cause.OK, "succeeded")
    state = _container_state(status, container)
    ended = state.get("terminated") or {}
    if ended.get("reason") == "OOMKilled":
        return Outcome(Cause.OUT_OF_MEMORY, "the pod reached its memory limit (OOMKilled)")
    disrupted = _disruption(status) or _refusal(status)
    if disrupted is not None:
        return disrupted
    if ended:
        return _exit(ended, deleted="deletionTimestamp" in (pod or {}).get("metadata", {}))
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
        return Outcome(Cause.IMAGE_PULL, f"{waiting['reason']}: {waiting.get('message', '')}")
    if phase == "Pending":
        return _pending(status)
    if "deletionTimestamp" in (pod or {}).get("metadata", {}):
        return Outcome(Cause.CANCELLED, "the pod was deleted")
    machine = ((pod or {}).get("spec") or {}).get("nodeName") or "unknown"
    return Outcome(Cause.NODE_LOST, f"the pod is gone, last seen {phase} on machine {machine}")


def _container_state(status: dict[str, Any], container: str) -> dict[str, Any]:
    for item in status.get("containerStatuses") or []:
        if item.get("name") == container:
            return item.get("state") or {}
    return {}


_DISRUPTIONS = {
    "EvictionByEvictionAPI": (Cause.EVICTED, "evicted through the Eviction API, as a drain does"),
    "PreemptionByScheduler": (Cause.EVICTED, "preempted by a pod of higher priority"),
    "DeletionByTaintManager": (Cause.NODE_LOST, "its machine was tainted NoExecute: not ready or unreachable"),
    "DeletionByPodGC": (Cause.NODE_LOST, "its machine is gone"),
}


def _disruption(status: dict[str, Any]) -> Outcome | None:
    """What the DisruptionTarget condition says; the kubelet's own reason covers two very different ends."""
    for condition in status.get("conditions") or []:
        if condition.get("type") != "DisruptionTarget" or condition.get("status") != "True":
            continue
        reason = condition.get("reason", "")
        if reason == "TerminationByKubelet":
            if status.get("reason") in ("Evicted", "Preempting"):
                return Outcome(Cause.EVICTED, f"by the kubelet: {status.get('message', '')}")
            return Outcome(Cause.SPOT_RECLAIM, "its machine was shut down")
        cause, words = _DISRUPTIONS.get(reason, (Cause.EVICTED, reason))
        return Outcome(cause, words)
    return None


def _refusal(status: dict[str, Any]) -> Outcome | None:
    """What the pod's own reason says where there is no condition: the kubelet refused it or ran out of something."""
    reason, message = status.get("reason") or "", status.get("message") or ""
    if reason == "Evicted":
        return Outcome(Cause.EVICTED, message)
    if reason == "DeadlineExceeded":
        return Outcome(Cause.TIMED_OUT, message)
    if reason in ("NodeShutdown", "Terminated"):
        return Outcome(Cause.SPOT_RECLAIM, message)
    if reason == "NodeLost":
        return Outcome(Cause.NODE_LOST, message)
    if reason.startswith("OutOf") or reason in ("NodeAffinity", "UnexpectedAdmissionError"):
        return Outcome(Cause.UNSCHEDULABLE, f"refused by its machine: {reason}: {message}")
    return None


def _exit(ended: dict[str, Any], deleted: bool) -> Outcome:
    code = ended.get("exitCode")
    if code == 0:
        return Outcome(Cause.OK, "exit code 0")
    if ended.get("reason") == "ContainerStatusUnknown":
        return Outcome(Cause.NODE_LOST, "its machine's kubelet no longer knows the container")
    if code == SPARK_OUT_OF_MEMORY:
        return Outcome(Cause.OUT_OF_MEMORY, "Spark's heap was too small (exit code 52)")
    if deleted:
        return Outcome(Cause.CANCELLED, f"the pod was deleted (exit code {code})")
    message = f"exit code {code}"
    return Outcome(Cause.APP_ERROR, "\n".join(filter(None, (message, ended.get("message")))))


def _pending(status: dict[str, Any]) -> Outcome:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "True":
            return Outcome(Cause.TIMED_OUT, "the pod has a machine but did not start on it")
        if condition.get("type") == "PodScheduled":
            return Outcome(Cause.UNSCHEDULABLE, condition.get("message") or "no machine for the pod")
    return Outcome(Cause.UNSCHEDULABLE, "the scheduler has not looked at the pod")
