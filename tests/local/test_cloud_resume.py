"""Machines are taken back at random moments: jobs with checkpoints lose a tenth of their finished work at most."""

from __future__ import annotations

import random
import re
import threading
import time
from typing import Any

import pytest

from infra.local.progress import Progress
from infra.local.reclaim import reclaim
from tidepool.capacity import LABEL_PREFIX

pytestmark = pytest.mark.local_cloud

SEED = 20261123
UNITS = {"plain": 150, "spark": 12}
SAID = re.compile(r"(?:unit|month) (\d+) is done")


def test_a_job_that_is_reclaimed_at_a_random_moment_goes_on_where_it_was(local: Any) -> None:
    chance = random.Random(SEED)  # noqa: S311 - a repeatable one is wanted
    moments = {task: chance.uniform(1, 0.8 * units) for task, units in UNITS.items()}
    print(f"seed {SEED}: reclaimed after {moments} units")
    run = local.start("resumes")
    threads = [threading.Thread(target=_take_back, args=(local, *each)) for each in moments.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    local.succeeds("resumes", run, 150)
    for task, units in UNITS.items():
        done = _done(local, run, task)
        assert len(done) >= 2, f"{task} was reclaimed"
        assert {unit for attempt in done for unit in attempt} == set(range(1, units + 1))
        repeated = sum(len(attempt) for attempt in done) - units
        finished = sum(len(attempt) for attempt in done[:-1])
        print(f"{task}: {[len(attempt) for attempt in done]} units by attempt, {repeated} of {finished} repeated")
        assert repeated <= 0.1 * finished
    checkpoints = local.lake / "checkpoints" / "resumes"
    assert not [
        name
        for task in UNITS
        for folder in (checkpoints / task).names()
        for name in (checkpoints / task / folder).names()
    ]
    local.drains()


def _take_back(local: Any, task: str, units: float) -> None:
    """Reclaim the task's machine somewhere in the unit that comes after so many."""
    selector = f"{LABEL_PREFIX}owner-task={task},{LABEL_PREFIX}attempt=1"
    pod = local.wait_until(lambda: _running(local, selector), 60, f"{task} runs")

    def said() -> int:
        log = local.api.read_namespaced_pod_log(pod.metadata.name, pod.metadata.namespace, tail_lines=20)
        return max((int(number) for number in SAID.findall(log)), default=0)

    local.wait_until(lambda: said() >= int(units), 120, f"{task} has done {int(units)} units")
    began = time.monotonic()
    local.wait_until(lambda: time.monotonic() - began >= units % 1, 2, "some time has passed")
    reclaim(local.cloud, pod.spec.node_name, 60, Progress())


def _running(local: Any, selector: str) -> Any:
    pods = local.api.list_pod_for_all_namespaces(label_selector=selector).items
    return next((pod for pod in pods if pod.status.phase == "Running"), None)


def _done(local: Any, run: str, task: str) -> list[list[int]]:
    """The units that each attempt says it has done."""
    tries = next(each.attempt for each in local.airflow.tasks("resumes", run) if each.task == task)
    logs = [local.airflow.log("resumes", run, task, number) for number in range(1, tries + 1)]
    return [[int(found[1]) for line in log if (found := SAID.search(line))] for log in logs]
