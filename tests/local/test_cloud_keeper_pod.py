"""The keeper's Deployment as the program makes it, on the local cloud's system machines: its image and its rights.

Elsewhere on the local cloud the same program runs on the host.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import kubernetes
import pytest

from infra import naming
from infra.aws import storage_class
from infra.local.world_kubernetes import ApiServer
from infra.local.world_monitor import plain
from infra.services.keeper import Keeper, KeeperArgs
from infra.services.keeper_pods import PAGE_KEY, PAGE_SECRET, PORT
from infra.services.placement import Placement
from infra.settings import model
from tests.infra import recording
from tests.infra.releases import RANDOM
from tidepool import pod as pods
from tidepool.ledger import tail
from tidepool.ledger.events import Event

pytestmark = pytest.mark.local_cloud

SYSTEM = Placement(naming.node_labels(naming.SYSTEM_POOL), naming.SYSTEM_TAINTS)
SECONDS = 15
"""How long the job runs: a kubelet measures about every 10."""

RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


@pytest.fixture
def deployed(local: Any) -> Iterator[None]:
    """The Deployment is ready beside the host's keeper, which ends then: the Lease is free."""
    settings = model.Keeper(replicas=1, volume_gib=1, dry_run=False, airflow=None)
    args = KeeperArgs(
        settings,
        image=local.capacity.images["keeper"],
        namespaces=[tenant.namespace for tenant in local.capacity.tenants.values()],
        database_connection=None,
        database_secret="",
        storage_class=storage_class.STORAGE_CLASS,
        placement=SYSTEM,
        has_airflow=False,
        metrics=False,
    )
    made = recording.made_by(lambda: Keeper("keeper", args), computed=RANDOM)
    manifests = [plain(dict(each.inputs)) for each in made if "kind" in each.inputs]
    ours = [each for each in manifests if each["kind"] not in RIGHTS]
    server, supervisor = ApiServer(local.cloud.kubeconfig, 10), local.cloud.supervisor
    try:
        for manifest in sorted(ours, key=lambda each: each["kind"] == "Deployment"):
            server.apply(manifest)
        apps = kubernetes.client.AppsV1Api(local.api.api_client)

        def ready() -> Any:
            return apps.read_namespaced_deployment("keeper", naming.PLATFORM_NAMESPACE).status.ready_replicas

        local.wait_until(ready, 90, "the keeper's pod is ready, though another keeper is the active one")
        supervisor._rpc.stopProcess("keeper")
        yield
    finally:
        for manifest in ours:
            server.delete(manifest)
        with contextlib.suppress(Exception):  # it was not stopped
            supervisor._rpc.startProcess("keeper")
        local.wait_until(lambda: local.pid("keeper"), 30, "the host's keeper runs again")


def recorded(local: Any) -> list[Event]:
    """What the pod's keeper has written, on its volume."""
    volumes = local.api.list_persistent_volume().items
    (name,) = [each.metadata.name for each in volumes if each.spec.claim_ref.name == "keeper-ledger"]
    return tail.read(local.cloud.state / "volumes" / name / "ledger.db")


def its_pod(local: Any) -> Any:
    (found,) = local.api.list_namespaced_pod(
        naming.PLATFORM_NAMESPACE, label_selector="app.kubernetes.io/name=keeper"
    ).items
    return found


def test_the_keeper_works_in_its_restricted_pod_with_its_own_rights(local: Any, deployed: None) -> None:
    leases = kubernetes.client.CoordinationV1Api(local.api.api_client)

    def leads() -> bool:
        lease = leases.read_namespaced_lease(naming.KEEPER_LEASE, naming.PLATFORM_NAMESPACE)
        return str(lease.spec.holder_identity).startswith("keeper-")

    local.wait_until(leads, 30, "the pod's keeper is the active one")
    namespace = local.api.read_namespace(naming.PLATFORM_NAMESPACE)
    assert namespace.metadata.labels["pod-security.kubernetes.io/enforce"] == "restricted", "which its pod was let into"
    manifest = local.job_pod("watched", f"import time; time.sleep({SECONDS})", memory="1Gi")
    labels, annotations = pods.owner("watched_daily", "sleep", "r1", 1, "jobs")
    manifest["metadata"]["labels"] |= labels
    manifest["metadata"]["annotations"] |= annotations
    local.create(manifest)
    machine = local.runs("watched")

    def seen(kind: str) -> list[Event]:
        return [event for event in recorded(local) if event.kind == kind and event.pod == "watched"]

    (running,) = local.wait_until(lambda: seen("pod.running"), 20, "it has recorded that the job runs")
    assert (running.machine, running.reconstructed) == (machine, False)

    (used,) = local.wait_until(lambda: seen("pod.used"), 60, "it has recorded what the kubelet measured")
    assert used.samples >= 1

    with httpx.Client(base_url=f"http://{its_pod(local).status.pod_ip}:{PORT}", timeout=5) as http:
        ended = 'tidepool_job_ends_total{team="jobs",cause="ok"} 1'
        local.wait_until(lambda: ended in http.get("/metrics").text, 20, "its metrics have the job")
        assert http.get("/jobs").status_code == 401, "nobody sees a page without the token"
        secret = local.api.read_namespaced_secret(PAGE_SECRET, naming.PLATFORM_NAMESPACE)
        known = ("anybody", base64.b64decode(secret.data[PAGE_KEY]).decode())
        shown = "watched_daily.sleep"
        local.wait_until(lambda: shown in http.get("/jobs", auth=known).text, 20, "its page has the job")

    log = local.api.read_namespaced_pod_log(its_pod(local).metadata.name, naming.PLATFORM_NAMESPACE)
    assert "forbidden" not in log.lower(), log
    local.delete("watched")
