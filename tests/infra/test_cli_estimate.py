"""`tidepool estimate` on this repository's DAGs, with and without a ledger."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from infra import contract, settings
from infra.cli.estimate import read
from infra.cli.main import app
from infra.local.paths import REPOSITORY
from tidepool.ledger.events import Event
from tidepool.ledger.journal import append

NOW = time.time()
SPOT = "spot-small"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TIDEPOOL_LEDGER", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "100")


def tidepool(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["estimate", *arguments])


def clean(number: int, cpu_millis: int, memory_bytes: int, seconds: float = 60) -> list[Event]:
    """A run of the task `clean` on a machine of its own."""
    name, end = f"clean-{number}", NOW - 3600 * (number + 1)
    whose: dict[str, Any] = {"pod": name, "pod_uid": name, "dag": "flights_daily", "task": "clean", "team": "jobs"}
    whose |= {"run": f"r{number}", "attempt": 1, "cpu_millis": cpu_millis, "memory_bytes": memory_bytes}
    size: dict[str, Any] = {"cpu_millis": 1930, "memory_bytes": 7 << 30}
    return [
        Event(end - 100, "machine.asked", f"i-{number}", pool=SPOT, market="spot", usd_per_hour=0.04),
        Event(end - 90, "pod.queued", **whose),
        Event(end - 65, "machine.ready", f"i-{number}", **size),
        Event(end - seconds, "pod.scheduled", f"i-{number}", **whose),
        Event(end - seconds, "pod.running", f"i-{number}", **whose),
        Event(end, "pod.ended", f"i-{number}", cause="ok", **whose),
        Event(end + 10, "machine.gone", f"i-{number}"),
    ]


def test_a_dag_that_never_ran_is_a_cold_start_and_says_so() -> None:
    found = tidepool("flights_daily")
    assert found.exit_code == 0, found.output
    assert "clean, delays, model: cold start (no job that was seen: 10 min are supposed)" in found.stdout
    assert "All of it is a cold start: there is no ledger" in found.stdout
    assert "in 2,000 draws with seed 1" in found.stdout


def test_a_task_that_ran_is_estimated_from_its_runs_and_the_others_from_what_it_took(tmp_path: Path) -> None:
    document = contract.planned(settings.load(REPOSITORY / "stacks" / "Pulumi.local.yaml"))
    asked = json.loads(tidepool("flights_daily", "--json").stdout)
    assert {task["task"]: task["pool"] for task in asked["tasks"]} == dict.fromkeys(("clean", "delays", "model"), SPOT)
    shapes = {each.task: each for each in read(document, REPOSITORY / "dags", "flights_daily")}
    main = shapes["clean"].pods[0]
    for number in range(5):
        for event in clean(number, main.cpu_millis, main.memory_bytes):
            append(tmp_path / "events.jsonl", event)
    found = json.loads(tidepool("flights_daily", "--events", str(tmp_path / "events.jsonl"), "--json").stdout)
    by_name = {task["task"]: task for task in found["tasks"]}
    assert (by_name["clean"]["basis"], by_name["clean"]["why"]) == ("history", "5 runs of its own")
    assert by_name["clean"]["seconds"]["p50"] == pytest.approx(90, rel=0.1)
    assert by_name["clean"]["usd"]["p50"] == pytest.approx(60 / 3600 * main.usd_per_hour, rel=0.1)
    assert by_name["model"]["why"] == "5 jobs of the same DAG"
    assert found["overhead"] == pytest.approx(50 / 60, rel=0.05)
    assert "machines of the ledger" in found["overhead_why"]


def test_a_dag_that_is_not_there_is_said_with_those_that_are() -> None:
    found = tidepool("flights_dialy")
    assert found.exit_code == 1
    assert "there is no DAG 'flights_dialy'" in found.output
    assert "flights_daily" in found.output


def test_a_ledger_that_was_named_and_is_not_there_is_an_error() -> None:
    found = tidepool("flights_daily", "--events", "/nowhere.jsonl")
    assert found.exit_code == 1
    assert "/nowhere.jsonl does not exist" in found.output
