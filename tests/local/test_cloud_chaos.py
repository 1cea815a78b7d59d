"""Whatever part is killed while a job runs: the job ends once, with its result, and every machine is given back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra import naming

pytestmark = pytest.mark.local_cloud

AGAIN_SECONDS = 120
"""For a scheduler that was killed: Airflow takes its tasks for lost after 15 s and looks every 5 s."""


def running_job(local: Any) -> tuple[str, Path]:
    """Start the job that waits; its run and its folder, once it runs."""
    run = local.start("waits")
    folder = local.folder / run
    local.wait_until(lambda: lines(folder / "started"), 60, "the job runs")
    return run, folder


def lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def let_go(folder: Path) -> None:
    (folder / "go").touch()


@pytest.mark.parametrize("process", ["hypervisor", "cluster-autoscaler", "kube-apiserver", "airflow-scheduler"])
def test_a_job_ends_once_and_the_cloud_drains_though_this_process_is_killed(local: Any, process: str) -> None:
    run, folder = running_job(local)
    local.kill(process)
    let_go(folder)
    local.succeeds("waits", run, AGAIN_SECONDS)
    assert len(lines(folder / "ended")) == 1
    assert lines(folder / "started") == lines(folder / "ended"), "the running job was kept, and no other started"
    local.drains()
    ended = local.wait_until(lambda: local.pod_events("pod.ended", run), 10, "the pod's end was recorded")
    assert [event.cause for event in ended] == ["ok"]


def test_a_job_is_taken_over_by_a_scheduler_that_starts_while_it_still_runs(local: Any) -> None:
    run, folder = running_job(local)
    local.kill("airflow-scheduler")

    def taken_over() -> bool:
        (pod,) = local.api.list_namespaced_pod(naming.JOBS_NAMESPACE).items
        return "tidepool.dev/holder" in pod.metadata.annotations

    local.wait_until(taken_over, AGAIN_SECONDS, "a later attempt has taken the pod over")
    let_go(folder)
    local.succeeds("waits", run, 60)
    assert lines(folder / "started") == lines(folder / "ended")
    assert len(lines(folder / "ended")) == 1


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
    delays = json.loads((local.cloud.lake / "flights" / "delays.json").read_text())
    assert sum(row["flights"] for row in delays) == 336_776
    local.drains()
    ended = [(event.task, event.cause) for event in local.pod_events("pod.ended", run)]
    assert sorted(ended) == [("clean", "ok"), ("delays", "ok")]
