"""What the local cloud is doing now: its processes, pools, machines, HDFS and jobs' pods, and what is not well."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from infra.local import lake
from infra.local.aws import Aws
from infra.local.kube import core_api
from infra.local.start import difference
from infra.local.state import Cloud
from infra.local.webhdfs import HdfsError
from tidepool import capacity
from tidepool.capacity import POOL_LABEL
from tidepool.requests import amount

_GIB = 1024**3


@dataclass(frozen=True)
class Status:
    """Rows of plain data for each table; problems are sentences."""

    processes: list[dict[str, Any]]
    pools: list[dict[str, Any]]
    machines: list[dict[str, Any]]
    hdfs: list[dict[str, Any]]
    datanodes: list[dict[str, Any]]
    pods: list[dict[str, Any]]
    not_here: list[dict[str, Any]]
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
    hdfs, datanodes = _hdfs(cloud, problems)
    namespaces = [tenant.namespace for tenant in document.tenants.values()]
    return Status(
        processes=[{"process": each["name"], "state": each["statename"], "pid": each["pid"]} for each in processes],
        pools=[_pool(group) for group in Aws().groups(document.cluster)],
        machines=[_machine(node) for node in nodes],
        hdfs=hdfs,
        datanodes=datanodes,
        pods=[_pod(pod) for namespace in namespaces for pod in api.list_namespaced_pod(namespace).items],
        not_here=not_here(cloud),
        problems=problems,
    )


def _hdfs(cloud: Cloud, problems: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """HDFS in one row, and its DataNodes; what is not well is added to `problems`."""
    files, replication = lake.hdfs(cloud), lake.replication(cloud)
    try:
        whole, blocks = files.figures("FSNamesystemState"), files.figures("FSNamesystem")
        live = json.loads(files.figures("NameNodeInfo")["LiveNodes"])
    except HdfsError as error:
        problems.append(f"HDFS does not answer: {error}")
        return [], []
    problems += hdfs_problems(whole, blocks, replication)
    row = {
        "safe mode": "off" if whole["FSState"] == "Operational" else "on",
        "live": whole["NumLiveDataNodes"],
        "dead": whole["NumDeadDataNodes"],
        "replication": replication,
        "blocks": whole["BlocksTotal"],
        "under-replicated": blocks["UnderReplicatedBlocks"],
        "missing": blocks["MissingBlocks"],
        "used": f"{whole['CapacityUsed'] / _GIB:.2f}Gi",
        "free": f"{whole['CapacityRemaining'] / _GIB:.0f}Gi",
    }
    nodes = [
        {
            "datanode": name.split(".")[0],
            "state": node["adminState"],
            "blocks": node["numBlocks"],
            "used": f"{node['usedSpace'] / _GIB:.2f}Gi",
            "heard of": f"{node['lastContact']} s ago",
        }
        for name, node in sorted(live.items())
    ]
    return [row], nodes


def hdfs_problems(whole: dict[str, Any], blocks: dict[str, Any], replication: int) -> list[str]:
    """What is not well, from the NameNode's FSNamesystemState and FSNamesystem."""
    found = []
    if whole["FSState"] != "Operational":
        found.append("HDFS is in safe mode: nothing can be written until the DataNodes have reported their blocks")
    if whole["NumLiveDataNodes"] < replication:
        found.append(f"{whole['NumLiveDataNodes']} DataNodes are live, {replication} replicas of each block are wanted")
    if blocks["MissingBlocks"]:
        found.append(f"{blocks['MissingBlocks']} blocks have no replica on a live DataNode: `tidepool hdfs fsck /`")
    if blocks["UnderReplicatedBlocks"]:
        found.append(f"{blocks['UnderReplicatedBlocks']} blocks have too few replicas; HDFS makes them when it can")
    return found


def not_here(cloud: Cloud) -> list[dict[str, Any]]:
    """What of the stack can't be had on this machine: type, name and reason."""
    with contextlib.suppress(FileNotFoundError):
        rows: list[dict[str, Any]] = json.loads(cloud.not_here.read_text())
        return rows
    return []


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
