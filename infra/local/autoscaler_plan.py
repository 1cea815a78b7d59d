"""What the stand-in autoscaler decides, as pure functions: which group grows for which pods, which machine goes back.

It follows the cluster-autoscaler where one can see it from outside: it simulates each pending pod on the node template
that a group's tags describe, lets machines that are on their way take pods first, asks the priority expander's
ConfigMap, then least waste, and gives back only machines that hold nothing but DaemonSet and mirror pods.
Source: kubernetes/autoscaler, cluster-autoscaler/FAQ.md and cloudprovider/aws/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.aws import Group, amount

SAFE_EFFECTS = ("PreferNoSchedule",)


@dataclass(frozen=True)
class Growth:
    """Raise `group` by `machines` for these pods (namespace/name)."""

    group: str
    machines: int
    pods: tuple[str, ...]


def pending(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pods that the scheduler found no machine for."""
    return [pod for pod in pods if _unschedulable(pod)]


def growth(
    unschedulable: list[dict[str, Any]],
    groups: list[Group],
    upcoming: Mapping[str, int],
    priorities: Mapping[int, list[str]],
) -> list[Growth]:
    """Which groups to raise. `upcoming`: machines by group that are asked for and not Ready yet."""
    by_name = {group.name: group for group in groups}
    bins = [_Bin(by_name[name]) for name, count in upcoming.items() for _ in range(count) if name in by_name]
    new: list[_Bin] = []
    for pod in sorted(unschedulable, key=_pod_name):
        if any(each.take(pod) for each in [*bins, *new]):
            continue
        grown = {group.name: sum(each.group is group for each in new) for group in groups}
        options = [
            group
            for group in groups
            if _Bin(group).fits(pod) and max(group.desired, len(group.instances)) + grown[group.name] < group.maximum
        ]
        if options:
            chosen = _Bin(_choose(options, pod, priorities))
            chosen.take(pod)
            new.append(chosen)
    names = list(dict.fromkeys(each.group.name for each in new))
    return [_growth(name, [each for each in new if each.group.name == name]) for name in names]


def idle(node: str, pods: list[dict[str, Any]]) -> bool:
    """Whether nothing on the node keeps it: only finished pods, DaemonSet pods and mirror pods are there."""
    return not any(_keeps(pod) for pod in pods if pod["spec"].get("nodeName") == node)


def may_shrink(group: Group, leaving: int) -> bool:
    """Whether the group stays at or above its minimum after `leaving` more machines have gone, and this one."""
    return group.desired - leaving > group.minimum


class _Bin:
    """A machine of a group that is not there yet, and the pods it is to take."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.free = dict(group.resources)
        self.pods: list[str] = []

    def fits(self, pod: dict[str, Any]) -> bool:
        return (
            tolerates(pod, self.group.taints)
            and matches(pod, self.group.labels)
            and all(self.free.get(name, 0) >= value for name, value in requests(pod).items())
        )

    def take(self, pod: dict[str, Any]) -> bool:
        if not self.fits(pod):
            return False
        for name, value in requests(pod).items():
            self.free[name] -= value
        self.pods.append(_pod_name(pod))
        return True


def requests(pod: dict[str, Any]) -> dict[str, int]:
    """What the scheduler reckons a pod takes: the containers' sum or the largest init container, and one pod."""
    spec = pod["spec"]
    total: dict[str, int] = {"pods": 1}
    for container in spec.get("containers", []):
        for name, value in _requests(container).items():
            total[name] = total.get(name, 0) + value
    for container in spec.get("initContainers") or []:
        for name, value in _requests(container).items():
            total[name] = max(total.get(name, 0), value)
    return total


def tolerates(pod: dict[str, Any], taints: Mapping[str, tuple[str, str]]) -> bool:
    """Whether the pod tolerates every taint that keeps pods off."""
    tolerations = pod["spec"].get("tolerations") or []
    return all(
        effect in SAFE_EFFECTS or any(_tolerated(each, key, value, effect) for each in tolerations)
        for key, (value, effect) in taints.items()
    )


def matches(pod: dict[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether the pod's node selector and required node affinity accept a node of these labels."""
    spec = pod["spec"]
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(
        all(_expression(each, labels) for each in term.get("matchExpressions") or []) and not term.get("matchFields")
        for term in required["nodeSelectorTerms"]
    )


def _choose(options: list[Group], pod: dict[str, Any], priorities: Mapping[int, list[str]]) -> Group:
    """The priority expander, then least waste. As in the original, groups that no pattern names lose to those named."""
    for priority in sorted(priorities, reverse=True):
        named = [group for group in options if any(re.search(each, group.name) for each in priorities[priority])]
        if named:
            options = named
            break
    wanted = requests(pod)

    def waste(group: Group) -> tuple[float, str]:
        shares = [1 - wanted.get(name, 0) / group.resources[name] for name in ("cpu", "memory")]
        return sum(shares), group.name

    return min(options, key=waste)


def _growth(name: str, bins: list[_Bin]) -> Growth:
    return Growth(name, len(bins), tuple(pod for each in bins for pod in each.pods))


def _unschedulable(pod: dict[str, Any]) -> bool:
    if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(
        each["type"] == "PodScheduled" and each["status"] == "False" and each.get("reason") == "Unschedulable"
        for each in conditions
    )


def _keeps(pod: dict[str, Any]) -> bool:
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return False
    if "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {}):
        return False
    owners = pod["metadata"].get("ownerReferences") or []
    return not any(owner["kind"] == "DaemonSet" for owner in owners)


def _requests(container: dict[str, Any]) -> dict[str, int]:
    resources = container.get("resources") or {}
    asked = (resources.get("limits") or {}) | (resources.get("requests") or {})
    return {name: amount(str(value), name) for name, value in asked.items()}


def _tolerated(toleration: dict[str, Any], key: str, value: str, effect: str) -> bool:
    if toleration.get("effect") not in (None, "", effect):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", key)
    return toleration.get("key") == key and (toleration.get("value") or "") == value


def _expression(expression: dict[str, Any], labels: Mapping[str, str]) -> bool:
    present, value, values = expression["key"] in labels, labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
        case "Gt":
            return present and int(value or 0) > int(values[0])
        case "Lt":
            return present and int(value or 0) < int(values[0])
    return False


def _pod_name(pod: dict[str, Any]) -> str:
    return f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"
