"""What a job returns to its DAG: a little JSON, which Kubernetes keeps with the pod until that is deleted. Pure.

The program writes it to FILE. No sidecar has to wait beside it, and nobody needs the right to run commands in pods.
"""

from __future__ import annotations

import json
from typing import Any

FILE = "/dev/termination-log"
"""Kubernetes' own default for a container's termination message; a program may write it whoever it runs as."""

LONGEST_BYTES = 4096
"""What Kubernetes keeps of it."""


def result(pod: dict[str, Any], container: str) -> Any:
    """What the pod's container returned; None where it wrote nothing, or did not end well.

    Raises ValueError where that is no JSON.
    """
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        ended = (status.get("state") or {}).get("terminated") or {}
        if status.get("name") != container or ended.get("exitCode") != 0:
            continue
        text = str(ended.get("message") or "").strip()
        try:
            return json.loads(text) if text else None
        except ValueError as error:
            size = len(text.encode())
            why = f"more than {LONGEST_BYTES} bytes" if size >= LONGEST_BYTES - 4 else f"no JSON: {error}"
            raise ValueError(f"its result in {FILE} is {why}; it begins with {text[:80]!r}") from error
    return None
