"""Machines are taken back at random moments: jobs with checkpoints lose a tenth of their finished work at most."""

from __future__ import annotations

import random
import re
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


@pytest.mark.parametrize("task", UNITS)
def test_a_job_that_is_reclaimed_at_a_random_moment_goes_on_where_it_was(local: Any, task: str) -> None:
    units, dag = UNITS[task], f"resumes_{task}"
    moment = random.Random(f"{SEED} {task}").uniform(1, 0.8 * units)  # noqa: S311 - a repeatable one is wanted
    run = local.start(dag)
    _take_back(local, task, moment)
    local.succeeds(dag, run, 150)
    done = _done(local, dag, run, task)
    assert len(done) >= 2, "it was reclaimed"
    unsaid = set(range(1, units + 1)) - {unit for attempt in done for unit in attempt}
    assert unsaid <= {max(attempt, default=0) + 1 for attempt in done[:-1]}, "only what was done as it was stopped"
    finished = sum(len(attempt) for attempt in done[:-1])
    repeated = sum(len(attempt) for attempt in done) - units + len(unsaid)
    counts = [len(attempt) for attempt in done]
    print(
        f"{task}, seed {SEED}, reclaimed after {moment:.1f} of {units} units: {counts} by attempt, {repeated} repeated"
    )
    assert repeated <= 0.1 * finished
    folder = local.lake / "checkpoints" / dag / task
    assert not [name for of_run in folder.names() for name in (folder / of_run).names()], "a success leaves none"
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


def _done(local: Any, dag: str, run: str, task: str) -> list[list[int]]:
    """The units that each attempt says it has done. A log that was cut off repeats its last lines."""
    tries = next(each.attempt for each in local.airflow.tasks(dag, run) if each.task == task)
    logs = [local.airflow.log(dag, run, task, number) for number in range(1, tries + 1)]
    return [sorted({int(found[1]) for line in log if (found := SAID.search(line))}) for log in logs]
