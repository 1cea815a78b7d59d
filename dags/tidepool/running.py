"""How long a pod's program ran, from the pod as the API has it. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

Object = dict[str, Any]


def ran(pod: Object | None, container: str, now: float) -> float:
    """Seconds for which the container ran; 0 where that is not known. now: Unix seconds.

    Where nobody saw it end, it ran until its machine stopped to answer (the pod was no longer ready), or until now.
    """
    status = (pod or {}).get("status") or {}
    for each in status.get("containerStatuses") or []:
        if each.get("name") == container:
            state = each.get("state") or {}
            over = state.get("terminated") or {}
            began = _seconds(over.get("startedAt") or (state.get("running") or {}).get("startedAt"))
            ended = _seconds(over.get("finishedAt")) or min(now, *_unready(status), now)
            return max(0.0, ended - began) if began else 0.0
    return 0.0


def _unready(status: Object) -> list[float]:
    """When the pod was no longer ready."""
    found = [each for each in status.get("conditions") or [] if each.get("type") == "Ready"]
    return [
        at for each in found if each.get("status") != "True" and (at := _seconds(each.get("lastTransitionTime"))) > 0
    ]


def _seconds(time: Any) -> float:
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except ValueError:
        return 0.0
