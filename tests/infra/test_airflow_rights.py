"""Who of Airflow may do what in the cluster, by all Roles that the program makes, whatever executor it has."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from infra import naming
from infra.services import airflow_executor
from infra.services.airflow_values import DATABASE_SECRET, KEYS_SECRET
from tests.infra import recorded
from tests.infra.recorded import Recorded

ROOT = Path(__file__).resolve().parents[2]
CASE = Path(__file__).parent / "cases" / "accepted" / "every-key-existing.yaml"
DAG_CODE = {"airflow"}
"""The ServiceAccounts that DAG code runs as: workers, triggerer, and with LocalExecutor the scheduler."""


@pytest.fixture(scope="module", params=["LocalExecutor", "KubernetesExecutor"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Recorded]:
    stack = Path(shutil.copy(CASE, tmp_path_factory.mktemp("stack") / "Pulumi.lab.yaml"))
    text = stack.read_text().replace("{executor: LocalExecutor", f"{{executor: {request.param}")
    assert request.param in text
    stack.write_text(text)
    return recorded.record_file(stack)[0]


def kind(made: Iterable[Recorded], name: str) -> list[dict[str, Any]]:
    return [each.inputs for each in made if each.inputs.get("kind") == name]


def rights(made: list[Recorded], account: str) -> dict[str, set[tuple[str, str]]]:
    """What a ServiceAccount of the platform may do: resource and verb, by namespace (empty: in the whole cluster)."""
    found: dict[str, set[tuple[str, str]]] = {}
    for binding in (*kind(made, "RoleBinding"), *kind(made, "ClusterRoleBinding")):
        subjects = {(each["namespace"], each["name"]) for each in binding["subjects"]}
        if (naming.PLATFORM_NAMESPACE, account) not in subjects:
            continue
        namespace = binding["metadata"].get("namespace", "")
        (role,) = [
            each
            for each in kind(made, binding["roleRef"]["kind"])
            if each["metadata"]["name"] == binding["roleRef"]["name"]
            and each["metadata"].get("namespace", "") == namespace
        ]
        for rule in role["rules"]:
            pairs = {(resource, verb) for resource in rule["resources"] for verb in rule["verbs"]}
            found.setdefault(namespace, set()).update(pairs)
    return found


def test_dag_code_has_no_right_beside_the_platforms_servers(made: list[Recorded]) -> None:
    for account in DAG_CODE:
        given = rights(made, account)
        assert set(given) == {"", "tidepool-jobs"}
        assert given[""] == {("nodes", "get")}
        assert ("pods", "create") in given["tidepool-jobs"]


def test_nobody_of_airflow_may_enter_a_pod_or_read_a_secret(made: list[Recorded]) -> None:
    for account in ("airflow", "airflow-scheduler", "airflow-api-server"):
        for namespace, given in rights(made, account).items():
            resources = {resource for resource, _ in given}
            assert not resources & {"pods/exec", "pods/attach", "pods/ephemeralcontainers", "secrets", "*"}, namespace


def test_only_the_scheduler_makes_pods_beside_airflow_and_only_where_tasks_are_pods(made: list[Recorded]) -> None:
    is_kubernetes = bool(kind(made, "ValidatingAdmissionPolicy"))
    executor = {("pods", verb) for verb in ("create", "get", "list", "watch", "patch", "delete")}
    reader = {("pods", "get"), ("pods", "list"), ("pods/log", "get")}
    assert rights(made, "airflow-scheduler") == ({"tidepool": executor} if is_kubernetes else {})
    assert rights(made, "airflow-api-server") == ({"tidepool": reader} if is_kubernetes else {})


def test_the_release_comes_after_the_schedulers_account_and_the_limits(made: list[Recorded]) -> None:
    (release,) = [each for each in made if each.inputs.get("chart") == "airflow"]
    account = release.inputs["values"]["scheduler"]["serviceAccount"]["name"]
    names = {each["metadata"]["name"] for each in kind(made, "ServiceAccount")}
    assert account in names
    assert account == ("airflow-scheduler" if kind(made, "ValidatingAdmissionPolicy") else "airflow")


def test_the_limits_deny_and_hold_where_airflow_is() -> None:
    binding = airflow_executor.admission_binding()
    assert binding["validationActions"] == ["Deny"]
    assert airflow_executor.admission_policy([DATABASE_SECRET, KEYS_SECRET])["failurePolicy"] == "Fail"
    labels = binding["matchResources"]["namespaceSelector"]["matchLabels"]
    assert labels == {"kubernetes.io/metadata.name": naming.PLATFORM_NAMESPACE}
