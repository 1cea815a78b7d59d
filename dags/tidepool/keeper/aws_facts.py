"""What AWS says happened to a machine, as events. Pure: from what boto3 answers and EventBridge sends; Unix seconds.

A machine is its EC2 instance, whose id its node has too: what both tell is one fact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidepool.capacity import POOL_LABEL
from tidepool.ledger.events import Event

AUTOSCALER = "k8s.io/cluster-autoscaler/"
CLUSTER = "kubernetes.io/cluster/"
"""Begins of the keys of tags, before the cluster's name: of its groups, and of their machines."""

GROUP_TAG = "aws:autoscaling:groupName"
RECLAIM = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
STATE = "EC2 Instance State-change Notification"
DETAIL_TYPES = (RECLAIM, REBALANCE, STATE)
"""What EventBridge is asked to send."""

_BILLED = ("pending", "running")
_ENDED = ("shutting-down", "terminated")
_AT = re.compile(r"\bAt (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")
_ENDED_AT = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:UTC|GMT)\)")
_INSTANCE = re.compile(r"\bi-[0-9a-f]{8,17}\b")

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """An Auto Scaling Group. instance_type: its first, where EC2 says none of a machine's."""

    name: str
    pool: str
    spot: bool
    instance_type: str


def group(described: Object) -> Group:
    """Of an entry of DescribeAutoScalingGroups."""
    tags = tags_of(described)
    policy = described.get("MixedInstancesPolicy") or {}
    types = [each.get("InstanceType", "") for each in (policy.get("LaunchTemplate") or {}).get("Overrides") or []]
    shares = policy.get("InstancesDistribution") or {}
    all_spot = shares.get("OnDemandPercentageAboveBaseCapacity") == 0 and not shares.get("OnDemandBaseCapacity")
    pool = tags.get(f"{AUTOSCALER}node-template/label/{POOL_LABEL}") or tags.get(POOL_LABEL, "")
    return Group(str(described["AutoScalingGroupName"]), pool, all_spot, types[0] if types else "")


def warmed(described: Object) -> set[str]:
    """The machines of a group that are stopped, or will be, until somebody needs them: nobody was asked for these."""
    instances = described.get("Instances") or ()
    return {str(each["InstanceId"]) for each in instances if str(each.get("LifecycleState", "")).startswith("Warmed")}


def tags_of(thing: Object) -> dict[str, str]:
    """Its tags by key."""
    return {str(tag["Key"]): str(tag["Value"]) for tag in thing.get("Tags") or ()}


def machine(instance: Object, groups: Mapping[str, Group], volume_gib: float = 0.0) -> dict[str, Any]:
    """What an Event says of a machine, of an entry of DescribeInstances."""
    tags = tags_of(instance)
    known = groups.get(tags.get(GROUP_TAG, ""))
    is_spot = instance.get("InstanceLifecycle") == "spot" or (known is not None and known.spot)
    return {
        "machine": str(instance["InstanceId"]),
        "pool": tags.get(POOL_LABEL) or (known.pool if known else ""),
        "market": "spot" if is_spot else "on-demand",
        "instance_type": str(instance.get("InstanceType") or (known.instance_type if known else "")),
        "zone": str((instance.get("Placement") or {}).get("AvailabilityZone") or ""),
        "volume_gib": volume_gib,
    }


def is_billed(instance: Object) -> bool:
    """EC2 bills it, or will within seconds."""
    return (instance.get("State") or {}).get("Name") in _BILLED


def is_ended(instance: Object) -> bool:
    """It will never run again."""
    return (instance.get("State") or {}).get("Name") in _ENDED


def launched(instance: Object, about: Mapping[str, Any]) -> Event:
    """machine.launched."""
    return Event(instance["LaunchTime"].timestamp(), "machine.launched", **about)


def ended(instance: Object, about: Mapping[str, Any], now: float, last_seen: float) -> list[Event]:
    """machine.gone, and machine.reclaimed before it if EC2 says that it took the machine back.

    last_seen: it was there then, where EC2 does not say when it ended.
    """
    said = _ENDED_AT.search(str(instance.get("StateTransitionReason") or ""))
    told = datetime.fromisoformat(f"{said[1]}+00:00").timestamp() if said else None
    when: dict[str, Any] = {"time": told} if told is not None else {"time": now, "earliest": min(last_seen, now)}
    found = [Event(kind="machine.gone", reconstructed=told is None, **when, **about)]
    if (instance.get("StateReason") or {}).get("Code") == "Server.SpotInstanceTermination":
        found.insert(0, Event(kind="machine.reclaimed", reconstructed=True, **when, **about))
    return found


def asked(activities: Iterable[Object]) -> dict[str, float]:
    """When each machine was asked for, of DescribeScalingActivities: the earliest time that the cause of its launch
    names is that of the change of the desired capacity."""
    found: dict[str, float] = {}
    for activity in activities:
        named = _INSTANCE.search(str(activity.get("Description") or ""))
        if named is None or not str(activity["Description"]).startswith("Launching"):
            continue
        begun = activity["StartTime"].timestamp()
        times = [datetime.fromisoformat(each).timestamp() for each in _AT.findall(str(activity.get("Cause") or ""))]
        found[named[0]] = min([each for each in times if each > begun - _LONGEST] + [begun])
    return found


_LONGEST = 3600.0  # before a launch; a cause may also name when a policy was made


@dataclass(frozen=True)
class Notice:
    """What EventBridge told of a machine. kind: of the event that it is. time: when it happened, as AWS says."""

    kind: str
    machine: str
    time: float


class NoticeError(ValueError):
    """A message is none that this queue is for; the text says why."""


def notice(body: str) -> Notice | None:
    """A message of the queue; None for what is no fact about money, such as a machine that has come to run.

    Raises NoticeError.
    """
    try:
        told = json.loads(body)
        kind, detail = told["detail-type"], told["detail"]
        found, when = str(detail["instance-id"]), datetime.fromisoformat(told["time"]).timestamp()
    except (ValueError, TypeError, KeyError) as error:
        raise NoticeError(f"no notice of EventBridge: {type(error).__name__}: {error}") from error
    if kind not in DETAIL_TYPES or not _INSTANCE.fullmatch(found):
        raise NoticeError(f"no notice of {', '.join(DETAIL_TYPES)}: {kind!r} of {found!r}")
    if kind == RECLAIM:
        return Notice("machine.reclaimed", found, when)
    if kind == REBALANCE:
        return Notice("machine.at_risk", found, when)
    return Notice("machine.gone", found, when) if detail.get("state") in _ENDED else None
