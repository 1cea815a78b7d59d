"""The contract against the real thing: what it says of a pod, kube-apiserver and kube-scheduler say too."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from infra import contract, settings
from infra.contract import dag_source, scheduling
from infra.local.world_kubernetes import ApiServer
from infra.policy import pod_security
from infra.services.platform import Platform
from infra.services.priority import PriorityClasses
from infra.services.tenants import Tenants
from tests.infra.manifests import made_by
from tests.infra.policy_cases import LEVELS
from tests.seam import api_server
from tests.waiting import wait_until
from tidepool.capacity import Capacity, Pool

pytestmark = pytest.mark.local_cloud

MISTAKES = Path(__file__).resolve().parents[1] / "infra" / "mistakes"
DAGS = Path(__file__).resolve().parents[2] / "dags"
BASE = settings.load(MISTAKES / "Pulumi.base.yaml")
SECONDS = 60.0
LOOK_SECONDS = 0.02  # many pods are looked at, one after the other


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[client.CoreV1Api]:
    """A cluster with the teams of the sound environment, a namespace for each Pod Security level, and a scheduler."""
    folder = tmp_path_factory.mktemp("cluster")

    def program() -> None:
        PriorityClasses("priority")
        Platform("platform", capacity="{}")
        Tenants("tenants", BASE.tenants)

    manifests = made_by(program)
    with api_server.started(folder, controllers="resourcequota-controller,serviceaccount-controller") as kubeconfig:
        server = ApiServer(kubeconfig, seconds=SECONDS)
        for key in sorted(manifests, key=lambda each: not each.startswith(("Namespace/", "PriorityClass/"))):
            server.apply(manifests[key])
        found = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        for level in ("baseline", "restricted"):
            labels = {"pod-security.kubernetes.io/enforce": level}
            found.create_namespace({"metadata": {"name": level, "labels": labels}})
        accounts = {"default", "baseline", "restricted", "tidepool-etl", "tidepool-research"}
        in_spaces = partial(_default_accounts, found)
        wait_until(lambda: accounts <= {each.metadata.namespace for each in in_spaces()}, SECONDS, "service accounts")
        quotas = found.list_resource_quota_for_all_namespaces
        wait_until(lambda: all(quota.status.hard for quota in quotas().items), SECONDS, "all quotas have a status")
        with scheduler(folder, kubeconfig):
            yield found


def _default_accounts(api: client.CoreV1Api) -> list[Any]:
    found: list[Any] = api.list_service_account_for_all_namespaces(field_selector="metadata.name=default").items
    return found


@contextlib.contextmanager
def scheduler(folder: Path, kubeconfig: Path) -> Iterator[None]:
    """A running kube-scheduler."""
    binaries = api_server._binaries()
    assert binaries is not None
    command = [str(binaries / "kube-scheduler"), f"--kubeconfig={kubeconfig}", "--leader-elect=false"]
    with (folder / "scheduler.log").open("wb") as log:
        process = subprocess.Popen([*command, "--secure-port=0"], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def refusal(api: client.CoreV1Api, pod: dict[str, Any]) -> str:
    """Why the API server does not take the pod; empty where it does. Nothing is stored."""
    try:
        api.create_namespaced_pod(pod["metadata"]["namespace"], pod, dry_run="All", _preload_content=False)
    except client.ApiException as error:
        if error.status not in (403, 422):
            raise
        return str(json.loads(error.body)["message"])
    return ""


@pytest.mark.parametrize("level", ["baseline", "restricted"])
@pytest.mark.parametrize(("pod", "baseline", "restricted"), LEVELS)
def test_pod_security_is_what_the_api_server_makes_of_it(
    api: client.CoreV1Api, pod: dict[str, Any], baseline: bool, restricted: bool, level: str
) -> None:
    containers = [{"image": "i:1", **each} for each in pod["spec"]["containers"]]
    extra = [{"image": "i:1", **each} for each in pod["spec"].get("initContainers", [])]
    spec = {**pod["spec"], "containers": containers, **({"initContainers": extra} if extra else {})}
    asked = {"metadata": {"name": "pod", "namespace": level}, "spec": spec}
    answer = refusal(api, asked)
    assert (answer == "") is (pod_security.violations(asked, level) == []), answer


REFUSED_BY_THE_API_SERVER = {
    "gpu-without-a-quota": "exceeded quota",
    "host-network": "violates PodSecurity",
    "host-path-volume": "violates PodSecurity",
    "privileged-container": "privileged: Forbidden",  # this API server has no --allow-privileged
    "priority-of-the-system": "exceeded quota: no-foreign-priority",
    "request-above-the-default-limit": "must be less than or equal to memory limit",
    "root-container": "violates PodSecurity",
    "service-account-that-is-not-there": 'serviceaccount "spark" not found',
    "unknown-priority-class": "no PriorityClass with name high was found",
}


@pytest.mark.parametrize("mistake", REFUSED_BY_THE_API_SERVER)
def test_what_the_contract_says_of_a_namespace_the_api_server_enforces(
    api: client.CoreV1Api, mistake: str, tmp_path: Path
) -> None:
    shutil.copy(next((MISTAKES / mistake).glob("*.py")), tmp_path)
    (template,) = dag_source.read(tmp_path, contract.planned(BASE)).templates
    assert REFUSED_BY_THE_API_SERVER[mistake] in refusal(api, named(template.pod))


def test_the_jobs_of_our_dags_are_let_in(api: client.CoreV1Api) -> None:
    templates = dag_source.read(DAGS, contract.planned(BASE)).templates
    assert templates
    assert [refusal(api, named(each.pod)) for each in templates] == [""] * len(templates)


def test_every_kind_of_pod_of_a_job_of_several_is_let_in(api: client.CoreV1Api, tmp_path: Path) -> None:
    shutil.copy(DAGS / "examples" / "spark_cluster.py", tmp_path)
    (template,) = dag_source.read(tmp_path, contract.planned(BASE)).templates
    accounts = [each.pod["spec"]["serviceAccountName"] for each in template.kinds()]
    assert accounts == ["job-driver", "job"]
    assert [refusal(api, named(each.pod)) for each in template.kinds()] == ["", ""]


def named(pod: Any) -> dict[str, Any]:
    return {**pod, "metadata": {**pod["metadata"], "name": "pod"}}


def term(*expressions: dict[str, Any]) -> dict[str, Any]:
    return {"matchExpressions": list(expressions)}


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def asks(**requests: str) -> dict[str, Any]:
    resources = {key.replace("_", "-"): value for key, value in requests.items()}
    gpus = {"nvidia.com/gpu": resources.pop("gpus")} if "gpus" in resources else {}
    return {"requests": {**resources, **gpus}, "limits": gpus}


IS_SPOT = {"key": "tidepool.dev/pool", "operator": "In", "values": ["spot-small"]}
EVERY_TAINT = [{"operator": "Exists"}]
PODS: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "every taint tolerated": {"tolerations": EVERY_TAINT},
    "taint tolerated by key": {"tolerations": [{"key": "tidepool.dev/pool", "operator": "Exists"}]},
    "taint tolerated by value": {"tolerations": [{"key": "tidepool.dev/pool", "value": "spot-small"}]},
    "another value tolerated": {"tolerations": [{"key": "tidepool.dev/pool", "value": "true"}]},
    "another effect tolerated": {
        "tolerations": [{"key": "tidepool.dev/pool", "operator": "Exists", "effect": "NoExecute"}]
    },
    "selected": {"tolerations": EVERY_TAINT, "nodeSelector": {"tidepool.dev/pool": "spot-small"}},
    "selected by processor": {"tolerations": EVERY_TAINT, "nodeSelector": {"kubernetes.io/arch": "amd64"}},
    "selected by another processor": {"tolerations": EVERY_TAINT, "nodeSelector": {"kubernetes.io/arch": "arm64"}},
    "no such label": {"tolerations": EVERY_TAINT, "nodeSelector": {"workload": "spark"}},
    "affinity": {"tolerations": EVERY_TAINT, "affinity": affinity(term(IS_SPOT))},
    "one of two terms": {
        "tolerations": EVERY_TAINT,
        "affinity": affinity(term({"key": "x", "operator": "Exists"}), term(IS_SPOT)),
    },
    "both of two expressions": {
        "tolerations": EVERY_TAINT,
        "affinity": affinity(term(IS_SPOT, {"key": "x", "operator": "Exists"})),
    },
    "not in": {"tolerations": EVERY_TAINT, "affinity": affinity(term({**IS_SPOT, "operator": "NotIn"}))},
    "absent and not in": {
        "tolerations": EVERY_TAINT,
        "affinity": affinity(term({"key": "x", "operator": "NotIn", "values": ["y"]})),
    },
    "does not exist": {
        "tolerations": EVERY_TAINT,
        "affinity": affinity(term({"key": "x", "operator": "DoesNotExist"})),
    },
    "an empty term": {"tolerations": EVERY_TAINT, "affinity": affinity({})},
    "as much CPU as there is": {"tolerations": EVERY_TAINT, "resources": asks(cpu="1930m")},
    "more CPU than there is": {"tolerations": EVERY_TAINT, "resources": asks(cpu="1931m")},
    "more memory than there is": {"tolerations": EVERY_TAINT, "resources": asks(memory="8Gi")},
    "more disk than there is": {"tolerations": EVERY_TAINT, "resources": asks(ephemeral_storage="100Gi")},
    "a GPU": {"tolerations": EVERY_TAINT, "resources": asks(gpus="1")},
    "an init container that is too large": {
        "tolerations": EVERY_TAINT,
        "initContainers": [{"name": "i", "image": "i:1", "resources": asks(cpu="64")}],
    },
    "a sidecar beside it that is too large": {
        "tolerations": EVERY_TAINT,
        "resources": asks(cpu="1800m"),
        "initContainers": [{"name": "i", "image": "i:1", "restartPolicy": "Always", "resources": asks(cpu="200m")}],
    },
}


def pod(**spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "i:1", "resources": spec.pop("resources", {})}
    return {"metadata": {"name": "pod", "namespace": "default"}, "spec": {"containers": [container], **spec}}


@pytest.fixture(params=["spot-small", "gpu", "system"])
def machine(request: pytest.FixtureRequest, api: client.CoreV1Api) -> Iterator[Pool]:
    """A pool with one machine, the only one there is."""
    pool = contract.planned(BASE).pools[request.param]
    labels = {**pool.labels, "kubernetes.io/arch": pool.architecture, "kubernetes.io/os": "linux"}
    taints = [{"key": each.key, "value": each.value, "effect": each.effect} for each in pool.taints]
    size = {
        "cpu": f"{pool.cpu_millis}m",
        "memory": str(pool.memory_bytes),
        "ephemeral-storage": str(pool.ephemeral_storage_bytes),
        "nvidia.com/gpu": str(pool.gpus),
        "pods": "20",
    }
    api.create_node({"metadata": {"name": pool.name, "labels": labels}, "spec": {"taints": taints}})
    status = {"capacity": size, "allocatable": size, "conditions": [{"type": "Ready", "status": "True"}]}
    api.patch_node_status(pool.name, {"status": status})
    # The API server adds a taint for nodes that are not ready yet, and it takes a controller to remove it.
    api.patch_node(pool.name, {"spec": {"taints": taints}})
    yield pool
    api.delete_node(pool.name)


def bound(api: client.CoreV1Api, asked: dict[str, Any]) -> bool:
    """Whether the scheduler finds a machine for the pod."""
    api.create_namespaced_pod("default", asked)

    def decided() -> Any:
        found = api.read_namespaced_pod("pod", "default")
        conditions = {each.type: each.reason for each in found.status.conditions or []}
        return found.spec.node_name or conditions.get("PodScheduled")

    try:
        return bool(wait_until(decided, SECONDS, "the scheduler decides", look=LOOK_SECONDS) != "Unschedulable")
    finally:
        api.delete_namespaced_pod("pod", "default", grace_period_seconds=0)
        pods = partial(api.list_namespaced_pod, "default")
        wait_until(lambda: not pods().items, SECONDS, "the pod is gone", look=LOOK_SECONDS)


def test_the_scheduler_finds_a_machine_for_those_pods_that_the_contract_lets_pass(
    api: client.CoreV1Api, machine: Pool
) -> None:
    said = {name: not scheduling.refusals(pod(**spec), machine, scheduling.Amount()) for name, spec in PODS.items()}
    done = {name: bound(api, pod(**json.loads(json.dumps(spec)))) for name, spec in PODS.items()}
    assert said == done
    assert set(said.values()) == {True, False}


def test_the_capacity_of_the_sound_environment_is_what_the_scheduler_was_asked_about() -> None:
    capacity: Capacity = contract.planned(BASE)
    assert capacity.pools["spot-small"].cpu_millis == 1930, "PODS asks for as much, and for more"
