"""Who gets a machine, and who does not: real pods, the real scheduler, machines that are bought for them."""

from __future__ import annotations

from typing import Any

import pytest

from infra import naming
from infra.local import autoscaler_plan as plan
from infra.local.status import difference
from tidepool.capacity import POOL_LABEL

pytestmark = pytest.mark.local_cloud

FOREVER = "import time; time.sleep(3600)"


def foreign(local: Any) -> dict[str, Any]:
    """A small pod that asks for the job pool, and does not tolerate its taint."""
    manifest = local.job_pod("foreign", FOREVER, memory="128Mi", pool="spot-small")
    manifest["spec"]["tolerations"] = []
    manifest["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "10m", "memory": "64Mi"}}
    return manifest


def too_big(local: Any) -> dict[str, Any]:
    """A job's pod with one byte more memory than any machine offers."""
    manifest = local.job_pod("too-big", FOREVER)
    most = max(pool.memory_bytes for pool in local.capacity.pools.values())
    size = {"memory": str(most + 1)}
    manifest["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m", **size}, "limits": size}
    return manifest


def listed(local: Any, found: Any) -> list[dict[str, Any]]:
    """Objects as the API server's JSON."""
    return list(local.api.api_client.sanitize_for_serialization(found)["items"])


def pending(local: Any, name: str) -> bool:
    """Whether the scheduler has looked at the pod and found nothing."""
    found = local.pod(name)
    conditions = [(each.type, each.status, each.reason) for each in found.status.conditions or []]
    return found.status.phase == "Pending" and ("PodScheduled", "False", "Unschedulable") in conditions


def test_jobs_share_no_machine_and_what_fits_none_buys_none(local: Any) -> None:
    before = local.machines_asked()
    for manifest in (foreign(local), too_big(local)):
        local.create(manifest)
    for name in ("foreign", "too-big"):
        local.wait_until(lambda name=name: pending(local, name), 10, f"the scheduler refused {name}")

    # This one comes later, for another pool, and is served: the autoscaler saw the two above, and bought none.
    local.create(local.job_pod("later", FOREVER, pool="on-demand-small"))
    assert {local.runs("later")} == local.machines_asked() - before

    local.create(local.job_pod("first", FOREVER, memory="1Gi"))
    local.create(local.job_pod("second", FOREVER, memory="1Gi"))
    machines = {local.runs("first"), local.runs("second")}
    assert len(machines) == 2, "each exclusive job has a machine of its own, though both would fit on one"
    assert local.machines_asked() - before == machines | {local.runs("later")}, "and nothing else was bought"

    # Both machines have room for it, and it stays out.
    nodes = {node["metadata"]["name"]: node for node in listed(local, local.api.list_node())}
    pods = listed(local, local.api.list_pod_for_all_namespaces())
    wanted = plan.requests(foreign(local))
    for machine in machines:
        free = plan.rest(nodes[machine], pods).free
        assert all(free[name] >= value for name, value in wanted.items())
    assert pending(local, "foreign")
    assert pending(local, "too-big")

    local.delete("later", "first", "second")
    local.drains()
    assert len(local.machines_asked() - before) == 3
    local.delete("foreign", "too-big")


def test_system_machines_take_services_only_and_job_machines_take_none(local: Any) -> None:
    service, stranger = foreign(local), foreign(local)
    for name, manifest in (("service", service), ("stranger", stranger)):
        del manifest["spec"]["affinity"]
        manifest["metadata"]["name"] = name
    service["spec"]["tolerations"] = [
        {"key": each.key, "value": each.value, "effect": each.effect} for each in naming.SYSTEM_TAINTS
    ]
    local.create(local.job_pod("job", FOREVER, memory="1Gi"))
    job_machine = local.runs("job")
    local.create(stranger)
    local.create(service)
    machine = local.runs("service")
    local.wait_until(lambda: pending(local, "stranger"), 10, "the scheduler refused what tolerates nothing")
    assert local.node(machine).metadata.labels[POOL_LABEL] == "system"
    for name in (machine, job_machine):
        node = local.node(name)
        pool = local.capacity.pools[node.metadata.labels[POOL_LABEL]]
        assert difference(pool, node.status.allocatable) == ""
        assert node.spec.provider_id in {f"aws:///us-east-1{zone}/{name}" for zone in "ab"}
    local.delete("job", "service", "stranger")
    local.drains()
