from __future__ import annotations

from typing import Any

import pytest

from tidepool.outcome import Cause, outcome


def pod(phase: str = "Running", deleted: bool = False, state: dict[str, Any] | None = None, **status: Any) -> Any:
    return {
        "metadata": {"name": "p", **({"deletionTimestamp": "2026-11-22T10:00:00Z"} if deleted else {})},
        "spec": {"nodeName": "i-1"},
        "status": {"phase": phase, "containerStatuses": [{"name": "base", "state": state or {}}], **status},
    }


def ended(code: int, reason: str = "Error", **more: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def disrupted(reason: str) -> list[dict[str, str]]:
    return [
        {"type": "PodScheduled", "status": "True"},
        {"type": "DisruptionTarget", "status": "True", "reason": reason},
    ]


UNSCHEDULED = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]

CASES = {
    "succeeded": (pod("Succeeded", state=ended(0)), Cause.OK),
    "succeeded and then deleted": (pod("Succeeded", deleted=True, state=ended(0)), Cause.OK),
    "container done, phase not yet": (pod(state=ended(0)), Cause.OK),
    "exit 1": (pod("Failed", state=ended(1)), Cause.APP_ERROR),
    "SIGTERM by itself": (pod("Failed", state=ended(143)), Cause.APP_ERROR),
    "OOM killer": (pod("Failed", state=ended(137, "OOMKilled")), Cause.OUT_OF_MEMORY),
    "OOM killer during a drain": (
        pod("Failed", state=ended(137, "OOMKilled"), conditions=disrupted("EvictionByEvictionAPI")),
        Cause.OUT_OF_MEMORY,
    ),
    "heap": (pod("Failed", state=ended(52)), Cause.OUT_OF_MEMORY),
    "drain": (pod("Failed", True, ended(143), conditions=disrupted("EvictionByEvictionAPI")), Cause.EVICTED),
    "drain, seen before its end": (pod(deleted=True, conditions=disrupted("EvictionByEvictionAPI")), Cause.EVICTED),
    "preempted": (pod("Failed", conditions=disrupted("PreemptionByScheduler")), Cause.EVICTED),
    "resource pressure": (
        pod("Failed", conditions=disrupted("TerminationByKubelet"), reason="Evicted", message="disk"),
        Cause.EVICTED,
    ),
    "resource pressure, no condition": (pod("Failed", reason="Evicted", message="disk"), Cause.EVICTED),
    "machine shut down": (
        pod("Failed", state=ended(143), conditions=disrupted("TerminationByKubelet"), reason="Terminated"),
        Cause.SPOT_RECLAIM,
    ),
    "machine shutting down refuses": (pod("Failed", reason="NodeShutdown"), Cause.SPOT_RECLAIM),
    "machine gone": (pod("Failed", deleted=True, conditions=disrupted("DeletionByPodGC")), Cause.NODE_LOST),
    "machine unreachable": (pod(deleted=True, conditions=disrupted("DeletionByTaintManager")), Cause.NODE_LOST),
    "kubelet forgot": (pod("Failed", state=ended(137, "ContainerStatusUnknown")), Cause.NODE_LOST),
    "gone while running": (pod(state={"running": {}}), Cause.NODE_LOST),
    "never seen": (None, Cause.NODE_LOST),
    "deleted while running": (pod(deleted=True, state={"running": {}}), Cause.CANCELLED),
    "deleted and ended": (pod("Failed", deleted=True, state=ended(143)), Cause.CANCELLED),
    "no image": (pod("Pending", state={"waiting": {"reason": "ImagePullBackOff"}}), Cause.IMAGE_PULL),
    "no machine": (pod("Pending", conditions=UNSCHEDULED), Cause.UNSCHEDULABLE),
    "not looked at": (pod("Pending"), Cause.UNSCHEDULABLE),
    "machine refuses": (pod("Failed", reason="OutOfcpu"), Cause.UNSCHEDULABLE),
    "stuck in creating": (pod("Pending", conditions=[{"type": "PodScheduled", "status": "True"}]), Cause.TIMED_OUT),
    "active deadline": (pod("Failed", reason="DeadlineExceeded", state=ended(143)), Cause.TIMED_OUT),
}


@pytest.mark.parametrize("case", CASES)
def test_every_end_has_one_cause(case: str) -> None:
    seen, cause = CASES[case]
    assert outcome(seen).cause is cause


def test_every_cause_can_be_found() -> None:
    assert {cause for _, cause in CASES.values()} == set(Cause)


def test_a_condition_that_is_false_means_nothing() -> None:
    conditions = [{"type": "DisruptionTarget", "status": "False", "reason": "EvictionByEvictionAPI"}]
    assert outcome(pod("Failed", state=ended(1), conditions=conditions)).cause is Cause.APP_ERROR


def test_the_message_carries_what_the_program_said_last() -> None:
    found = outcome(pod("Failed", state=ended(1, message="ValueError: no flights")))
    assert found.message == "exit code 1\nValueError: no flights"


def test_the_message_names_the_machine_that_went() -> None:
    assert "machine i-1" in outcome(pod(state={"running": {}})).message


def test_only_the_jobs_own_container_counts() -> None:
    seen = pod("Failed", state=ended(1))
    seen["status"]["containerStatuses"].insert(0, {"name": "sidecar", "state": ended(137, "OOMKilled")})
    assert outcome(seen).cause is Cause.APP_ERROR
