"""The keeper's objects on a real kube-apiserver: its pod is let in, and it may do what it does and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config

from infra.local.world_kubernetes import ApiServer
from infra.local.world_monitor import plain
from infra.services.keeper import Keeper, KeeperArgs
from infra.services.platform import Platform
from infra.services.priority import PriorityClasses
from infra.services.tenants import Tenants
from infra.settings import model
from tests.infra import recording
from tests.infra.releases import RANDOM, SYSTEM
from tests.seam.api_server import first_things_first, started

pytestmark = pytest.mark.local_cloud

TEAM, PLATFORM, OTHERS = "tidepool-research", "tidepool", "default"
ACCOUNT = f"system:serviceaccount:{PLATFORM}:keeper"

MAY = [
    *(("", resource, verb, "") for resource in ("nodes", "pods") for verb in ("get", "list", "watch")),
    *(("", "events", verb, "") for verb in ("list", "watch")),
    *(("", "persistentvolumeclaims", verb, "") for verb in ("get", "list")),
    ("", "nodes/stats", "get", ""),
    ("", "pods", "delete", TEAM),
    ("", "persistentvolumeclaims", "delete", TEAM),
    *(("coordination.k8s.io", "leases", verb, "kube-node-lease") for verb in ("get", "list")),
    *(("coordination.k8s.io", "leases", verb, PLATFORM) for verb in ("create", "get", "update")),
]
MAY_NOT = [
    *(("", "pods", "delete", namespace) for namespace in (PLATFORM, OTHERS, "kube-system")),
    *(("", "pods", verb, TEAM) for verb in ("create", "patch", "update", "deletecollection")),
    *(("", resource, "create", TEAM) for resource in ("pods/exec", "pods/eviction")),
    ("", "secrets", "get", PLATFORM),
    ("", "configmaps", "get", PLATFORM),
    ("", "nodes", "delete", ""),
    ("", "nodes/proxy", "get", ""),
    ("coordination.k8s.io", "leases", "update", "kube-node-lease"),
    ("coordination.k8s.io", "leases", "delete", PLATFORM),
]


def program() -> None:
    PriorityClasses("priority")
    Platform("platform", capacity="{}")
    Tenants("tenants", {"research": model.Tenant("research", "restricted", cpu=16, memory_gib=24, pods=3, gpus=0)})
    settings = model.Keeper(replicas=1, volume_gib=5, dry_run=False, airflow=None)
    Keeper("keeper", KeeperArgs(settings, "keeper:1", [TEAM], None, "", "gp3", SYSTEM, has_airflow=True, metrics=True))


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return [plain(dict(each.inputs)) for each in recording.made_by(program, computed=RANDOM) if "kind" in each.inputs]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, manifests: list[dict[str, Any]]) -> Iterator[client.ApiClient]:
    """All objects are there: every one was accepted."""
    with started(tmp_path_factory.mktemp("cluster")) as kubeconfig:
        server = ApiServer(kubeconfig, seconds=60)
        for manifest in first_things_first(manifests):
            server.apply(manifest)
        yield config.new_client_from_config(str(kubeconfig))


def allowed(api: client.ApiClient, group: str, resource: str, verb: str, namespace: str, name: str = "") -> bool:
    """Whether the keeper's account may; the API server's own word."""
    resource, _, subresource = resource.partition("/")
    asked = {"group": group, "resource": resource, "verb": verb, "namespace": namespace, "subresource": subresource}
    if resource == "leases" and namespace == PLATFORM and verb != "create":
        asked["name"] = name or "tidepool-keeper"
    review = {"spec": {"user": ACCOUNT, "resourceAttributes": asked}}
    return bool(client.AuthorizationV1Api(api).create_subject_access_review(review).status.allowed)


@pytest.mark.parametrize("what", MAY, ids=" ".join)
def test_it_may(api: client.ApiClient, what: tuple[str, str, str, str]) -> None:
    assert allowed(api, *what)


@pytest.mark.parametrize("what", MAY_NOT, ids=" ".join)
def test_it_may_not(api: client.ApiClient, what: tuple[str, str, str, str]) -> None:
    assert not allowed(api, *what)


def test_it_may_not_take_anybody_elses_lease(api: client.ApiClient) -> None:
    assert not allowed(api, "coordination.k8s.io", "leases", "update", PLATFORM, name="cluster-autoscaler")


def test_its_pod_is_let_in_with_its_token_and_a_root_that_nobody_writes(
    api: client.ApiClient, manifests: list[dict[str, Any]]
) -> None:
    (owner,) = [each for each in manifests if each["kind"] == "Deployment"]
    template = owner["spec"]["template"]
    metadata = {**template["metadata"], "name": "pod", "namespace": PLATFORM}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    answer = client.CoreV1Api(api).create_namespaced_pod(PLATFORM, pod, dry_run="All")
    assert answer.spec.priority == 1_000_000
    assert [each.name for each in answer.spec.volumes if each.name.startswith("kube-api-access")]
    assert answer.spec.containers[0].security_context.read_only_root_filesystem
