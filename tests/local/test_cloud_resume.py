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
MOMENTS = {"plain": (2.0, 12.0), "spark": (12.0, 25.0)}
"""Seconds after a pod's start: while the one counts, and while the other is in Spark."""


def test_a_job_that_is_reclaimed_at_a_random_moment_goes_on_where_it_was(local: Any) -> None:
    chance = random.Random(SEED)  # noqa: S311 - a repeatable one is wanted
    moments = {task: chance.uniform(*MOMENTS[task]) for task in UNITS}
    print(f"seed {SEED}: reclaimed {moments} s after they started")
    run = local.start("resumes")
    threads = [threading.Thread(target=_take_back, args=(local, run, *each)) for each in moments.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    local.succeeds("resumes", run, 120)
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


def _take_back(local: Any, run: str, task: str, seconds: float) -> None:
    selector = f"{LABEL_PREFIX}owner-task={task},{LABEL_PREFIX}attempt=1"
    pod = local.wait_until(lambda: _running(local, selector), 60, f"{task} runs")
    time.sleep(max(0.0, seconds - (time.time() - pod.status.start_time.timestamp())))
    reclaim(local.cloud, pod.spec.node_name, 60, Progress())


def _running(local: Any, selector: str) -> Any:
    pods = local.api.list_pod_for_all_namespaces(label_selector=selector).items
    return next((pod for pod in pods if pod.status.phase == "Running"), None)


def _done(local: Any, run: str, task: str) -> list[list[int]]:
    """The units that each attempt says it has done."""
    tries = next(each.attempt for each in local.airflow.tasks("resumes", run) if each.task == task)
    logs = [local.airflow.log("resumes", run, task, number) for number in range(1, tries + 1)]
    return [
        [int(found[1]) for line in log if (found := re.search(r"(?:unit|month) (\d+) is done", line))] for log in logs
    ]
