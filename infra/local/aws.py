"""What the local cloud reads from the AWS API: Auto Scaling Groups with the autoscaler's own tags, and instances."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import boto3
from botocore.config import Config

from infra.aws import user_data
from infra.local import addresses
from infra.local.control_plane import AWS_ENVIRONMENT
from tidepool.requests import amounts

PREFIX = "k8s.io/cluster-autoscaler/"
_TEMPLATE = PREFIX + "node-template/"
_ALIVE = ("pending", "running")
_UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
DEFAULT_UNNEEDED_SECONDS = 600.0


@dataclass(frozen=True)
class Group:
    """An Auto Scaling Group and the node template that its tags describe.

    resources: cpu in millicores, all others in their base unit. taints: key to (value, effect).
    """

    name: str
    minimum: int
    maximum: int
    desired: int
    instances: tuple[str, ...]
    instance_types: tuple[str, ...]
    market: str
    zones: tuple[str, ...]
    launch_template: str
    labels: dict[str, str]
    taints: dict[str, tuple[str, str]]
    resources: dict[str, int]
    unneeded_seconds: float


@dataclass(frozen=True)
class Alive:
    """An instance that is there. instance_type: empty where EC2 does not say. launched: Unix seconds."""

    instance_type: str
    launched: float


class Aws:
    """The AWS API at `url`, which must be on this machine."""

    def __init__(self, url: str = addresses.MOTO) -> None:
        addresses.require_local(url)
        session = boto3.Session(
            aws_access_key_id=AWS_ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=AWS_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
            region_name=AWS_ENVIRONMENT["AWS_REGION"],
        )
        config = Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=20, proxies={})
        self.ec2 = session.client("ec2", endpoint_url=url, config=config)
        self.autoscaling = session.client("autoscaling", endpoint_url=url, config=config)

    def groups(self, cluster: str) -> list[Group]:
        """The groups that carry the autoscaler's tag of this cluster."""
        pages = self.autoscaling.get_paginator("describe_auto_scaling_groups").paginate()
        found: list[Any] = [group for page in pages for group in page["AutoScalingGroups"]]
        return [read_group(group) for group in found if f"{PREFIX}{cluster}" in _tags(group)]

    def instances(self) -> dict[str, Alive]:
        """Every instance that is alive, by instance id."""
        return {
            each["InstanceId"]: Alive(each["InstanceType"], each["LaunchTime"].timestamp())
            for each in self._described()
            if each["State"]["Name"] in _ALIVE
        }

    def ended(self, instance: str) -> float | None:
        """When EC2 says that an instance was ended: Unix seconds, cut off to whole ones; None where it does not say."""
        for each in self._described(InstanceIds=[instance]):
            return end_stamp(each.get("StateTransitionReason", ""))
        return None

    def _described(self, **which: Any) -> list[Any]:
        pages = self.ec2.get_paginator("describe_instances").paginate(**which)
        reservations = [reservation for page in pages for reservation in page["Reservations"]]
        return [instance for reservation in reservations for instance in reservation["Instances"]]

    def node_config(self, launch_template: str) -> dict[str, Any]:
        """The NodeConfig in the newest version of a launch template's user data."""
        found = self.ec2.describe_launch_template_versions(LaunchTemplateId=launch_template, Versions=["$Latest"])
        encoded = found["LaunchTemplateVersions"][0]["LaunchTemplateData"]["UserData"]
        return user_data.parse(base64.b64decode(encoded).decode())

    def scale(self, group: str, desired: int) -> None:
        """Set a group's desired capacity."""
        self.autoscaling.set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=desired)

    def give_back(self, instance: str) -> None:
        """End an instance and lower its group's desired capacity, as the cluster-autoscaler does."""
        self.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=instance, ShouldDecrementDesiredCapacity=True
        )

    def reclaim(self, instance: str) -> None:
        """End an instance as EC2 takes back a spot instance: the group's desired capacity stays."""
        self.ec2.terminate_instances(InstanceIds=[instance])


def read_group(described: dict[str, Any]) -> Group:
    """One group as the AWS API describes it; the market is the group's policy, as moto's instances don't say it."""
    tags = _tags(described)
    mixed = described["MixedInstancesPolicy"]
    template = mixed["LaunchTemplate"]
    on_demand = mixed.get("InstancesDistribution", {}).get("OnDemandPercentageAboveBaseCapacity", 100)
    taints = {}
    for key, value in _below(f"{_TEMPLATE}taint/", tags).items():
        content, _, effect = value.rpartition(":")
        taints[key] = (content, effect)
    resources = _below(f"{_TEMPLATE}resources/", tags)
    unneeded = tags.get(f"{_TEMPLATE}autoscaling-options/scaledownunneededtime")
    return Group(
        name=described["AutoScalingGroupName"],
        minimum=described["MinSize"],
        maximum=described["MaxSize"],
        desired=described["DesiredCapacity"],
        instances=tuple(each["InstanceId"] for each in described["Instances"]),
        instance_types=tuple(each["InstanceType"] for each in template.get("Overrides", [])),
        market="on-demand" if on_demand else "spot",
        zones=tuple(described["AvailabilityZones"]),
        launch_template=template["LaunchTemplateSpecification"]["LaunchTemplateId"],
        labels=_below(f"{_TEMPLATE}label/", tags),
        taints=taints,
        resources=amounts(resources),
        unneeded_seconds=seconds(unneeded) if unneeded else DEFAULT_UNNEEDED_SECONDS,
    )


def end_stamp(reason: str) -> float | None:
    """The time in an instance's StateTransitionReason, such as `User initiated (2026-11-23 05:48:48 UTC)`."""
    found = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:UTC|GMT)\)", reason)
    return datetime.fromisoformat(f"{found[1]}+00:00").timestamp() if found else None


def seconds(duration: str) -> float:
    """A Go duration such as 1m30s, in seconds."""
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is not a duration such as 90s or 10m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _tags(described: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in described["Tags"]}


def _below(prefix: str, tags: dict[str, str]) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in tags.items() if key.startswith(prefix)}
