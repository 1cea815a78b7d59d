"""The pods of every job kind, and a SparkApplication, on a real API server with Pod Security "restricted"."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

from kubernetes import client, config

from infra import naming
from infra.local.world_kubernetes import ApiServer
from tests.dags.conftest import make_capacity, make_pool
from tests.seam import spark_applications
from tests.seam.api_server import started
from tidepool import (
    DaskClusterOperator,
    DaskPodOperator,
    JobPodOperator,
    SparkApplicationOperator,
    SparkClusterOperator,
    SparklingWaterPodOperator,
    SparkPodOperator,
    cluster,
    spark_application,
    spark_cluster_conf,
)
from tidepool import capacity as document
from tidepool.capacity import DRIVER_SERVICE_ACCOUNT, JOB_PRIORITY_CLASS

pytestmark = pytest.mark.local_cloud

NAMESPACE = "tidepool-analytics"


class Cluster:
    """The API server, and what is checked on it."""

    def __init__(self, kubeconfig: Path) -> None:
        server = ApiServer(kubeconfig, seconds=60)
        labels = naming.pod_security_labels("restricted")
        for manifest in (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": JOB_PRIORITY_CLASS},
                "value": 0,
            },
            *(
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": name, "namespace": NAMESPACE},
                }
                for name in (naming.JOB_SERVICE_ACCOUNT, DRIVER_SERVICE_ACCOUNT)
            ),
        ):
            server.apply(manifest)
        self._client = config.new_client_from_config(str(kubeconfig))
        self._core = client.CoreV1Api(self._client)

    def admits(self, pod: dict[str, Any], *, role: str = "") -> None:
        """Whether the pod may be made just as it is; every field known."""
        metadata = {**pod["metadata"], "name": pod["metadata"].get("name", "member")}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}
        self._core.create_namespaced_pod(NAMESPACE, made, dry_run="All", field_validation="Strict")
        assert metadata["labels"].get(cluster.ROLE_LABEL, "") == role

    def admits_application(self, application: dict[str, Any]) -> None:
        api = client.CustomObjectsApi(self._client)
        resource = (spark_application.GROUP, spark_application.VERSION, NAMESPACE, spark_application.PLURAL)
        api.create_namespaced_custom_object(*resource, application, dry_run="All", field_validation="Strict")

    def define_applications(self) -> None:
        spark_applications.define(client.ApiextensionsV1Api(self._client))


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    capacity = make_capacity(make_pool("spot-small"), make_pool("on-demand-small", "on-demand"), make_pool("g", gpus=1))
    capacity.images.update({"dask": "tidepool.local/dask:1", "h2o": "tidepool.local/h2o:1"})
    path = tmp_path_factory.mktemp("capacity") / "capacity.json"
    path.write_text(document.dumps(capacity))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(document.PATH_VARIABLE, str(path))
        with started(tmp_path_factory.mktemp("cluster"), controllers="namespace-controller") as kubeconfig:
            yield Cluster(kubeconfig)


def made(operator: JobPodOperator) -> Any:
    """The pod that the operator would create."""
    operator.hook = mock.MagicMock(is_in_cluster=False)
    ti = SimpleNamespace(dag_id="d", task_id=operator.task_id, run_id="r", try_number=1, map_index=-1)
    return operator.build_pod_request_obj({"ti": ti, "run_id": "r", "dag": None})


def as_json(pod: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.ApiClient().sanitize_for_serialization(pod)
    return found


SMALL: dict[str, Any] = {"task_id": "t", "application": "a.py"}


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        (JobPodOperator, {"task_id": "t", "image": "i:1", "arguments": ["x"]}),
        (JobPodOperator, {"task_id": "t", "image": "i:1", "gpus": 1}),
        (SparkPodOperator, SMALL),
        (SparkClusterOperator, SMALL),
        (DaskPodOperator, SMALL),
        (DaskClusterOperator, SMALL),
        (SparklingWaterPodOperator, SMALL),
    ],
)
def test_the_task_pod_of_every_kind_is_admitted(
    there: Cluster, operator: type[JobPodOperator], arguments: dict[str, Any]
) -> None:
    there.admits(as_json(made(operator(**arguments))))


def test_executors_of_a_driver_are_admitted(there: Cluster) -> None:
    driver = as_json(made(SparkClusterOperator(**SMALL)))
    executor = json.loads(driver["metadata"]["annotations"][spark_cluster_conf.TEMPLATE_ANNOTATION])
    there.admits(executor, role="executor")


def test_workers_of_a_scheduler_are_admitted(there: Cluster) -> None:
    operator = DaskClusterOperator(**SMALL)
    operator.pod_request_obj = made(operator)
    main = as_json(operator.pod_request_obj) | {"status": {"podIP": "10.0.0.1"}}
    worker = cluster.owned_by(operator._worker(main, "t-0"), "t", "u")
    there.admits(worker, role="worker")


def test_an_application_has_no_field_that_its_resource_lacks_and_its_pods_are_admitted(there: Cluster) -> None:
    there.define_applications()
    operator = SparkApplicationOperator(**SMALL, executors=(1, 4))
    application = operator._application_of(made(operator))
    there.admits_application(application)
    for part, role in (("driver", ""), ("executor", "executor")):
        there.admits(application["spec"][part]["template"], role=role)
