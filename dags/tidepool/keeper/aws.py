"""Machines as AWS knows them: when each was asked for, launched and gone, and that it will be taken back.

Two threads write to the ledger. One asks EC2 and Auto Scaling every few seconds, and finds out afterwards what happened
while nobody asked. The other waits for what EventBridge sends to a queue, which is there at once. boto3 is needed only
here: clients are made by `connect`.
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidepool.keeper import aws_facts
from tidepool.keeper.aws_facts import Group, NoticeError, Object
from tidepool.ledger.attribution import Billing
from tidepool.ledger.events import MACHINE_KINDS, Event, Ledger
from tidepool.ledger.journal import Recorder

if TYPE_CHECKING:
    from tidepool.ledger.store import Store

EVERY_SECONDS = 20.0
MISSED_LOOKS = 3
"""EC2 may not know of a machine for a moment; one that it did not name so often in a row is gone."""

BILLING = Billing(minimum_seconds=60)
"""EC2 bills Linux by the second, a minute at least."""

_WAIT_SECONDS = 20  # the longest that SQS lets one wait
_LONGEST_PAUSE = 60.0
_log = logging.getLogger("tidepool.aws")


@dataclass(frozen=True)
class Clients:
    """boto3's."""

    ec2: Any
    autoscaling: Any
    sqs: Any
    pricing: Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the cloud can be asked; none: it is not asked."""
    parser.add_argument("--aws-cluster", metavar="NAME", help="the EKS cluster whose machines EC2 is asked about")
    parser.add_argument("--aws-region", metavar="REGION", help="where it is; else what the environment says")
    parser.add_argument("--aws-queue", metavar="URL", help="SQS queue to which EventBridge sends EC2's notices")


def parts(
    arguments: argparse.Namespace, ledger: Recorder | Store, instance_types: Callable[[], Iterable[str]]
) -> list[tuple[str, Callable[[], None]]]:
    """What asks AWS, by the command line's arguments: name and what runs forever, each for a thread of its own.

    instance_types: whose prices are asked for, if the ledger is a database, which keeps them.
    """
    if not arguments.aws_cluster:
        return []
    clients = connect(arguments.aws_region)
    fleet = Fleet(clients.ec2, clients.autoscaling, arguments.aws_cluster, ledger)
    found = [("machines", fleet.run)]
    if arguments.aws_queue:
        found.append(("notices", Notices(clients.sqs, arguments.aws_queue, fleet, ledger).run))
    if not isinstance(ledger, Recorder):
        from tidepool.keeper.aws_prices import Prices  # a file needs no SQLAlchemy

        region = str(clients.ec2.meta.region_name)
        found.append(("prices", Prices(clients.pricing, clients.ec2, region, ledger, instance_types).run))
    return found


def connect(region: str | None = None, endpoint: str | None = None) -> Clients:
    """Clients with the credentials that the environment gives (Pod Identity in EKS). endpoint: for tests."""
    import boto3  # the keeper of any other cluster has none
    from botocore.config import Config

    config = Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=5, read_timeout=30)

    def client(name: Any, where: str | None = region) -> Any:
        return boto3.client(name, region_name=where, config=config, endpoint_url=endpoint)

    # The Pricing API is in few regions; the prices of all can be had there.
    return Clients(client("ec2"), client("autoscaling"), client("sqs"), client("pricing", "us-east-1"))


class Fleet:
    """The machines of a cluster. clock: Unix seconds."""

    def __init__(
        self, ec2: Any, autoscaling: Any, cluster: str, ledger: Ledger, clock: Callable[[], float] = time.time
    ) -> None:
        self._ec2 = ec2
        self._autoscaling = autoscaling
        self._cluster = cluster
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._groups: dict[str, Group] = {}
        self._about: dict[str, dict[str, Any]] = {}
        self._over: set[str] = set()
        self._missed: dict[str, int] = {}
        self._looked: float | None = None

    def run(self) -> None:
        """Look every few seconds, forever."""
        forever(self.look, EVERY_SECONDS, "asking EC2 about machines")

    def look(self) -> None:
        """Once: write down what has happened since, and what earlier keepers did not see."""
        now = self._clock()
        if self._looked is None:
            self._looked = self._catch_up()
        warmed = self._read_groups()
        instances = {str(each["InstanceId"]): each for each in self._instances()}
        self._take([each for key, each in instances.items() if key not in warmed])
        for key, each in instances.items():
            if aws_facts.is_ended(each) and key in self._about and key not in self._over:
                self._end(aws_facts.ended(each, self._about[key], now, self._looked))
        self._vanish([key for key in self._about if key not in self._over and key not in instances], now)
        for key in [key for key in self._over if key not in instances]:  # EC2 has forgotten it, and so may we
            self._about.pop(key, None)
            self._over.discard(key)
        self._looked = now

    def about(self, machine: str) -> dict[str, Any] | None:
        """What an event says of the machine; None if it is none of this cluster's. Asks EC2 about one it never saw."""
        with self._lock:
            known = self._about.get(machine)
        if known is not None:
            return known
        if not self._groups:
            self._read_groups()
        try:
            found = list(self._instances(InstanceIds=[machine]))
        except Exception as error:
            if "InvalidInstanceID" in str(error):
                return None
            raise
        ours = [each for each in found if aws_facts.tags_of(each).get(aws_facts.CLUSTER + self._cluster) == "owned"]
        self._take(ours)
        return self._about.get(machine)

    def _catch_up(self) -> float:
        """Know the machines that earlier keepers saw; when one of them last saw anything."""
        names = ("machine", "pool", "market", "instance_type", "zone", "volume_gib")
        for event in self._ledger.not_gone("machine.launched"):
            self._about[event.machine] = {name: getattr(event, name) for name in names}
        return self._ledger.last_time(MACHINE_KINDS)

    def _take(self, instances: Iterable[Object]) -> None:
        """Write down machines that are new: when they were asked for, and launched."""
        unknown = [each for each in instances if str(each["InstanceId"]) not in self._about]
        # One that came and went between two looks has cost something too.
        new = [each for each in unknown if aws_facts.is_billed(each) or aws_facts.is_ended(each)]
        if not new:
            return
        volumes = self._volumes([str(each["InstanceId"]) for each in new])
        names = {aws_facts.tags_of(each).get(aws_facts.GROUP_TAG, "") for each in new}
        asked = aws_facts.asked(activity for name in names if name for activity in self._activities(name))
        for each in new:
            key = str(each["InstanceId"])
            about = aws_facts.machine(each, self._groups, volumes.get(key, 0.0))
            launched = aws_facts.launched(each, about)
            if key in asked:
                self._ledger.record(Event(min(asked[key], launched.time), "machine.asked", **about))
            self._ledger.record(launched)
            with self._lock:
                self._about[key] = about
            _log.info("%s: %s %s of pool %s", key, about["market"], about["instance_type"], about["pool"] or "none")

    def _vanish(self, missing: list[str], now: float) -> None:
        """What EC2 names no more has ended, nobody knows when."""
        self._missed = {key: self._missed.get(key, 0) + 1 for key in missing}
        for key in [key for key, times in self._missed.items() if times >= MISSED_LOOKS]:
            earliest = min(self._looked or now, now)
            self._end([Event(now, "machine.gone", reconstructed=True, earliest=earliest, **self._about[key])])

    def _end(self, events: list[Event]) -> None:
        for event in events:
            self._ledger.record(event)
            self._over.add(event.machine)

    def _read_groups(self) -> set[str]:
        """Know the groups as they are; the machines in them that nobody asked for yet."""
        wanted = [{"Name": f"tag:{aws_facts.AUTOSCALER}{self._cluster}", "Values": ["owned"]}]
        pages = self._autoscaling.get_paginator("describe_auto_scaling_groups").paginate(Filters=wanted)
        described = [each for page in pages for each in page["AutoScalingGroups"]]
        with self._lock:
            self._groups = {each["AutoScalingGroupName"]: aws_facts.group(each) for each in described}
        return {machine for each in described for machine in aws_facts.warmed(each)}

    def _instances(self, **which: Any) -> Iterable[Object]:
        chosen = which or {"Filters": [{"Name": f"tag:{aws_facts.CLUSTER}{self._cluster}", "Values": ["owned"]}]}
        pages = self._ec2.get_paginator("describe_instances").paginate(**chosen)
        return (each for page in pages for reservation in page["Reservations"] for each in reservation["Instances"])

    def _activities(self, group: str) -> Iterable[Object]:
        """The last hundred; what is older is of machines that are known."""
        found = self._autoscaling.describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=100)
        activities: list[Object] = found["Activities"]
        return activities

    def _volumes(self, machines: list[str]) -> Mapping[str, float]:
        """GiB of the volumes of each."""
        found: dict[str, float] = {}
        for start in range(0, len(machines), 100):
            wanted = [{"Name": "attachment.instance-id", "Values": machines[start : start + 100]}]
            for page in self._ec2.get_paginator("describe_volumes").paginate(Filters=wanted):
                for volume in page["Volumes"]:
                    for attached in volume["Attachments"]:
                        key = str(attached["InstanceId"])
                        found[key] = found.get(key, 0.0) + volume["Size"]
        return found


