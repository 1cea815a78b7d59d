"""The program deployed again to a local cloud that is up: nothing, a pool more, a pool less, and as to any cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml

from infra import naming
from infra.local import addresses, world
from infra.local.kube import api_client
from infra.local.start import STACK
from infra.local.world_kubernetes import ApiServer
from infra.local.world_state import State
from infra.settings import stack_file
from tidepool import capacity
from tidepool import pod as pods
from tidepool.job import Job
from tidepool.sizing import place

pytestmark = pytest.mark.local_cloud

THIRD = {
    "instance_types": ["m5.large"],
    "market": "on-demand",
    "min": 1,
    "max": 2,
    "priority": 5,
    "max_pods": 20,
    "root_volume_gib": 20,
    "unneeded_time": "10s",
    "zones": ["us-east-1b"],
}
TEAM = "lab"


def deploy(local: Any, overrides: dict[str, Any] | None = None) -> world.Deployed:
    """As `tidepool local up` did it, with other settings besides."""
    images = {f"images.references.{name}": reference for name, reference in local.capacity.images.items()}
    state = local.cloud.state / world.STATE_FILE
    return world.deploy(STACK, {**images, **(overrides or {})}, addresses.MOTO, local.cloud.kubeconfig, state)


def nodes(local: Any, pool: str) -> list[str]:
    """Machines of a pool that are Ready."""
    found = local.api.list_node(label_selector=f"{capacity.POOL_LABEL}={pool}").items
    return [
        node.metadata.name
        for node in found
        if any(each.type == "Ready" and each.status == "True" for each in node.status.conditions)
    ]


def test_what_up_has_deployed_is_left_alone_by_a_second_deploy(local: Any) -> None:
    changes = deploy(local).changes
    assert (changes.created, changes.updated, changes.replaced, changes.removed) == ([], [], [], [])
    assert changes.unchanged > 100


def test_a_pool_comes_with_its_machine_and_goes_with_it_and_the_others_stay(local: Any) -> None:
    before = {name for pool in ("system", "spot-small", "on-demand-small") for name in nodes(local, pool)}
    try:
        deploy(local, {"pools.third": THIRD})
        (machine,) = local.wait_until(lambda: nodes(local, "third"), 60, "the new pool's machine is Ready")
    finally:
        changes = deploy(local).changes
    assert changes.removed == [
        "aws:autoscaling/group:Group third-group",
        "aws:ec2/launchTemplate:LaunchTemplate third-template",
    ]
    local.wait_until(lambda: local.node(machine) is None, 60, "the machine of the pool that is no more is gone")
    local.drains()
    after = {name for pool in ("system", "spot-small", "on-demand-small") for name in nodes(local, pool)}
    assert after == before


@pytest.fixture
def given_back(local: Any) -> Any:
    """After the test, every Kubernetes object is again what the local stack says."""
    yield
    server = ApiServer(local.cloud.kubeconfig, seconds=10)
    state = State.open(local.cloud.state / world.STATE_FILE, {})
    for entry in state.entries.values():
        if entry.side == "kubernetes":
            server.apply(entry.inputs)
    state.close()
    server.delete({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": naming.tenant_namespace(TEAM)}})


@pytest.mark.usefixtures("given_back")
def test_a_stack_of_an_existing_cluster_brings_a_team_to_it_whose_jobs_run(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def note(client: Any, operation: str, parameters: Any) -> None:
        asked.append(operation)
        raise AssertionError(f"AWS was asked for {operation}")

    file = tmp_path / f"Pulumi.{TEAM}.yaml"
    file.write_text(yaml.safe_dump({"config": existing(local)}))
    with monkeypatch.context() as patch:
        patch.setattr("botocore.client.BaseClient._make_api_call", note)
        deployed = world.deploy(file, {}, "http://127.0.0.1:1", local.cloud.kubeconfig, tmp_path / world.STATE_FILE)
    assert asked == []
    document = capacity.loads(deployed.outputs["capacity"])
    manifest = pods.manifest(place(Job(task="hello", team=TEAM), document), document.images["spark"], document)
    manifest["metadata"]["name"] = "hello"
    manifest["spec"]["containers"][0]["args"] = ["python3", "-c", "print('hello')"]
    namespace = document.tenants[TEAM].namespace
    local.api.create_namespaced_pod(namespace, manifest)
    phase = lambda: local.api.read_namespaced_pod("hello", namespace).status.phase  # noqa: E731
    local.wait_until(lambda: phase() in ("Succeeded", "Failed"), 90, f"the job is over; it is {phase()}")
    assert "hello" in local.api.read_namespaced_pod_log("hello", namespace)
    local.api.delete_namespaced_pod("hello", namespace)
    apps = kubernetes.client.AppsV1Api(api_client(local.cloud.kubeconfig))
    for name in ("hdfs-namenode", "hdfs-datanode"):
        stateful = apps.read_namespaced_stateful_set(name, naming.PLATFORM_NAMESPACE)
        assert stateful.status.ready_replicas == stateful.spec.replicas


def existing(local: Any) -> dict[str, Any]:
    """The local stack's settings as those of a cluster that is there, with a team of its own."""
    kept = ("owner", "images", "jobs", "lake", "hdfs")
    there = stack_file.read(STACK)
    pools = {name: pool for name, pool in local.capacity.pools.items() if pool.jobs}
    return {
        **{f"tidepool:{key}": there[f"tidepool:{key}"] for key in kept},
        "tidepool:images": {"references": dict(local.capacity.images)},
        "tidepool:cluster": {"kind": "existing", "name": TEAM},
        "tidepool:tenants": {**there["tidepool:tenants"], TEAM: {"cpu": 4, "memory_gib": 16, "pods": 4}},
        "tidepool:storage_class": "gp3",
        "tidepool:system_nodes": {
            "selector": naming.node_labels(naming.SYSTEM_POOL),
            "taints": [{"key": each.key, "value": each.value, "effect": each.effect} for each in naming.SYSTEM_TAINTS],
        },
        "tidepool:pools": {name: described(pool) for name, pool in pools.items()},
    }


def described(pool: capacity.Pool) -> dict[str, Any]:
    """A pool of machines by what their nodes carry."""
    spot = {"on_demand_usd_per_hour": pool.on_demand_usd_per_hour} if pool.market == "spot" else {}
    return {
        "market": pool.market,
        "max": pool.max_machines,
        "priority": pool.priority,
        "labels": dict(pool.labels),
        "taints": [{"key": each.key, "value": each.value, "effect": each.effect} for each in pool.taints],
        "cpu": f"{pool.cpu_millis}m",
        "memory": f"{pool.memory_bytes // 2**20}Mi",
        "ephemeral_storage": f"{pool.ephemeral_storage_bytes // 2**20}Mi",
        "usd_per_hour": pool.usd_per_hour,
        **spot,
    }
