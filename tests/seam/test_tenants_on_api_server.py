"""Teams' namespaces on a real kube-apiserver: a job's pod gets in as the library makes it, and what must not, does not.

Network policies are only accepted here: enforcing them takes a network plugin.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kubernetes import client, config

from infra.local.world_kubernetes import ApiServer
from infra.services.platform import Platform
from infra.services.priority import PriorityClasses
from infra.services.tenants import Tenants
from infra.settings.model import Tenant
from tests.infra.manifests import made_by
from tests.seam.api_server import started
from tests.waiting import wait_until
from tidepool import budget
from tidepool import pod as pods
from tidepool.budget import Figure, Reservation
from tidepool.capacity import OVERRIDES_CONFIG_MAP, SPENDING_CONFIG_MAP, Budget, Capacity, Pool, Taint
from tidepool.capacity import Tenant as CapacityTenant
from tidepool.job import Job
from tidepool.operators.budget_gate import BudgetGate, OverBudgetError
from tidepool.sizing import place

pytestmark = pytest.mark.local_cloud

GIB = 1024**3
SECONDS = 60.0

TENANTS = {
    "research": Tenant("research", "restricted", cpu=16, memory_gib=24, pods=3, gpus=1),
    "sales": Tenant("sales", "restricted", cpu=1, memory_gib=64, pods=3, gpus=0),
}
POOLS = {
    name: Pool(
        name=name,
        market="spot",
        jobs=True,
        instance_types=("m5.large",),
        labels={"tidepool.dev/pool": name},
        taints=(Taint("tidepool.dev/pool", name, "NoSchedule"),),
        cpu_millis=1930,
        memory_bytes=7 * GIB,
        ephemeral_storage_bytes=17 * GIB,
        gpus=gpus,
        architecture="amd64",
        max_machines=4,
        priority=10,
        usd_per_hour=0.1,
        on_demand_usd_per_hour=0.2,
    )
    for name, gpus in (("plain", 0), ("gpu", 2))
}
CAPACITY = Capacity(
    cluster="test",
    tenants={name: CapacityTenant(f"tidepool-{name}", "job") for name in TENANTS},
    default_tenant="research",
    images={},
    schedule_timeout_seconds=60,
    pools=POOLS,
)


def program() -> None:
    PriorityClasses("priority")
    Platform("platform", capacity="{}")
    Tenants("tenants", TENANTS)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[client.CoreV1Api]:
    folder = tmp_path_factory.mktemp("cluster")
    manifests = made_by(program)
    with started(folder, controllers="resourcequota-controller") as kubeconfig:
        server = ApiServer(kubeconfig, seconds=SECONDS)
        for key in sorted(manifests, key=lambda each: not each.startswith(("Namespace/", "PriorityClass/"))):
            server.apply(manifests[key])
        found = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        quotas = found.list_resource_quota_for_all_namespaces
        wait_until(lambda: all(quota.status.hard for quota in quotas().items), SECONDS, "all quotas have a status")
        yield found


def job(**asked: Any) -> dict[str, Any]:
    """A job's pod, as the operators make it."""
    manifest = pods.manifest(place(Job("t", **asked), CAPACITY), "image:1", CAPACITY)
    manifest["metadata"]["generateName"] = "job-"
    return manifest


