"""Airflow's own objects and Spark's history server on a real kube-apiserver: accepted, and their pods are let in.

The platform's namespace enforces Pod Security "restricted"; a Deployment's or a Job's pod that breaks it is never seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config

from infra.local.world_kubernetes import ApiServer
from infra.local.world_monitor import plain
from infra.services.airflow import Airflow
from infra.services.history_server import HistoryServer, HistoryServerArgs
from infra.services.platform import Platform
from infra.services.priority import PriorityClasses
from tests.infra import recording
from tests.infra.releases import DOCUMENT, RANDOM, SYSTEM, WHOLE_AIRFLOW
from tests.seam.api_server import first_things_first, started

pytestmark = pytest.mark.local_cloud


def program() -> None:
    PriorityClasses("priority")
    Platform("platform", capacity=DOCUMENT)
    HistoryServer("history", HistoryServerArgs("spark:1", "s3a://logs/events", 30, SYSTEM, identity={}))
    Airflow("airflow", WHOLE_AIRFLOW)


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    made = recording.made_by(program, computed=RANDOM)
    return [plain(dict(each.inputs)) for each in made if "kind" in each.inputs]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, manifests: list[dict[str, Any]]) -> Iterator[client.CoreV1Api]:
    """All objects are there: every one was accepted."""
    with started(tmp_path_factory.mktemp("cluster")) as kubeconfig:
        server = ApiServer(kubeconfig, seconds=60)
        for manifest in first_things_first(manifests):
            server.apply(manifest)
        yield client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_the_pod_is_let_in(api: client.CoreV1Api, manifests: list[dict[str, Any]], kind: str) -> None:
    (owner,) = [each for each in manifests if each["kind"] == kind]
    namespace = owner["metadata"]["namespace"]
    template = owner["spec"]["template"]
    metadata = {**template["metadata"], "name": "pod", "namespace": namespace}
    if not template["spec"].get("serviceAccountName"):
        template["spec"]["serviceAccountName"] = "airflow"  # a namespace's own `default` is made by a controller
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    answer = api.create_namespaced_pod(namespace, pod, dry_run="All")
    assert answer.spec.priority == 1_000_000
    assert not [volume.name for volume in answer.spec.volumes if volume.name.startswith("kube-api-access")]


def test_a_pod_that_may_more_is_not_let_in(api: client.CoreV1Api, manifests: list[dict[str, Any]]) -> None:
    (owner,) = [each for each in manifests if each["kind"] == "Deployment"]
    spec = {**owner["spec"]["template"]["spec"], "hostNetwork": True}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": "tidepool"}, "spec": spec}
    with pytest.raises(client.ApiException, match="violates PodSecurity"):
        api.create_namespaced_pod("tidepool", pod, dry_run="All")
