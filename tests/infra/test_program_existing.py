"""The whole program on a cluster that is there already, with every service that it can bring."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from infra import settings
from infra.policy import rules
from tests.infra import recorded
from tests.infra.policy_cases import as_resource, partial
from tests.infra.recorded import Recorded

CASE = Path(__file__).parent / "cases" / "accepted" / "every-key-existing.yaml"
ROLE = "eks.amazonaws.com/role-arn"
RELEASE = "kubernetes:helm.sh/v3:Release"

RELEASES = {
    "airflow": "https://charts.example",  # a mirror, as the case says
    "kube-prometheus-stack": "https://prometheus-community.github.io/helm-charts",
    "nvidia-device-plugin": "https://nvidia.github.io/k8s-device-plugin",
    "spark-operator": "https://kubeflow.github.io/spark-operator",
}
"""Repository by chart. No autoscaler and no handler of reclaim notices: the cluster has its own."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(CASE, tmp_path_factory.mktemp("stack") / "Pulumi.lab.yaml"))


@pytest.fixture(scope="module", params=[True, False], ids=["preview", "deployed"])
def made(stack: Path, request: pytest.FixtureRequest) -> list[Recorded]:
    """What the program makes of it. `recorded` answers no look-up but AWS's, and none of those is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded, "LOOK_UPS", {})
        return recorded.record_file(stack, preview=request.param)[0]


def test_the_case_has_every_service(stack: Path) -> None:
    services = settings.load(stack).services
    assert None not in (services.airflow, services.hdfs, services.keeper, services.monitoring)
    assert services.spark_operator
    assert services.history_server


def test_nothing_is_made_on_aws(made: list[Recorded]) -> None:
    providers = {each.typ.partition(":")[0] for each in made if each.custom}
    assert providers == {"kubernetes", "pulumi", "random"}
    assert [each.name for each in made if each.typ.startswith("pulumi:")] == ["cluster"]


def test_every_service_comes_up(made: list[Recorded]) -> None:
    releases = {each.inputs["chart"]: each.inputs["repositoryOpts"]["repo"] for each in made if each.typ == RELEASE}
    assert releases == RELEASES
    components = {each.typ.rpartition(":")[2] for each in made if each.typ.startswith("tidepool:")}
    assert components == {
        "Airflow",
        "DevicePlugin",
        "Hdfs",
        "HistoryServer",
        "Keeper",
        "Monitoring",
        "Platform",
        "PriorityClasses",
        "SparkOperator",
        "Tenants",
    }
    counts = Counter(each.typ.rpartition(":")[2] for each in made if each.custom)
    wanted = {
        "ConfigMap": 8,
        "Deployment": 2,
        "Job": 2,
        "LimitRange": 1,
        "Namespace": 4,
        "NetworkPolicy": 16,
        "PriorityClass": 4,
        "Release": 4,
        "ResourceQuota": 2,
        "Secret": 5,
        "Service": 4,
        "ServiceAccount": 6,
        "StatefulSet": 2,
    }
    assert {kind: counts[kind] for kind in wanted} == wanted


def test_no_rule_is_broken(made: list[Recorded]) -> None:
    resources = [as_resource(each, partial(each.inputs)) for each in made]
    assert [str(each) for each in rules.violations(resources)] == []


def test_pods_have_the_identities_that_the_settings_give_their_accounts(made: list[Recorded]) -> None:
    found = {
        (each.inputs["metadata"]["namespace"], each.inputs["metadata"]["name"]): each.inputs["metadata"]["annotations"]
        for each in made
        if each.typ.endswith(":ServiceAccount") and each.inputs["metadata"].get("annotations")
    }
    jobs, airflow = ({ROLE: f"arn:aws:iam::123456789012:role/{name}"} for name in ("jobs", "airflow"))
    assert found == {
        ("tidepool", "airflow"): airflow,
        ("tidepool-jobs", "job"): jobs,
        ("tidepool-jobs", "job-driver"): jobs,
    }


def test_a_cluster_that_has_a_device_plugin_gets_no_other(tmp_path: Path) -> None:
    text = CASE.read_text().replace("device_plugin: true", "device_plugin: false")
    stack = tmp_path / "Pulumi.lab.yaml"
    stack.write_text(text)
    without = [each.inputs["chart"] for each in recorded.record_file(stack)[0] if each.typ == RELEASE]
    assert sorted(without) == sorted(RELEASES.keys() - {"nvidia-device-plugin"})


def test_servers_go_where_the_settings_say(made: list[Recorded]) -> None:
    pods = [
        each.inputs["spec"]["template"]["spec"] for each in made if each.typ.endswith((":Deployment", ":StatefulSet"))
    ]
    assert [pod["nodeSelector"] for pod in pods] == [{"example.com/role": "system"}] * 4
    claims = [
        claim["spec"]["storageClassName"]
        for each in made
        if each.typ.endswith(":StatefulSet")
        for claim in each.inputs["spec"]["volumeClaimTemplates"]
    ]
    assert claims == ["fast"] * 2