class Notices:
    """What EventBridge sends to the queue. A message is deleted once it is in the ledger, and not before."""

    def __init__(self, sqs: Any, queue: str, fleet: Fleet, ledger: Ledger) -> None:
        self._sqs = sqs
        self._queue = queue
        self._fleet = fleet
        self._ledger = ledger

    def run(self) -> None:
        """Wait for messages, forever."""
        forever(self.take, 0.0, "waiting for EC2's notices")

    def take(self, wait_seconds: int = _WAIT_SECONDS) -> int:
        """Take what is there, or comes within so long; how many messages that was."""
        answer = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10, WaitTimeSeconds=wait_seconds)
        messages = answer.get("Messages") or []
        for message in messages:
            try:
                self._write(message["Body"])
            except NoticeError as error:
                _log.warning("a message of the queue is dropped: %s", error)
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return len(messages)

    def _write(self, body: str) -> None:
        told = aws_facts.notice(body)
        # The rule can't choose by tags: the queue tells of every machine of the account.
        about = self._fleet.about(told.machine) if told is not None else None
        if told is None or about is None:
            return
        self._ledger.record(Event(told.time, told.kind, **about))
        _log.info("%s: %s", told.machine, told.kind)


def forever(step: Callable[[], object], pause: float, what: str) -> None:
    """Step after step; what fails is said once and tried again, less and less often."""
    said, wait = "", pause
    while True:
        try:
            step()
            said, wait = "", pause
        except Exception as error:  # noqa: BLE001 - AWS may be away, or a right be missing: the rest goes on
            words = f"{type(error).__name__}: {error}"
            if words != said:
                _log.warning("%s failed, trying again: %s", what, words)
            said, wait = words, min(max(2 * wait, 1.0), _LONGEST_PAUSE)
        time.sleep(wait)