def admitted(api: client.CoreV1Api, manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod as the API server would store it. Nothing is stored."""
    answer = api.create_namespaced_pod(
        manifest["metadata"]["namespace"], manifest, dry_run="All", _preload_content=False
    )
    found: dict[str, Any] = json.loads(answer.data)
    return found


def refusal(api: client.CoreV1Api, manifest: dict[str, Any]) -> str:
    with pytest.raises(client.ApiException) as caught:
        admitted(api, manifest)
    assert caught.value.status == 403
    return str(json.loads(caught.value.body)["message"])


def test_a_jobs_pod_gets_in_with_its_priority_and_nothing_of_it_is_changed(api: client.CoreV1Api) -> None:
    asked = job(memory="3Gi")
    spec = admitted(api, asked)["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (2000, "Never")
    assert spec["serviceAccountName"] == "job"
    assert [volume["name"] for volume in spec["volumes"]] == ["scratch"]  # no token
    resources = spec["containers"][0]["resources"]
    assert resources["limits"] == {"memory": "3Gi"}
    assert resources["requests"] == {"cpu": "1680m", "memory": "3Gi", "ephemeral-storage": "1Gi"}


def test_a_job_gets_in_with_gpus_of_its_teams_quota_only(api: client.CoreV1Api) -> None:
    assert admitted(api, job(gpus=1))["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "exceeded quota: quota" in refusal(api, job(gpus=2))
    assert "requests.nvidia.com/gpu" in refusal(api, job(gpus=1, team="sales", exclusive=False))


def test_a_team_gets_no_more_cpu_than_its_quota(api: client.CoreV1Api) -> None:
    assert admitted(api, job(team="sales", exclusive=False))["metadata"]["namespace"] == "tidepool-sales"
    message = refusal(api, job(team="sales"))
    assert "exceeded quota: quota, requested: requests.cpu=1680m" in message
    assert "limited: requests.cpu=1" in message


@pytest.mark.parametrize("name", ["tidepool-platform", "system-cluster-critical", "system-node-critical"])
def test_a_job_cannot_take_the_platforms_priority(api: client.CoreV1Api, name: str) -> None:
    manifest = job()
    manifest["spec"]["priorityClassName"] = name
    assert "exceeded quota: no-foreign-priority" in refusal(api, manifest)


@pytest.mark.parametrize(("suffix", "priority"), [("-high", 2000), ("-low", 1000)])
def test_a_job_can_take_its_own_other_priorities(api: client.CoreV1Api, suffix: str, priority: int) -> None:
    manifest = job()
    manifest["spec"]["priorityClassName"] += suffix
    assert admitted(api, manifest)["spec"]["priority"] == priority


WRONGS = {
    "the machine's disk": {"volumes": [{"name": "scratch", "hostPath": {"path": "/"}}]},
    "the machine's network": {"hostNetwork": True},
    "root": {"securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}}},
}


@pytest.mark.parametrize("wrong", WRONGS.values(), ids=WRONGS)
def test_pod_security_keeps_out_what_could_leave_its_container(api: client.CoreV1Api, wrong: dict[str, Any]) -> None:
    manifest = job()
    manifest["spec"] |= wrong
    assert 'violates PodSecurity "restricted' in refusal(api, manifest)


def test_a_container_that_says_nothing_gets_requests_and_a_memory_limit(api: client.CoreV1Api) -> None:
    manifest = job()
    sidecar = copy.deepcopy(manifest["spec"]["containers"][0])
    manifest["spec"]["containers"].append({**sidecar, "name": "sidecar", "resources": {}})
    added = admitted(api, manifest)["spec"]["containers"][1]["resources"]
    assert added["limits"] == {"memory": "512Mi"}
    assert added["requests"] == {"cpu": "100m", "memory": "512Mi", "ephemeral-storage": "1Gi"}


def acting(api: client.CoreV1Api, account: str) -> client.CoreV1Api:
    """The same server, as a ServiceAccount of the platform's."""
    as_account = client.ApiClient(api.api_client.configuration)
    as_account.set_default_header("Impersonate-User", f"system:serviceaccount:tidepool:{account}")
    return client.CoreV1Api(as_account)


def test_jobs_that_start_at_once_never_go_beyond_their_budget_together(api: client.CoreV1Api) -> None:
    now = time.time()
    text = budget.dump_spent(now, {"b": Figure(6.0, budget.period("day", now)[0])})
    acting(api, "keeper").patch_namespaced_config_map(
        SPENDING_CONFIG_MAP, "tidepool-research", {"data": {budget.SPENT: text}}
    )
    budgets = {"b": Budget("", "d", "day", 0, 10, "fail")}

    def start(number: int) -> bool:
        gate = BudgetGate(acting(api, "airflow"), "tidepool-research", budgets)
        try:
            gate.admit(f"pod-{number}", lambda: Reservation("d", 1.0, now, 600), lambda: None)
        except OverBudgetError:
            return False
        return True

    with ThreadPoolExecutor(10) as workers:
        started = list(workers.map(start, range(10)))
    assert sum(started) == 4
    data = api.read_namespaced_config_map(SPENDING_CONFIG_MAP, "tidepool-research").data
    assert set(budget.load(data).reserved) == {f"pod-{number}" for number in range(10) if started[number]}


def test_the_keeper_writes_what_was_spent_and_nothing_else_of_a_team(api: client.CoreV1Api) -> None:
    keeper = acting(api, "keeper")
    forbidden: list[Callable[[], Any]] = [
        lambda: keeper.patch_namespaced_config_map(OVERRIDES_CONFIG_MAP, "tidepool-research", {"data": {"k": "v"}}),
        lambda: keeper.read_namespaced_config_map(SPENDING_CONFIG_MAP, "tidepool-research"),
        lambda: keeper.list_namespaced_secret("tidepool-research"),
    ]
    for each in forbidden:
        with pytest.raises(client.ApiException, match="Forbidden"):
            each()
