"""The real program's Kubernetes objects on a real etcd and kube-apiserver of their own, beside any local cloud."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from kubernetes import client, config

from infra import naming
from infra.local import world
from infra.local.world_engine import Kind, Made, WorldError
from infra.local.world_kubernetes import KINDS, ApiServer, path_of
from infra.local.world_monitor import Registration
from infra.local.world_random import Random
from infra.local.world_state import Entry
from infra.settings import stack_file
from tests.infra import recorded
from tests.seam.api_server import started
from tidepool import capacity

pytestmark = pytest.mark.local_cloud

LOCAL = recorded.STACKS / "Pulumi.local.yaml"
RELEASE = "kubernetes:helm.sh/v3:Release"
AIRFLOW = "system:serviceaccount:tidepool:airflow"
JOB = "system:serviceaccount:tidepool-jobs:job"
JOBS = naming.tenant_namespace("jobs")


class MadeUp:
    """A Side that stands where AWS does, and only says that all is there."""

    name = "aws"
    identity = "made-up"

    def kind(self, type_: str) -> Kind | None:
        def make(inputs: dict[str, Any], taken: frozenset[str]) -> Made:
            return Made("made-up", recorded.outputs_of(type_, "made-up", inputs))

        def change(old: Entry, inputs: dict[str, Any]) -> Made:
            return make(inputs, frozenset())

        ours = type_.startswith(("aws:", "eks:"))
        return Kind(make, change, lambda old: None) if ours else None

    def call(self, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return recorded.LOOK_UPS.get(token)

    def lacks(self, asked: Registration) -> None:
        """Nothing is missing from what is only said."""

    def lacks_parts(self, asked: Registration) -> Mapping[str, str]:
        return {}


class Cluster:
    """An API server, and a client of it that may do everything."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.api = ApiServer(kubeconfig, seconds=60)
        self._client = config.new_client_from_config(str(kubeconfig))

    def deploy(self, state: Path, overrides: Mapping[str, Any] | None = None) -> world.Deployed:
        config_map = stack_file.override(stack_file.read(LOCAL), overrides or {})
        return world.run([Random(), MadeUp(), self.api], config_map, "local", state)

    def may(self, user: str, verb: str, resource: str, namespace: str) -> bool:
        kind, _, part = resource.partition("/")
        asked = client.V1ResourceAttributes(verb=verb, resource=kind, subresource=part, namespace=namespace)
        spec = client.V1SubjectAccessReviewSpec(user=user, groups=["system:authenticated"], resource_attributes=asked)
        review = client.AuthorizationV1Api(self._client).create_subject_access_review(
            client.V1SubjectAccessReview(spec=spec)
        )
        allowed: bool = review.status.allowed
        return allowed


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("cluster"), controllers="namespace-controller") as kubeconfig:
        yield Cluster(kubeconfig)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The local stack's, from one test's deploy to the next."""
    return tmp_path_factory.mktemp("state") / "stack.jsonl"


EXISTING = Path(__file__).parents[1] / "infra" / "cases" / "accepted" / "every-key-existing.yaml"


def objects(stack: str) -> list[dict[str, Any]]:
    return applied(recorded.record(stack))


def applied(made: list[recorded.Recorded]) -> list[dict[str, Any]]:
    """What goes to the API server as it is; charts do not."""
    return [each.inputs for each in made if each.custom and each.typ.startswith("kubernetes:") and each.typ != RELEASE]


@pytest.mark.parametrize("stack", recorded.ALL)
def test_the_api_server_accepts_every_object_of_every_stack(cluster: Cluster, stack: str) -> None:
    all_accepted(cluster, objects(stack))


def test_the_api_server_accepts_every_object_of_every_service_on_an_existing_cluster(
    cluster: Cluster, tmp_path: Path
) -> None:
    made, _ = recorded.record_file(Path(shutil.copy(EXISTING, tmp_path / "Pulumi.lab.yaml")))
    all_accepted(cluster, applied(made))


def all_accepted(cluster: Cluster, manifests: list[dict[str, Any]]) -> None:
    of_charts = [each for each in manifests if (each["apiVersion"], each["kind"]) not in KINDS]
    namespaces = [each for each in manifests if each["kind"] == "Namespace"]
    for namespace in namespaces:
        cluster.api.apply(namespace)  # what is in it can't be checked before it is there
    refused = []
    for manifest in manifests:
        try:
            cluster.api.apply(manifest, dry_run=True)
        except WorldError as error:
            refused.append(str(error))
    assert refused == []
    assert of_charts == []
    assert len(manifests) > len(namespaces) > 1
    assert cluster.api.get(f"/api/v1/namespaces/tidepool/configmaps/{naming.CAPACITY_CONFIG_MAP}") is None


def test_a_second_deploy_changes_no_object(cluster: Cluster, state: Path) -> None:
    first = cluster.deploy(state)
    paths = [path_of(each) for each in objects("local")]
    before = {path: cluster.api.get(path) for path in paths}
    assert None not in before.values()
    again = cluster.deploy(state)
    assert {path: cluster.api.get(path) for path in paths} == before
    assert again.changes.unchanged > len(paths)
    assert again.outputs == first.outputs
    config_map = before[f"/api/v1/namespaces/tidepool/configmaps/{naming.CAPACITY_CONFIG_MAP}"]
    assert config_map is not None
    assert config_map["data"]["capacity.json"] == first.outputs["capacity"]


def test_without_its_state_a_deploy_applies_the_same_and_changes_no_object(cluster: Cluster, state: Path) -> None:
    cluster.deploy(state)
    paths = [path_of(each) for each in objects("local")]
    before = {path: cluster.api.get(path) for path in paths}
    state.unlink()
    cluster.deploy(state)
    assert {path: cluster.api.get(path) for path in paths} == before


def test_a_team_that_is_taken_out_loses_its_namespace(cluster: Cluster, state: Path) -> None:
    cluster.deploy(state, {"tenants.second": {"cpu": 8, "memory_gib": 32, "pods": 8}})
    path = "/api/v1/namespaces/tidepool-second"
    assert cluster.api.get(path) is not None
    cluster.deploy(state)
    there = cluster.api.get(path)
    assert there is None or there["status"]["phase"] == "Terminating"


def test_a_job_that_cannot_be_changed_is_made_anew(cluster: Cluster) -> None:
    def job(image: str) -> dict[str, Any]:
        container = {"name": "job", "image": image}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "once", "namespace": "default"},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
        }

    cluster.api.apply(job("first:1"))
    before = cluster.api.get(path_of(job("first:1")))
    cluster.api.apply(job("second:2"))
    after = cluster.api.get(path_of(job("first:1")))
    assert before is not None
    assert after is not None
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == "second:2"
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


def test_a_wrong_object_is_refused_and_what_is_there_stays(cluster: Cluster) -> None:
    good = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "default"},
        "data": {"a": "b"},
    }
    cluster.api.apply(good)
    before = cluster.api.get(path_of(good))
    with pytest.raises(WorldError, match="the API server refused /api/v1/namespaces/default/configmaps/a: "):
        cluster.api.apply({**good, "data": {"a": {"not": "text"}}})
    assert cluster.api.get(path_of(good)) == before


@pytest.mark.parametrize("verb", ["create", "get", "list", "watch", "patch", "delete"])
def test_airflow_may_handle_pods_where_jobs_run_and_nowhere_else(cluster: Cluster, state: Path, verb: str) -> None:
    cluster.deploy(state)
    places = (JOBS, "tidepool", "default", "kube-system", "")
    allowed = {namespace: cluster.may(AIRFLOW, verb, "pods", namespace) for namespace in places}
    assert allowed == {namespace: namespace == JOBS for namespace in places}


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("create", "pods/exec"),
        ("create", "pods/eviction"),
        ("get", "secrets"),
        ("create", "serviceaccounts"),
        ("create", "roles"),
        ("create", "deployments"),
        ("delete", "events"),
    ],
)
def test_airflow_may_do_nothing_but_handle_pods(cluster: Cluster, state: Path, verb: str, resource: str) -> None:
    cluster.deploy(state)
    assert not cluster.may(AIRFLOW, verb, resource, JOBS)


@pytest.mark.parametrize("resource", ["pods", "secrets", "configmaps"])
def test_a_job_may_ask_the_api_server_for_nothing(cluster: Cluster, state: Path, resource: str) -> None:
    cluster.deploy(state)
    assert not cluster.may(JOB, "get", resource, JOBS)


LAB = {
    "aws:region": None,
    "tidepool:protect": None,
    "tidepool:network": None,
    "tidepool:system": None,
    "tidepool:machines": None,
    "tidepool:quotas": None,
    "tidepool:cluster": {"kind": "existing", "name": "lab"},
    "tidepool:storage_class": "standard",
    "tidepool:system_nodes": {"selector": {"lab/role": "system"}},
    "tidepool:pools": {
        "batch": {
            "market": "on-demand",
            "max": 5,
            "labels": {"tidepool.dev/pool": "batch"},
            "taints": [{"key": "lab/jobs", "value": "only", "effect": "NoSchedule"}],
            "cpu": "7910m",
            "memory": "28Gi",
            "ephemeral_storage": "80Gi",
            "usd_per_hour": 0.4,
        }
    },
}
"""The local stack on a cluster that is there already, whatever it is."""


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants to ask AWS for anything fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("AWS was asked")

    monkeypatch.setattr(boto3.session.Session, "client", refuse)
    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", refuse)


@pytest.mark.usefixtures("no_aws")
def test_on_an_existing_cluster_the_same_services_come_up_without_aws(cluster: Cluster, tmp_path: Path) -> None:
    there = stack_file.read(LOCAL)
    config = {key: value for key, value in {**there, **LAB}.items() if value is not None}
    file = tmp_path / "Pulumi.lab.yaml"
    file.write_text(yaml.safe_dump({"config": config}))
    kubeconfig = cluster.kubeconfig
    deployed = world.deploy(file, {}, "http://127.0.0.1:1", kubeconfig, tmp_path / "stack.jsonl")
    made = {each.partition(" ")[0] for each in deployed.changes.created}
    assert {each.partition(":")[0] for each in made} == {"kubernetes"}
    ours = {each.typ for each in recorded.record("local") if each.custom and each.typ.startswith("kubernetes:")}
    of_aws = {RELEASE, "kubernetes:storage.k8s.io/v1:StorageClass"}
    assert made == ours - of_aws
    assert deployed.not_here == []
    (pool,) = capacity.loads(deployed.outputs["capacity"]).pools.values()
    assert (pool.name, pool.labels) == ("batch", {"tidepool.dev/pool": "batch"})
    stateful = cluster.api.get("/apis/apps/v1/namespaces/tidepool/statefulsets/hdfs-datanode")
    assert stateful is not None
    assert stateful["spec"]["template"]["spec"]["nodeSelector"] == {"lab/role": "system"}
    assert stateful["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "standard"
