"""How long a pod's program ran."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tidepool.running import ran

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOON + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(state: dict[str, Any], *conditions: dict[str, str], name: str = "base") -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": name, "state": state}], "conditions": list(conditions)}}


def not_ready(seconds: float) -> dict[str, str]:
    return {"type": "Ready", "status": "False", "lastTransitionTime": at(seconds)}


RUNNING = {"running": {"startedAt": at(0)}}


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        (pod({"terminated": {"startedAt": at(0), "finishedAt": at(90)}}), 90),
        (pod(RUNNING), 3600),
        (pod(RUNNING, not_ready(60)), 60),
        (pod(RUNNING, {"type": "Ready", "status": "True", "lastTransitionTime": at(60)}), 3600),
        (pod({"waiting": {"reason": "ImagePullBackOff"}}), 0),
        (pod({"running": {}}), 0),
        (pod({"terminated": {"startedAt": None, "finishedAt": at(90)}}), 0),
        (pod(RUNNING, name="sidecar"), 0),
        ({}, 0),
        (None, 0),
    ],
    ids=["ended", "runs", "its machine went", "is ready", "never ran", "unsaid", "refused", "another", "bare", "gone"],
)
def test_a_program_ran_from_its_start_until_it_was_last_known_to(seen: dict[str, Any] | None, seconds: float) -> None:
    assert ran(seen, "base", NOON + 3600) == seconds
