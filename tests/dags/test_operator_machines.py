"""What is read of a pod's machine: which pool's it is, and whether it is lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from tests.dags.attempts import failed, pools_of
from tests.dags.fake_kubernetes import Clock, Kubernetes, Watch, context, task
from tidepool import Cause, JobFailed
from tidepool import capacity as document
from tidepool.capacity import Capacity
from tidepool.operators import evidence


def node(ready: str = "True", created: str = "2026-11-22T09:00:00Z") -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": created}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def test_where_a_pod_landed_that_might_land_anywhere_is_read_from_its_machine(kubernetes: Kubernetes) -> None:
    kubernetes.phase = lambda body: "Running" if len(pools_of(body)) > 1 else "Pending"
    kubernetes.nodes = {"i-1": node() | {"metadata": {"labels": {"tidepool.dev/pool": "on-demand-small"}}}}
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 1, "Error")
    error = failed(task(kubernetes))
    assert (error.pool, error.market) == ("on-demand-small", "on-demand")


def test_where_a_pod_landed_is_known_also_where_nodes_carry_no_label_of_tidepools(
    kubernetes: Kubernetes, capacity: Capacity, capacity_file: Path
) -> None:
    own = {name: dataclasses.replace(pool, labels={"group": name}) for name, pool in capacity.pools.items()}
    capacity_file.write_text(document.dumps(dataclasses.replace(capacity, pools=own)), encoding="utf-8")
    kubernetes.phase = lambda body: "Running" if len(pools_of(body)) > 1 else "Pending"
    kubernetes.nodes = {"i-1": node() | {"metadata": {"labels": {"group": "on-demand-small"}}}}
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 1, "Error")
    error = failed(task(kubernetes))
    assert (error.pool, error.market) == ("on-demand-small", "on-demand")


def test_a_pod_that_may_land_anywhere_is_taken_over_on_the_last_rung(kubernetes: Kubernetes, clock: Clock) -> None:
    """Its label names the first pool, though its machine may be of another."""
    kubernetes.phase = lambda body: "Pending"
    with pytest.raises(TaskDeferred):
        task(kubernetes, deferrable=True, kubernetes_conn_id=None).execute(context())
    [name] = kubernetes.pods
    clock.at = [(clock.passed + 100, lambda: kubernetes.bind(name))]
    kubernetes.nodes = {"i-1": node() | {"metadata": {"labels": {"tidepool.dev/pool": "on-demand-small"}}}}
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 1, "Error")
    made = len(kubernetes.created)
    error = failed(task(kubernetes), 2)
    assert (error.pool, error.market, len(kubernetes.created)) == ("on-demand-small", "on-demand", made)


def test_where_a_pod_landed_while_its_task_was_deferred_is_read_from_its_machine(kubernetes: Kubernetes) -> None:
    kubernetes.put("p", labels={"tidepool.dev/pool": "spot-small"})
    kubernetes.nodes = {"i-1": node() | {"metadata": {"labels": {"tidepool.dev/pool": "on-demand-small"}}}}
    both = ["spot-small", "on-demand-small"]
    terms = [{"matchExpressions": [{"key": "tidepool.dev/pool", "operator": "In", "values": [pool]}]} for pool in both]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    kubernetes.pods["p"].spec.affinity = {"nodeAffinity": required}
    kubernetes.end("p", "Failed", 1, "Error")
    event = {"status": "failed", "name": "p", "namespace": "tidepool-analytics", "message": ""}
    with pytest.raises(JobFailed) as caught:
        task(kubernetes, deferrable=True).trigger_reentry(context(), event)
    assert (caught.value.pool, caught.value.market) == ("on-demand-small", "on-demand")


POD = {"spec": {"nodeName": "i-1"}, "status": {"startTime": "2026-11-22T10:00:00Z"}}


def test_a_machine_of_the_same_name_that_is_younger_than_the_pod_is_another(kubernetes: Kubernetes) -> None:
    kubernetes.nodes = {"i-1": node()}
    assert evidence.machine(kubernetes, POD) == (node(), False)  # type: ignore[arg-type]
    kubernetes.nodes = {"i-1": node(created="2026-11-22T11:00:00Z")}
    assert evidence.machine(kubernetes, POD) == (None, True)  # type: ignore[arg-type]
    kubernetes.nodes = None
    assert evidence.machine(kubernetes, POD) == (None, False)  # type: ignore[arg-type]


@pytest.mark.parametrize(("ready", "cause"), [("Unknown", Cause.NODE_LOST), ("True", Cause.APP_ERROR)])
def test_a_signal_is_the_machines_or_the_programs_own_as_the_machine_shows_in_a_minute(
    kubernetes: Kubernetes, clock: Clock, ready: str, cause: Cause
) -> None:
    kubernetes.nodes = {"i-1": node()}

    def gets_signal(name: str) -> None:
        kubernetes.end(name, "Failed", 143, "Error")
        Watch.last = kubernetes.json(name)
        assert kubernetes.nodes is not None
        nodes = kubernetes.nodes
        clock.at = [(clock.passed + 30, lambda: nodes.update({"i-1": node(ready)}))]

    kubernetes.script = gets_signal
    assert failed(task(kubernetes)).cause is cause
    assert clock.passed <= 70
