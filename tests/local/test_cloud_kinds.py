"""Each job kind, run by Airflow on machines that are bought for it and given back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra import naming
from tidepool.cluster import ROLE_LABEL

pytestmark = pytest.mark.local_cloud

NAMESPACE = naming.tenant_namespace("jobs")


def members(local: Any) -> list[Any]:
    """The pods of jobs that other pods of theirs own."""
    found: list[Any] = local.api.list_namespaced_pod(NAMESPACE, label_selector=ROLE_LABEL).items
    return found


def needs(local: Any, image: str) -> None:
    if image not in local.capacity.images:
        pytest.skip(f"machines do not have the image {image}")


def runs(local: Any, dag: str, limit: float) -> str:
    """Run a DAG to its success; afterwards nothing of it is left, and no machine."""
    run = local.start(dag)
    local.succeeds(dag, run, limit)
    local.wait_until(lambda: not local.api.list_namespaced_pod(NAMESPACE).items, 60, f"no pod of {dag} is left")
    local.drains()
    return str(run)


def runs_with_members(local: Any, dag: str, count: int, limit: float) -> None:
    """The same for a job of several pods, of which as many members as asked for run at once, each on a machine."""
    run = local.start(dag)

    def there() -> Any:
        found = [pod for pod in members(local) if pod.status.phase == "Running"]
        return found if len(found) == count else None

    running = local.wait_until(there, limit, f"{count} members run")
    [main] = [pod for pod in local.api.list_namespaced_pod(NAMESPACE).items if ROLE_LABEL not in pod.metadata.labels]
    assert {pod.metadata.owner_references[0].uid for pod in running} == {main.metadata.uid}
    assert len({pod.spec.node_name for pod in running} | {main.spec.node_name}) == count + 1
    assert local.node(main.spec.node_name).metadata.labels["tidepool.dev/pool"] == "on-demand-small"
    assert {local.node(pod.spec.node_name).metadata.labels["tidepool.dev/pool"] for pod in running} == {"spot-small"}
    local.succeeds(dag, run, limit)
    local.wait_until(lambda: not local.api.list_namespaced_pod(NAMESPACE).items, 60, f"no pod of {dag} is left")
    local.drains()


def test_any_command_of_any_image(local: Any) -> None:
    runs(local, "any_image", 120)


def test_spark_with_executors_on_machines_of_their_own(local: Any) -> None:
    runs_with_members(local, "spark_cluster", 2, 240)
    months = (local.lake / "flights" / "clean").names()
    assert "_SUCCESS" in months
    assert len([name for name in months if name.startswith("month=")]) == 12


def test_dask_in_one_pod(local: Any) -> None:
    needs(local, "dask")
    runs(local, "dask_pod", 180)
    delays = json.loads((local.lake / "flights" / "dask" / "delays.json").read())
    assert (delays[0]["carrier"], delays[0]["arr_delay"]) == ("F9", 21.92)


def test_dask_with_workers_on_machines_of_their_own(local: Any) -> None:
    needs(local, "dask")
    runs_with_members(local, "dask_cluster", 2, 240)


def test_h2o_in_one_pod(local: Any) -> None:
    needs(local, "h2o")
    runs(local, "sparkling_water", 300)
    model = json.loads((local.lake / "flights" / "h2o" / "model.json").read())
    assert model["rmse"] < model["baseline_rmse"]
