"""Budgets and overrides of sizes, from the ledger that knows what was spent and used to the pods that are made."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import naming
from infra.cli.main import app
from tidepool import budget, capacity
from tidepool.capacity import SPENDING_CONFIG_MAP, Budget

pytestmark = pytest.mark.local_cloud

NAMESPACE = naming.tenant_namespace("jobs")
MIB = 1024**2


def runs(local: Any, dag: str, mib: list[int]) -> str:
    """Start a run whose attempts hold so much memory; its run id."""
    local.airflow.wait_dag(dag, 60)
    return str(local.airflow.trigger(dag, {"mib": mib}))


def ends(local: Any, dag: str, mib: list[int]) -> list[int]:
    """The memory of each pod of a run that succeeds, MiB."""
    run = runs(local, dag, mib)
    local.succeeds(dag, run, 60)
    return [event.memory_bytes // MIB for event in local.pod_events("pod.queued", run)]


@contextlib.contextmanager
def declared(local: Any, name: str, one: Budget) -> Iterator[None]:
    """The environment has this budget, as though its stack file did."""
    path, before = local.cloud.capacity, local.cloud.capacity.read_text()

    def write(text: str) -> None:
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)

    write(capacity.dumps(dataclasses.replace(capacity.loads(before, str(path)), budgets={name: one})))
    try:
        yield
    finally:
        write(before)


def spent(local: Any, name: str) -> float:
    """What the keeper has published of a budget, USD."""
    found = local.api.read_namespaced_config_map(SPENDING_CONFIG_MAP, NAMESPACE).data or {}
    figure = budget.load(found).figures.get(name)
    return figure.usd if figure else 0.0


def tidepool(*words: str) -> list[dict[str, Any]]:
    """What a command says as JSON; nothing where it failed, as long as nothing is known."""
    done = CliRunner().invoke(app, [*words, "--json"])
    return list(json.loads(done.stdout)) if done.exit_code == 0 else []


def test_a_job_whose_hard_budget_is_spent_makes_no_pod_and_its_task_fails_with_the_figures(local: Any) -> None:
    assert len(ends(local, "spends", [1])) == 1
    limit = 1e-6
    with declared(local, "tests", Budget("", "spends", "month", 0.0, limit, "fail")):
        local.wait_until(lambda: spent(local, "tests") > limit, 40, "the keeper has published what was spent")
        run = runs(local, "spends", [1])
        local.wait_until(lambda: local.airflow.state("spends", run) == "failed", 40, "the run has failed")
    [task] = local.airflow.tasks("spends", run)
    assert (task.state, task.attempt) == ("failed", 1), "another attempt would be in vain"
    log = "\n".join(local.airflow.log("spends", run, "hold", 1))
    said = re.search(r"budget 'tests' of DAG spends: ([\d.]+) USD spent this month.*more than its hard limit", log)
    assert said, log
    assert 0 < float(said[1]) < 0.01
    assert local.pod_events("pod.queued", run) == []


def test_a_size_that_is_applied_is_the_next_runs_and_is_taken_back_where_it_was_too_small(local: Any) -> None:
    first, *_, grown = ends(local, "sized", [700, 700, 700])
    assert first == 512 < grown

    def advised() -> list[dict[str, Any]]:
        found = tidepool("jobs", "right-size", "sized", "hold")
        return found if any(each["override"] for row in found for each in row["advice"]) else []

    local.wait_until(advised, 30, "it is known that the job ran out of memory")
    [row] = tidepool("jobs", "right-size", "sized", "hold", "--apply")
    assert row["done"] == f"written: memory={grown}Mi"

    assert ends(local, "sized", [700]) == [grown]
    small, *_ = ends(local, "sized", [grown + 500, 1, 1])
    assert small == grown
    [override] = tidepool("jobs", "overrides")
    assert f"ran out of {grown} MiB" in override["rolled_back"]
    assert ends(local, "sized", [1]) == [512], "the author's size"
