"""What the keeper's watches see: nodes, pods and pulls of images, and an API server that plays a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tidepool.ledger.events import Event

CREATED = 1_767_225_600.0
STAMP = "2026-01-01T00:00:{:02d}Z".format


def node(name: str = "node-1", machine: str = "i-1", ready: bool = True) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": STAMP(2)}
    return {
        "metadata": {"name": name, "labels": {"tidepool.dev/pool": "spot-small"}, "resourceVersion": "3"},
        "spec": {"providerID": f"aws:///us-east-1a/{machine}"},
        "status": {"conditions": [condition]},
    }


def pod(stage: str = "queued", uid: str = "u-1", exit_code: int = 0) -> dict[str, Any]:
    stages = ("queued", "scheduled", "running", "ended")
    reached = stages[: stages.index(stage) + 1]
    state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
    if stage == "running":
        state = {"running": {"startedAt": STAMP(5)}}
    if stage == "ended":
        state = {"terminated": {"startedAt": STAMP(5), "finishedAt": STAMP(9), "exitCode": exit_code}}
    phase = {"queued": "Pending", "scheduled": "Pending", "running": "Running"}.get(
        stage, "Failed" if exit_code else "Succeeded"
    )
    scheduled = {
        "type": "PodScheduled",
        "status": "True" if "scheduled" in reached else "False",
        "lastTransitionTime": STAMP(3),
    }
    return {
        "metadata": {
            "name": f"clean-{uid}",
            "uid": uid,
            "namespace": "tidepool-analytics",
            "creationTimestamp": STAMP(0),
            "resourceVersion": str(10 + len(reached)),
            "labels": {
                "tidepool.dev/pool": "spot-small",
                "tidepool.dev/owner-dag": "flights_daily",
                "tidepool.dev/owner-task": "clean",
                "tidepool.dev/owner-run": "manual__2026-01-01T000000-hash",
                "tidepool.dev/attempt": "2",
            },
            "annotations": {"tidepool.dev/owner-run": "manual__2026-01-01T00:00:00+00:00"},
        },
        "spec": {
            "nodeName": "node-1" if "scheduled" in reached else None,
            "containers": [{"name": "base"}, {"name": "sidecar"}],
        },
        "status": {
            "phase": phase,
            "conditions": [scheduled],
            "containerStatuses": [{"name": "sidecar", "state": {"running": {}}}, {"name": "base", "state": state}],
        },
    }


def kinds(told: list[Event]) -> list[str]:
    return [event.kind for event in told]


class ApiServer:
    """A list call that plays a script: each step is a list's items, the changes of a watch, or an error."""

    def __init__(self, *script: Any) -> None:
        self._script = list(script)
        self.versions: list[str] = []
        self.seconds: list[int] = []

    def __call__(self, **options: Any) -> Any:
        if not self._script:
            raise KeyboardInterrupt
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        if options.get("watch"):
            self.versions.append(options["resource_version"])
            self.seconds.append(options["timeout_seconds"])
            return Answer(b"".join(json.dumps(change).encode() + b"\n" for change in step))
        return Answer(json.dumps({"items": step, "metadata": {"resourceVersion": "7"}}).encode())


class Answer:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def stream(self, amt: int | None, decode_content: bool) -> Iterator[bytes]:
        yield from (self.data[start : start + 100] for start in range(0, len(self.data), 100))

    def close(self) -> None: ...

    def release_conn(self) -> None: ...


def pull(uid: str = "u-1") -> dict[str, Any]:
    return {
        "metadata": {"name": f"clean-{uid}.1", "resourceVersion": "30"},
        "reason": "Pulling",
        "involvedObject": {"kind": "Pod", "uid": uid},
        "firstTimestamp": STAMP(4),
    }
