"""What kwok plays for the keeper: a pool's nodes, the pods of jobs on them, and what such pods need around them."""

from __future__ import annotations

import time
from typing import Any

from tidepool import pod, sizing
from tidepool.capacity import JOB_PRIORITY_CLASS, POOL_LABEL, Capacity, Pool, Tenant
from tidepool.job import Job
from tidepool.labels import LEASE, utc

NAMESPACE = "tidepool-bench"
ZONE = "us-east-1a"
_POOL = "bench"
_GIB = 1024**3


def capacity_document() -> Capacity:
    """One pool and one team, both `bench`."""
    pool = Pool(
        name=_POOL,
        market="spot",
        jobs=True,
        instance_types=("m5.2xlarge",),
        labels={POOL_LABEL: _POOL},
        taints=(),
        cpu_millis=7910,
        memory_bytes=29 * _GIB,
        ephemeral_storage_bytes=50 * _GIB,
        gpus=0,
        architecture="amd64",
        max_machines=100_000,
        priority=10,
        usd_per_hour=0.15,
        on_demand_usd_per_hour=0.384,
    )
    return Capacity(
        cluster="bench",
        tenants={"bench": Tenant(NAMESPACE, "job")},
        default_tenant="bench",
        images={},
        schedule_timeout_seconds=1800,
        pools={_POOL: pool},
    )


def surroundings() -> list[dict[str, Any]]:
    """What a job's pod needs to be let in."""
    account = {"name": "job", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": JOB_PRIORITY_CLASS},
            "value": 1000,
        },
    ]


def node(number: int) -> dict[str, Any]:
    """A machine of the pool that is there."""
    sizes = {"cpu": "7910m", "memory": "29Gi", "pods": "58"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": _node_name(number),
            "labels": {
                POOL_LABEL: _POOL,
                "topology.kubernetes.io/zone": ZONE,
                "node.kubernetes.io/instance-type": "m5.2xlarge",
            },
        },
        "spec": {"providerID": f"aws:///{ZONE}/i-{number:017x}"},
        "status": {"capacity": sizes, "allocatable": sizes},
    }


def job_pod(document: Capacity, number: int, nodes: int) -> dict[str, Any]:
    """A job's, as the operators make it, on its node already: no scheduler is measured here."""
    placed = sizing.place(Job("task", cores=1, memory="2Gi", exclusive=False), document)
    made = pod.manifest(placed, "registry.example/jobs:1", document)
    labels, annotations = pod.owner(f"dag-{number % 50}", f"task-{number % 20}", f"run-{number // 1000}", 1, "bench")
    made["metadata"] |= {
        "name": f"pod-{number:06d}",
        "labels": made["metadata"]["labels"] | labels,
        "annotations": made["metadata"]["annotations"] | annotations | {LEASE: utc(time.time() + 3600)},
    }
    made["spec"]["nodeName"] = _node_name(number % nodes)
    return made


def _node_name(number: int) -> str:
    return f"node-{number:05d}"
