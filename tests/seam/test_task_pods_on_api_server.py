"""What KubernetesExecutor's scheduler may have started in the platform's namespace, asked of a real kube-apiserver."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config

from infra.local.world_kubernetes import ApiServer
from infra.local.world_monitor import plain
from infra.services.airflow import Airflow
from infra.services.placement import RESTRICTED_CONTAINER, RESTRICTED_POD
from infra.services.platform import Platform
from infra.services.priority import PriorityClasses
from infra.settings import model
from tests.infra import recording
from tests.infra.releases import DOCUMENT, RANDOM, WHOLE_AIRFLOW
from tests.seam.api_server import first_things_first, started
from tests.waiting import wait_until

pytestmark = pytest.mark.local_cloud

SCHEDULER = "system:serviceaccount:tidepool:airflow-scheduler"


def secret_variable(secret: str, key: str) -> dict[str, Any]:
    return {"name": secret.upper(), "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


TASK_POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "task", "namespace": "tidepool"},
    "spec": {
        "serviceAccountName": "airflow",
        "securityContext": {**RESTRICTED_POD, "runAsUser": 50000},
        "containers": [
            {
                "name": "base",
                "image": "airflow:1",
                "env": [
                    {"name": "PLAIN", "value": "text"},
                    secret_variable("airflow-database", "connection"),
                    secret_variable("airflow-keys", "fernet-key"),
                ],
                "volumeMounts": [{"name": "logs", "mountPath": "/opt/airflow/logs"}],
                "securityContext": RESTRICTED_CONTAINER,
            }
        ],
        "volumes": [
            {"name": "logs", "emptyDir": {}},
            {"name": "capacity", "configMap": {"name": "tidepool-capacity"}},
        ],
    },
}
"""As the chart's pod template makes one, in what matters here."""


def program() -> None:
    PriorityClasses("priority")
    Platform("platform", capacity=DOCUMENT)
    executor = model.Airflow(executor="KubernetesExecutor", dags=None)
    Airflow("airflow", dataclasses.replace(WHOLE_AIRFLOW, settings=executor))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[client.CoreV1Api]:
    """As the scheduler, as soon as the API server heeds the policy."""
    made = recording.made_by(program, computed=RANDOM)
    manifests = [plain(dict(each.inputs)) for each in made if "kind" in each.inputs]
    with started(tmp_path_factory.mktemp("cluster")) as kubeconfig:
        server = ApiServer(kubeconfig, seconds=60)
        for manifest in first_things_first(manifests):
            server.apply(manifest)
        ours = config.new_client_from_config(str(kubeconfig))
        ours.set_default_header("Impersonate-User", SCHEDULER)
        api = client.CoreV1Api(ours)
        wait_until(lambda: "ServiceAccount" in refusal(api, as_another), 60, "the policy is heeded")
        yield api


def refusal(api: client.CoreV1Api, change: Callable[[dict[str, Any]], Any]) -> str:
    """What the API server says to a task pod that was changed; empty if it takes it."""
    pod = copy.deepcopy(TASK_POD)
    change(pod["spec"])
    try:
        api.create_namespaced_pod("tidepool", pod, dry_run="All")
    except client.ApiException as error:
        return str(error.body)
    return ""


def as_another(spec: dict[str, Any]) -> None:
    spec["serviceAccountName"] = "airflow-scheduler"


def with_a_volume(volume: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["volumes"].append({"name": "more", **volume})


def with_a_sidecar(container: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    whole = {"name": "more", "image": "airflow:1", "securityContext": RESTRICTED_CONTAINER, **container}
    return lambda spec: spec.setdefault("initContainers", []).append(whole)


def test_the_charts_task_pod_is_made(api: client.CoreV1Api) -> None:
    assert refusal(api, lambda spec: None) == ""
    assert refusal(api, with_a_sidecar({"env": [secret_variable("airflow-keys", "jwt-secret")]})) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (as_another, "runs as the ServiceAccount airflow"),
        (with_a_volume({"secret": {"secretName": "keeper-page"}}), "no volume with a Secret"),
        (with_a_volume({"projected": {"sources": [{"secret": {"name": "keeper-page"}}]}}), "no volume with a Secret"),
        (with_a_volume({"persistentVolumeClaim": {"claimName": "data-hdfs-namenode-0"}}), "none of another service"),
        (with_a_sidecar({"envFrom": [{"secretRef": {"name": "keeper-page"}}]}), "no whole Secret"),
        (with_a_sidecar({"env": [secret_variable("keeper-page", "token")]}), "no other Secret than airflow-database"),
    ],
    ids=[
        "another's account",
        "a Secret",
        "a projected Secret",
        "a volume of HDFS",
        "a Secret's keys",
        "a Secret's key",
    ],
)
def test_a_pod_that_reaches_what_is_not_airflows_is_refused(
    api: client.CoreV1Api, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    assert reason in refusal(api, change)


def test_what_others_make_there_is_not_looked_at(api: client.CoreV1Api) -> None:
    del api.api_client.default_headers["Impersonate-User"]
    try:
        assert refusal(api, with_a_volume({"secret": {"secretName": "keeper-page"}})) == ""
    finally:
        api.api_client.default_headers["Impersonate-User"] = SCHEDULER
