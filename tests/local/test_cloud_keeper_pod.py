"""The keeper's Deployment as the program makes it, on the local cloud's system machines: its image and its rights.

Elsewhere on the local cloud the same program runs on the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import kubernetes
import pytest

from infra import naming
from infra.aws import storage_class
from infra.local.world_kubernetes import ApiServer
from infra.local.world_monitor import plain
from infra.services.keeper import Keeper, KeeperArgs
from infra.services.placement import Placement
from infra.settings import model
from tests.infra import recording
from tests.infra.releases import RANDOM
from tidepool.ledger import tail
from tidepool.ledger.events import Event

pytestmark = pytest.mark.local_cloud

SYSTEM = Placement(naming.node_labels(naming.SYSTEM_POOL), naming.SYSTEM_TAINTS)
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


@pytest.fixture
def deployed(local: Any) -> Iterator[None]:
    """The Deployment is ready beside the host's keeper, which ends then: the Lease is free."""
    if "keeper" not in local.capacity.images:
        pytest.skip("machines do not have the image keeper")
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


def test_the_keeper_records_from_its_pod_with_its_own_rights(local: Any, deployed: None) -> None:
    leases = kubernetes.client.CoordinationV1Api(local.api.api_client)

    def leads() -> bool:
        lease = leases.read_namespaced_lease(naming.KEEPER_LEASE, naming.PLATFORM_NAMESPACE)
        return str(lease.spec.holder_identity).startswith("keeper-")

    local.wait_until(leads, 30, "the pod's keeper is the active one")
    local.create(local.job_pod("watched", "import time; time.sleep(3600)", memory="1Gi"))
    machine = local.runs("watched")

    def seen() -> list[Event]:
        return [event for event in recorded(local) if event.kind == "pod.running" and event.pod == "watched"]

    (running,) = local.wait_until(seen, 20, "the pod's keeper has recorded that the job runs")
    assert (running.machine, running.reconstructed) == (machine, False)
    local.delete("watched")
