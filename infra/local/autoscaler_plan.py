"""What the stand-in autoscaler decides, as pure functions: which group grows for which pods, which machine goes back.

It follows the cluster-autoscaler where one can see it from outside: it simulates each pending pod on the node template
that a group's tags describe, lets machines that are on their way take pods first, asks the priority expander's
ConfigMap, then least waste, and gives back only machines that hold nothing but DaemonSet and mirror pods.
Source: kubernetes/autoscaler, cluster-autoscaler/FAQ.md and cloudprovider/aws/README.md.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from infra import scheduling
from infra.local.aws import Group
from tidepool.capacity import Taint
from tidepool.objects import condition, is_over
from tidepool.requests import amount, amounts, requested

NOT_READY = "node.kubernetes.io/not-ready"


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
    rooms: list[Room],
    priorities: Mapping[int, list[str]],
) -> list[Growth]:
    """Which groups to raise. `rooms`: the machines that are there or on their way; they take pods first."""
    rooms = [dataclasses.replace(room, free=dict(room.free)) for room in rooms]
    new: list[tuple[Group, Room, list[str]]] = []
    for pod in sorted(unschedulable, key=name_of):
        if any(room.take(pod) for room in rooms):
            continue
        taker = next((pods for _, room, pods in new if room.take(pod)), None)
        if taker is not None:
            taker.append(name_of(pod))
            continue
        grown = collections.Counter(group.name for group, _, _ in new)
        options = [
            group
            for group in groups
            if template(group).fits(pod)
            and max(group.desired, len(group.instances)) + grown[group.name] < group.maximum
        ]
        if options:
            chosen = _choose(options, pod, priorities)
            room = template(chosen)
            room.take(pod)
            new.append((chosen, room, [name_of(pod)]))
    grown = collections.Counter(group.name for group, _, _ in new)
    return [
        Growth(name, count, tuple(pod for group, _, pods in new if group.name == name for pod in pods))
        for name, count in grown.items()
    ]


def unhelped(unschedulable: list[dict[str, Any]], rooms: list[Room]) -> list[dict[str, Any]]:
    """The pods that the machines which are there, or on their way, don't take."""
    rooms = [dataclasses.replace(room, free=dict(room.free)) for room in rooms]
    return [pod for pod in sorted(unschedulable, key=name_of) if not any(room.take(pod) for room in rooms)]


def reasons(pod: dict[str, Any], groups: list[Group], in_backoff: Collection[str]) -> str:
    """Why no group grows for the pod, in the cluster-autoscaler's words: how many groups for which reason."""
    found: collections.Counter[str] = collections.Counter()
    for group in groups:
        if group.name in in_backoff:
            found["in backoff after failed scale-up"] += 1
        elif max(group.desired, len(group.instances)) >= group.maximum:
            found["max node group size reached"] += 1
        else:
            found.update(template(group).refusals(pod))
    return ", ".join(f"{count} {reason}" for reason, count in sorted(found.items()))


def template(group: Group) -> Room:
    """A machine of the group as its tags describe it."""
    return Room(group.labels, [Taint(key, *taint) for key, taint in group.taints.items()], dict(group.resources))


def rest(node: dict[str, Any], pods: list[dict[str, Any]]) -> Room:
    """What is left of a machine that is there, beside the pods on it."""
    spec = node["spec"]
    taints = [
        Taint(each["key"], each.get("value", ""), each["effect"])
        for each in spec.get("taints") or []
        if each["key"] != NOT_READY  # it goes a moment after the node got ready
    ]
    if spec.get("unschedulable"):
        taints.append(Taint("node.kubernetes.io/unschedulable", "", "NoSchedule"))
    free = amounts(node["status"]["allocatable"])
    for pod in pods:
        if pod["spec"].get("nodeName") == node["metadata"]["name"] and not is_over(pod):
            for name, value in requests(pod).items():
                free[name] = free.get(name, 0) - value
    return Room(node["metadata"].get("labels") or {}, taints, free, node["metadata"]["name"])


def equipped(node: dict[str, Any], group: Group) -> bool:
    """Whether the node offers each kind of resource that the group promises: GPUs come after it is Ready."""
    there = node["status"]["allocatable"]
    return all(amount(there.get(name, "0"), name) for name, promised in group.resources.items() if promised)


def idle(node: str, pods: list[dict[str, Any]]) -> bool:
    """Whether nothing on the node keeps it: only finished pods, DaemonSet pods and mirror pods are there."""
    return not any(_keeps(pod) for pod in pods if pod["spec"].get("nodeName") == node)


def may_shrink(group: Group, leaving: int) -> bool:
    """Whether the group stays at or above its minimum after `leaving` more machines have gone, and this one."""
    return group.desired - leaving > group.minimum


@dataclass(frozen=True)
class Room:
    """Room for pods on one machine. free: cpu in millicores, the rest in base units; name: empty before it is there."""

    labels: Mapping[str, str]
    taints: list[Taint]
    free: dict[str, int]
    name: str = ""

    def fits(self, pod: dict[str, Any]) -> bool:
        """Whether the pod may and can run here."""
        return (
            self._tolerated_by(pod)
            and self._matched_by(pod)
            and all(self.free.get(name, 0) >= value for name, value in requests(pod).items())
        )

    def refusals(self, pod: dict[str, Any]) -> list[str]:
        """Why the pod can't run here, in the scheduler's words: what its first filter that says no says."""
        if not self._tolerated_by(pod):
            return ["node(s) had untolerated taint(s)"]
        if not self._matched_by(pod):
            return ["node(s) didn't match Pod's node affinity/selector"]
        short = [name for name, value in requests(pod).items() if self.free.get(name, 0) < value]
        return ["Too many pods" if name == "pods" else f"Insufficient {name}" for name in short]

    def take(self, pod: dict[str, Any]) -> bool:
        """Put the pod here if it fits; whether it did."""
        if not self.fits(pod):
            return False
        for name, value in requests(pod).items():
            self.free[name] = self.free.get(name, 0) - value
        return True

    def _tolerated_by(self, pod: dict[str, Any]) -> bool:
        return not any(scheduling.untolerated(pod["spec"], self.taints))

    def _matched_by(self, pod: dict[str, Any]) -> bool:
        fields = {"metadata.name": (self.name,)} if self.name else {}
        return scheduling.matches(pod["spec"], scheduling.exactly(self.labels), fields)


def requests(pod: dict[str, Any]) -> dict[str, int]:
    """What the scheduler reckons a pod takes, and that it is one pod."""
    return {**requested(pod), "pods": 1}


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


def _unschedulable(pod: dict[str, Any]) -> bool:
    if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
        return False
    scheduled = condition(pod, "PodScheduled")
    return scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"


def _keeps(pod: dict[str, Any]) -> bool:
    if is_over(pod):
        return False
    if "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {}):
        return False
    owners = pod["metadata"].get("ownerReferences") or []
    return not any(owner["kind"] == "DaemonSet" for owner in owners)


def name_of(pod: dict[str, Any]) -> str:
    """As namespace/name."""
    return f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"
