"""Whatever part is killed while a job runs: the job ends once, with its result, and every machine is given back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra import naming
from infra.local import addresses, network

pytestmark = pytest.mark.local_cloud

AGAIN_SECONDS = 120
"""For a scheduler that was killed: Airflow takes its tasks for lost after 15 s and looks every 5 s."""


def running_job(local: Any) -> tuple[str, Any]:
    """Start the job that waits; its run and its folder, once it runs."""
    run = local.start("waits")
    folder = local.folder / run
    local.wait_until((folder / "started").names, 60, "the job runs")
    return run, folder


def let_go(folder: Any) -> None:
    (folder / "go").touch()


def ended_once(local: Any, run: str, folder: Any) -> None:
    """One pod ran, to its end, and the record says so too."""
    ended = (folder / "ended").names()
    assert (folder / "started").names() == ended, "what ran was kept, and no other was started"
    assert len(ended) == 1
    recorded = local.wait_until(lambda: local.pod_events("pod.ended", run), 10, "the pod's end was recorded")
    assert [event.cause for event in recorded] == ["ok"]


@pytest.mark.parametrize("process", ["hypervisor", "cluster-autoscaler", "kube-apiserver"])
def test_a_job_ends_once_and_the_cloud_drains_though_this_process_is_killed(local: Any, process: str) -> None:
    run, folder = running_job(local)
    local.kill(process)
    let_go(folder)
    local.succeeds("waits", run, 60)
    local.drains()
    ended_once(local, run, folder)


def test_jobs_are_taken_over_whether_they_end_before_the_next_scheduler_looks_or_after(local: Any) -> None:
    before, its_folder = running_job(local)
    after, folder = running_job(local)
    local.kill("airflow-scheduler")
    let_go(its_folder)

    def taken_over() -> bool:
        pods = local.api.list_namespaced_pod(naming.tenant_namespace("jobs")).items
        holders = [pod for pod in pods if pod.metadata.annotations.get("tidepool.dev/owner-run") == after]
        return "tidepool.dev/holder" in holders[0].metadata.annotations

    local.wait_until(taken_over, AGAIN_SECONDS, "a later attempt has taken over the pod that still runs")
    let_go(folder)
    local.succeeds("waits", before, AGAIN_SECONDS)
    local.succeeds("waits", after, 60)
    local.drains()
    ended_once(local, before, its_folder)
    ended_once(local, after, folder)


def test_a_network_that_a_killed_hypervisor_left_half_made_is_made_anew(local: Any) -> None:
    index = 250
    network.ip("netns", "add", f"{network.NAMESPACE_PREFIX}half")
    try:
        network.plug("half", index)
        assert addresses.HOST in network.ip("-n", f"{network.NAMESPACE_PREFIX}half", "route", "show", "default")
    finally:
        network.unplug("half", index)


def test_a_machine_comes_though_hypervisor_and_autoscaler_are_killed_on_the_way(local: Any) -> None:
    before = local.machines_asked()
    local.create(local.job_pod("bought", "import time; time.sleep(3600)", memory="1Gi"))
    local.kill("cluster-autoscaler")
    new = local.wait_until(lambda: local.machines_asked() - before, 30, "a machine was asked for")
    local.kill("hypervisor")
    machine = local.runs("bought")
    assert new == {machine} == local.machines_asked() - before
    local.delete("bought")
    local.drains()


def test_spark_counts_every_flight_once_though_hypervisor_and_apiserver_are_killed(local: Any) -> None:
    run = local.start("flights")
    for process in ("hypervisor", "kube-apiserver"):
        local.wait_until(lambda: local.pod_events("pod.running", run), 60, "Spark runs")
        local.kill(process)
    local.succeeds("flights", run, 180)
    delays = json.loads((local.lake / "flights" / "delays.json").read())
    assert sum(row["flights"] for row in delays) == 336_776
    local.drains()
    ended = [(event.task, event.cause) for event in local.pod_events("pod.ended", run)]
    assert sorted(ended) == [("clean", "ok"), ("delays", "ok")]
