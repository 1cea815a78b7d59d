"""The stand-in for the cluster-autoscaler, where its binary can't be had. A process of the local cloud.

It reads the same tags of the same Auto Scaling Groups and the same priority expander ConfigMap, and acts through the
same AWS calls. What it leaves out: draining machines that are used a little, and balancing between zones.

    python -m infra.local.autoscaler --cluster NAME
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import kubernetes
import yaml
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from infra.autoscaler_flags import FLAGS
from infra.local import autoscaler_plan as plan
from infra.local import paths
from infra.local.autoscaler_events import Events
from infra.local.aws import Aws, Group, seconds
from infra.local.daemon import log, ready_to_stop
from infra.local.kube import core_api
from infra.naming import AUTOSCALER_NAMESPACE, PRIORITY_CONFIG_MAP
from tidepool.objects import condition

_SCAN_SECONDS = 0.5
_PROVISION_SECONDS = seconds(FLAGS["max-node-provision-time"])
_BACKOFF_SECONDS = seconds(FLAGS["initial-node-group-backoff-duration"])
TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"


class Autoscaler:
    """One scan after another; what it remembers is since when which machine is idle or on its way."""

    def __init__(self, cluster: str, aws: Aws, api: kubernetes.client.CoreV1Api) -> None:
        self._cluster, self._aws, self._api = cluster, aws, api
        self._idle_since: dict[str, float] = {}
        self._asked_at: dict[str, float] = {}
        self._backoff_until: dict[str, float] = {}
        self._was_ready: set[str] = set()
        self._events = Events(api)

    def scan(self, now: float) -> None:
        """Look once; grow groups for pods that nothing else takes, give back what has idled long enough."""
        groups = self._aws.groups(self._cluster)
        nodes = {_instance(node): node for node in self._list(self._api.list_node)}
        pods = self._list(self._api.list_pod_for_all_namespaces)
        self._grow(groups, nodes, pods, now)
        self._shrink(groups, nodes, pods, now)
        self._events.forget_all_but(pods)

    def _grow(self, groups: list[Group], nodes: dict[str, Any], pods: list[Any], now: float) -> None:
        pending = plan.pending(pods)
        ready = [node for node in nodes.values() if _ready(node)]
        rooms = [plan.rest(node, pods) for node in ready]
        asked: dict[str, float] = {}
        for group in groups:
            self._was_ready |= {
                each for each in group.instances if _ready(nodes.get(each)) and plan.equipped(nodes[each], group)
            }
            coming = [each for each in group.instances if each not in self._was_ready]
            asked |= {each: self._asked_at.get(each, now) for each in coming}
            late = [each for each in coming if now - asked[each] > _PROVISION_SECONDS]
            for instance in late:
                log(f"{instance} of {group.name} is not Ready after {_PROVISION_SECONDS:.0f} s: giving it back")
                self._aws.give_back(instance)
                self._backoff_until[group.name] = now + _BACKOFF_SECONDS
                self._events.timed_out(group, _PROVISION_SECONDS, now)
            on_their_way = len(coming) - len(late) + max(0, group.desired - len(group.instances))
            rooms += [plan.template(group) for _ in range(on_their_way)]
        self._asked_at = asked
        if not pending:
            return
        in_backoff = {group.name for group in groups if self._backoff_until.get(group.name, 0) > now}
        usable = [group for group in groups if group.name not in in_backoff]
        grown = plan.growth(pending, usable, rooms, self._priorities())
        if not grown:  # while it asks for machines the original says no to nobody
            for pod in plan.unhelped(pending, rooms):
                self._events.not_triggered(pod, plan.reasons(pod, groups, in_backoff), now)
        for growth in grown:
            group = next(each for each in groups if each.name == growth.group)
            log(f"{growth.group}: {group.desired} -> {group.desired + growth.machines} for {', '.join(growth.pods)}")
            try:
                self._aws.scale(group.name, group.desired + growth.machines)
            except ClientError as error:
                log(f"{group.name}: {error}; backing off")
                self._backoff_until[group.name] = now + _BACKOFF_SECONDS
                self._events.failed(group, error, now)
                continue
            self._events.triggered([pod for pod in pending if plan.name_of(pod) in growth.pods], group, growth, now)

    def _shrink(self, groups: list[Group], nodes: dict[str, Any], pods: list[Any], now: float) -> None:
        idle: dict[str, float] = {}
        for group in groups:
            leaving = 0
            for instance in group.instances:
                node = nodes.get(instance)
                if node is None or not _ready(node) or not plan.idle(node["metadata"]["name"], pods):
                    continue
                idle[instance] = self._idle_since.get(instance, now)
                if now - idle[instance] >= group.unneeded_seconds and plan.may_shrink(group, leaving):
                    leaving += self._give_back(instance, node["metadata"]["name"], group)
        self._idle_since = idle

    def _give_back(self, instance: str, node: str, group: Group) -> bool:
        """Keep new pods off first, look again, and only then end the machine."""
        self._taint(node)
        if not plan.idle(node, self._list(self._api.list_pod_for_all_namespaces, fresh=True)):
            self._taint(node, remove=True)
            return False
        log(f"{group.name}: {instance} was idle for {group.unneeded_seconds:.0f} s: giving it back")
        self._aws.give_back(instance)
        return True

    def _taint(self, node: str, remove: bool = False) -> None:
        found = self._api.read_node(node, _request_timeout=5)
        kept = [taint for taint in found.spec.taints or [] if taint.key != TO_BE_DELETED]
        if not remove:
            kept.append(kubernetes.client.V1Taint(key=TO_BE_DELETED, value=str(int(time.time())), effect="NoSchedule"))
        body = {"metadata": {"resourceVersion": found.metadata.resource_version}, "spec": {"taints": kept}}
        self._api.patch_node(node, body, _request_timeout=5)

    def _priorities(self) -> dict[int, list[str]]:
        try:
            found = self._api.read_namespaced_config_map(PRIORITY_CONFIG_MAP, AUTOSCALER_NAMESPACE, _request_timeout=5)
        except kubernetes.client.ApiException as error:
            if error.status == 404:
                return {}
            raise
        return {int(key): list(value) for key, value in (yaml.safe_load(found.data["priorities"]) or {}).items()}

    def _list(self, call: Any, fresh: bool = False) -> list[Any]:
        """All objects; from the API server's cache unless they must be `fresh`."""
        listed = call(_request_timeout=10) if fresh else call(resource_version="0", _request_timeout=10)
        return list(self._api.api_client.sanitize_for_serialization(listed)["items"])


def _instance(node: dict[str, Any]) -> str:
    return str(node["spec"].get("providerID", "")).rpartition("/")[2]


def _ready(node: dict[str, Any] | None) -> bool:
    return condition(node, "Ready").get("status") == "True"


def main() -> None:
    """Scan until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", required=True)
    arguments = parser.parse_args()
    autoscaler = Autoscaler(arguments.cluster, Aws(), core_api(paths.state() / "cluster-autoscaler.kubeconfig"))
    stop = ready_to_stop()
    while not stop.wait(_SCAN_SECONDS):
        try:
            autoscaler.scan(time.monotonic())
        except (BotoCoreError, ClientError, HTTPError, kubernetes.client.ApiException, OSError) as error:
            log(f"waiting: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
