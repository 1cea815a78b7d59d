"""An account of machines and pods that is none of tidepool's: from the AWS API's and the API server's own words alone.

It shares no code with the ledger: what both say must agree all the same.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes
from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

PRICES = Path(__file__).resolve().parents[2] / "dags" / "tidepool" / "prices" / "ec2-us-east-1.csv"
LOOK_SECONDS = 0.1
_STAMP = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


@dataclass
class Instance:
    """An EC2 instance. usd_per_hour: from the price list. ended: None while it runs."""

    id: str
    group: str
    launched: float
    ended: float | None = None
    seen: float = 0.0

    def seconds(self, since: float, until: float) -> float:
        """How long it ran between two times."""
        return max(0.0, min(until, until if self.ended is None else self.ended) - max(since, self.launched))


@dataclass
class Pod:
    """A pod, with when it came to what, as seen or as its own stamps have it; None: it has not."""

    uid: str
    name: str
    task: str
    run: str
    node: str = ""
    bound: float | None = None
    running: float | None = None
    ended: float | None = None
    gone: float | None = None
    phase: str = ""

    @property
    def held(self) -> float:
        """Seconds for which it had its machine; until now where it still has."""
        return 0.0 if self.bound is None else (self.ended or self.gone or time.time()) - self.bound


class Account:
    """Follows both APIs from its start to its end, past everything that a test kills. `with` stops it.

    gaps: how often an API server that was started again could not tell what happened in between; what is gone since
    then is known to be, and not when it ended.
    """

    def __init__(self, local: Any) -> None:
        self._api, self._ec2, self._groups = local.api, local.aws.ec2, local.aws.autoscaling
        self._stopped = threading.Event()
        self._version = ""
        self.instances: dict[str, Instance] = {}
        self.pods: dict[str, Pod] = {}
        self.gaps = 0
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._machines, self._follow)]

    def __enter__(self) -> Account:
        self._look()
        self._list()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)
        self._look()

    def usd(self, since: float, until: float) -> float:
        """What all machines cost between two times, by the price list."""
        ran = {each.id: each.seconds(since, until) for each in self.instances.values()}
        # The API still tells of terminated ones whose group was deleted long ago.
        return sum(ran[each.id] * self.price(each) / 3600 for each in self.instances.values() if ran[each.id])

    def price(self, instance: Instance) -> float:
        """USD per hour of an instance's type, in the market that its group buys in."""
        with PRICES.open(encoding="utf-8") as file:
            listed = {row["instance_type"]: row for row in csv.DictReader(file)}
        found = self._groups.describe_auto_scaling_groups(AutoScalingGroupNames=[instance.group])
        policy = found["AutoScalingGroups"][0]["MixedInstancesPolicy"]
        kind = policy["LaunchTemplate"]["Overrides"][0]["InstanceType"]  # which is what the local cloud runs
        on_demand = policy.get("InstancesDistribution", {}).get("OnDemandPercentageAboveBaseCapacity", 100) == 100
        return float(listed[kind]["on_demand_usd_per_hour" if on_demand else "spot_usd_per_hour"])

    # Machines

    def _machines(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            with contextlib.suppress(BotoCoreError):  # on a busy machine an answer may come too late
                self._look()

    def _look(self) -> None:
        began = time.time()
        described = self._ec2.describe_instances()
        now = time.time()
        for each in (one for reservation in described["Reservations"] for one in reservation["Instances"]):
            tags = {tag["Key"]: tag["Value"] for tag in each.get("Tags", [])}
            name = each["InstanceId"]
            if name not in self.instances:
                if "aws:autoscaling:groupName" not in tags:
                    continue
                group = tags["aws:autoscaling:groupName"]  # a terminated one has it no more
                self.instances[name] = Instance(name, group, each["LaunchTime"].timestamp())
            found = self.instances[name]
            if each["State"]["Name"] in ("pending", "running"):
                found.seen = began
            elif found.ended is None:
                stamp = _STAMP.search(each.get("StateTransitionReason", ""))
                moment = datetime.fromisoformat(f"{stamp[1]}+00:00").timestamp() if stamp else found.seen
                first, last = max(found.seen, moment), min(now, moment + 1)
                found.ended = (min(first, last) + last) / 2

    # Pods

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                self._watch()
            except kubernetes.client.ApiException as error:
                if error.status == 410:
                    self.gaps += 1
                    self._list()
                self._stopped.wait(0.1)
            except (HTTPError, OSError, ValueError):
                self._stopped.wait(0.1)

    def _list(self) -> None:
        answer = self._api.list_pod_for_all_namespaces(label_selector="tidepool.dev/team", _preload_content=False)
        found, now = json.loads(answer.data), time.time()
        for pod in found["items"]:
            self._take("ADDED", pod, now)
        here = {pod["metadata"]["uid"] for pod in found["items"]}
        for each in self.pods.values():
            if each.uid not in here:
                each.gone = each.gone or now
        self._version = found["metadata"]["resourceVersion"]

    def _watch(self) -> None:
        answer = self._api.list_pod_for_all_namespaces(
            label_selector="tidepool.dev/team",
            watch=True,
            resource_version=self._version,
            timeout_seconds=5,
            _preload_content=False,
            _request_timeout=(3, 10),
        )
        rest = b""
        for chunk in answer.stream(amt=None):
            *lines, rest = (rest + chunk).split(b"\n")
            for change in map(json.loads, filter(None, lines)):
                if change["type"] == "ERROR":
                    raise kubernetes.client.ApiException(status=change["object"].get("code"))
                self._version = change["object"]["metadata"]["resourceVersion"]
                self._take(change["type"], change["object"], time.time())

    def _take(self, kind: str, pod: dict[str, Any], now: float) -> None:
        metadata, status = pod["metadata"], pod.get("status") or {}
        said = metadata.get("annotations") or {}
        task, run = (str(said.get(f"tidepool.dev/owner-{what}", "")) for what in ("task", "run"))
        found = self.pods.setdefault(metadata["uid"], Pod(metadata["uid"], metadata["name"], task, run))
        found.node, found.phase = pod["spec"].get("nodeName") or "", str(status.get("phase", ""))
        for condition in status.get("conditions") or []:
            if condition["type"] == "PodScheduled" and condition["status"] == "True":
                found.bound = found.bound or _moment(condition.get("lastTransitionTime"), now)
        state = next((each.get("state") or {} for each in status.get("containerStatuses") or []), {})
        over = state.get("terminated")
        if over or "running" in state:
            found.running = found.running or _moment((over or state["running"]).get("startedAt"), now)
        if over or found.phase in ("Succeeded", "Failed"):
            found.ended = found.ended or _moment((over or {}).get("finishedAt"), now)
        if kind == "DELETED":
            found.gone = found.gone or now


def _moment(stamp: str | None, now: float) -> float:
    """When it was: as seen, but in the second that its stamp names, whose fraction is cut off."""
    if not stamp:
        return now
    second = datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()
    return min(now, second + 1)
