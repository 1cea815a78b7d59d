"""What the local cloud is doing now: its processes, pools, machines and jobs' pods, and what is not well."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from infra import naming
from infra.local.aws import Aws, amount
from infra.local.kube import core_api
from infra.local.start import difference
from infra.local.state import CLUSTER, Cloud
from tidepool import capacity
from tidepool.capacity import POOL_LABEL

_GIB = 1024**3


@dataclass(frozen=True)
class Status:
    """Rows of plain data for each table; problems are sentences."""

    processes: list[dict[str, Any]]
    pools: list[dict[str, Any]]
    machines: list[dict[str, Any]]
    pods: list[dict[str, Any]]
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For tables and JSON."""
        return dataclasses.asdict(self)


def read(cloud: Cloud) -> Status:
    """Ask supervisord, moto and the API server."""
    document = capacity.load(cloud.capacity)
    api = core_api(cloud.kubeconfig)
    nodes = api.list_node().items
    processes = cloud.supervisor.status()
    problems = [
        f"{each['name']} does not run ({each['description']}): `tidepool local logs {each['name']}`"
        for each in processes
        if each["statename"] not in ("RUNNING", "STARTING")
    ]
    if not processes:
        problems.append("supervisord does not answer: `tidepool local down`, then `up`")
    for node in nodes:
        pool = document.pools[node.metadata.labels[POOL_LABEL]]
        if differs := difference(pool, node.status.allocatable):
            problems.append(f"machine {node.metadata.name} {differs}")
    return Status(
        processes=[{"process": each["name"], "state": each["statename"], "pid": each["pid"]} for each in processes],
        pools=[_pool(group) for group in Aws().groups(CLUSTER)],
        machines=[_machine(node) for node in nodes],
        pods=[_pod(pod) for pod in api.list_namespaced_pod(naming.JOBS_NAMESPACE).items],
        problems=problems,
    )


def _pool(group: Any) -> dict[str, Any]:
    pool = group.labels[POOL_LABEL]
    return {"pool": pool, "market": group.market, "min": group.minimum, "desired": group.desired, "max": group.maximum}


def _machine(node: Any) -> dict[str, Any]:
    ready = next((each.status for each in node.status.conditions or [] if each.type == "Ready"), "Unknown")
    state = {"True": "Ready", "False": "NotReady"}.get(ready, "Unknown")
    offered = node.status.allocatable
    return {
        "machine": node.metadata.name,
        "pool": node.metadata.labels.get(POOL_LABEL, ""),
        "state": state + (",SchedulingDisabled" if node.spec.unschedulable else ""),
        "cpu": offered["cpu"],
        "memory": f"{amount(offered['memory'], 'memory') / _GIB:.1f}Gi",
    }


def _pod(pod: Any) -> dict[str, Any]:
    return {"pod": pod.metadata.name, "phase": pod.status.phase, "machine": pod.spec.node_name or ""}
