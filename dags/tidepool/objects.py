"""Kubernetes' objects as the API server's JSON has them: what more than one part asks of them. Pure."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

FINAL_PHASES = ("Succeeded", "Failed")


def condition(thing: Object | None, kind: str) -> Object:
    """The condition of this type, whatever it says; empty where there is none, or the object was not read."""
    for each in ((thing or {}).get("status") or {}).get("conditions") or []:
        if each.get("type") == kind:
            return dict(each)
    return {}


def is_over(pod: Object) -> bool:
    """Whether all of a pod's containers have ended, for good."""
    return (pod.get("status") or {}).get("phase") in FINAL_PHASES
