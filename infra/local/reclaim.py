"""Taking a spot machine back, as EC2 does: with a notice, on which a termination handler drains it, or without.

The drain stands in for aws-node-termination-handler: cordon, its taint, then the Eviction API for every pod.
"""

from __future__ import annotations

import time
from typing import Any

import kubernetes

from infra.local.aws import Aws
from infra.local.errors import LocalError
from infra.local.kube import core_api
from infra.local.progress import Progress
from infra.local.state import Cloud
from tidepool.capacity import TEAM_LABEL
from tidepool.outcome import SPOT_TAINTS


class ReclaimError(LocalError):
    """There is no such spot machine; the message says which there are."""


def reclaim(cloud: Cloud, machine: str, notice_seconds: float, progress: Progress, is_announced: bool = False) -> str:
    """Take back `machine`, or the spot machine whose job runs longest; its instance id. Blocks until it is ended.

    is_announced: the node says that it is for a spot machine's notice that it is drained, and not for anything else.
    """
    aws, api = Aws(), core_api(cloud.kubeconfig)
    spot = [each for group in aws.groups(cloud.cluster) if group.market == "spot" for each in group.instances]
    chosen = machine or _longest_running(api, spot)
    if chosen not in spot:
        asked = f"{machine} is not a spot machine" if machine else "no spot machine runs a job"
        raise ReclaimError(f"{asked}; spot machines: {', '.join(spot) or 'none'}")
    if notice_seconds:
        with progress.step(f"draining {chosen}"):
            _drain(api, chosen, notice_seconds, is_announced)
    aws.reclaim(chosen)
    return chosen


def _longest_running(api: kubernetes.client.CoreV1Api, spot: list[str]) -> str:
    pods = api.list_pod_for_all_namespaces(label_selector=TEAM_LABEL, field_selector="status.phase=Running").items
    running = sorted((pod.status.start_time, pod.spec.node_name) for pod in pods if pod.spec.node_name in spot)
    return running[0][1] if running else ""


def _drain(api: kubernetes.client.CoreV1Api, node: str, limit_seconds: float, is_announced: bool) -> None:
    """Cordon, evict, and wait until the pods are gone or the notice is over, whichever is first."""
    deadline = time.monotonic() + limit_seconds
    spec: dict[str, Any] = {"unschedulable": True}
    if is_announced:
        there = kubernetes.client.ApiClient().sanitize_for_serialization(api.read_node(node).spec.taints or [])
        spec["taints"] = [*there, {"key": SPOT_TAINTS[0], "effect": "NoSchedule"}]
    api.patch_node(node, {"spec": spec})
    selector = f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"
    while time.monotonic() < deadline:
        pods = api.list_pod_for_all_namespaces(field_selector=selector).items
        if not pods:
            return
        for pod in pods:
            if not pod.metadata.deletion_timestamp:
                _evict(api, pod)
        time.sleep(0.5)


def _evict(api: kubernetes.client.CoreV1Api, pod: kubernetes.client.V1Pod) -> None:
    metadata = kubernetes.client.V1ObjectMeta(name=pod.metadata.name, namespace=pod.metadata.namespace)
    eviction = kubernetes.client.V1Eviction(metadata=metadata)
    try:
        api.create_namespaced_pod_eviction(pod.metadata.name, pod.metadata.namespace, eviction)
    except kubernetes.client.ApiException as error:
        if error.status not in (404, 429):  # gone already, or a disruption budget says later
            raise
