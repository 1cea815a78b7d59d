"""Where a service's pods may run and what they may do there, as Kubernetes and most charts spell it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tidepool.capacity import Taint

EVERYWHERE = [{"operator": "Exists"}]
"""Tolerates every taint: for DaemonSets that belong on job machines too."""

RESTRICTED_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""What Pod Security `restricted`, which the platform's namespace enforces, demands of a pod and of its containers."""


@dataclass(frozen=True)
class Placement:
    """The nodes for what must not be interrupted: their labels, and their taints, which keep everything else off."""

    selector: Mapping[str, str]
    taints: tuple[Taint, ...]

    def values(self, priority_class: str) -> dict[str, Any]:
        """As values of a chart's component. priority_class: of its pods."""
        return {
            "nodeSelector": dict(self.selector),
            "tolerations": self.tolerations(),
            "priorityClassName": priority_class,
        }

    def tolerations(self) -> list[dict[str, str]]:
        """The toleration of each taint."""
        return [{"key": each.key, "value": each.value, "effect": each.effect} for each in self.taints]


def resources(cpu: str, memory: str, memory_limit: str = "") -> dict[str, Any]:
    """Requests, and a limit on memory (the request if not given). CPU has none: a limit only slows what is idle."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory_limit or memory}}


def on_any(nodes: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Node affinity for nodes that carry all labels of at least one of the mappings."""
    terms = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()]}
        for labels in nodes
    ]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
