"""`tidepool top` on recorded events."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from infra.cli import ledgers
from infra.cli import top as verb
from infra.cli.main import app
from tidepool.ledger.events import Event
from tidepool.ledger.journal import append
from tidepool.ledger.store import Store
from tidepool.report.now import JobNow, MachineNow, now

NOW = time.time()
SPOT: dict[str, Any] = {"pool": "spot-small", "market": "spot", "usd_per_hour": 0.04}
SIZE: dict[str, Any] = {"cpu_millis": 1930, "memory_bytes": 7 << 30}


def job(uid: str, **more: Any) -> dict[str, Any]:
    return {"pod": uid, "pod_uid": uid, "dag": "flights", "task": uid, "run": "r", "attempt": 1, "team": "ads"} | more


TOLD = [
    Event(NOW - 900, "machine.launched", "i-system", pool="system", market="on-demand", usd_per_hour=0.1),
    Event(NOW - 880, "machine.ready", "i-system", **SIZE),
    *(Event(NOW - 300, "machine.launched", name, **SPOT) for name in ("i-busy", "i-idle", "i-taken", "i-gone")),
    *(Event(NOW - 240, "machine.ready", name, **SIZE) for name in ("i-busy", "i-idle", "i-taken", "i-gone")),
    Event(NOW - 10, "machine.gone", "i-gone"),
    Event(NOW - 5, "machine.reclaimed", "i-taken"),
    Event(NOW - 30, "machine.asked", "i-boots", pool="spot-small", market="spot", instance_type="odd"),
    Event(NOW - 320, "pod.queued", **job("clean")),
    Event(NOW - 200, "pod.scheduled", "i-busy", **job("clean")),
    Event(NOW - 190, "pod.running", "i-busy", **job("clean")),
    Event(NOW - 250, "pod.queued", **job("done")),
    Event(NOW - 240, "pod.running", "i-idle", **job("done")),
    Event(NOW - 100, "pod.ended", "i-idle", cause="ok", **job("done")),
    Event(NOW - 40, "pod.queued", **job("model", pool="spot-small")),
]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TIDEPOOL_LEDGER", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def events(tmp_path: Path) -> str:
    for event in TOLD:
        append(tmp_path / "events.jsonl", event)
    return str(tmp_path / "events.jsonl")


def tidepool(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["top", *arguments])


def test_what_is_there_has_its_state_and_what_is_gone_is_not_shown(events: str) -> None:
    found = json.loads(tidepool("--events", events, "--json").stdout)
    assert {each["machine"]: each["state"] for each in found["machines"]} == {
        "i-busy": "busy",
        "i-taken": "reclaimed",
        "i-idle": "idle",
        "i-boots": "booting",
        "i-system": "system",
    }
    assert {each["task"]: each["state"] for each in found["jobs"]} == {"clean": "running", "model": "queued"}
    assert found["usd_per_hour"] == pytest.approx(3 * 0.04 + 0.1)
    assert found["idle_usd_per_hour"] == pytest.approx(0.04)
    assert found["unpriced_machines"] == 1
    clean = next(each for each in found["jobs"] if each["task"] == "clean")
    assert clean["usd"] == pytest.approx((found["time"] - NOW + 200) / 3600 * 0.04, rel=0.02)


def test_into_a_pipe_it_is_written_once_with_all_in_it(events: str) -> None:
    shown = tidepool("--events", events).stdout
    summary = "5 machines, 1 job running, 1 waiting: 0.2200 USD an hour, 0.0400 of it idle; the price of 1 is unknown"
    assert summary in " ".join(shown.split())
    assert "flights.clean" in shown
    assert "queued" in shown
    assert "i-gone" not in shown


def test_an_empty_ledger_is_no_error_and_says_how_it_fills(tmp_path: Path) -> None:
    Store.open(str(tmp_path / "ledger.db")).close()
    found = tidepool("--database", str(tmp_path / "ledger.db"))
    assert (found.exit_code, found.stdout) == (0, "")
    assert "the ledger has no events yet: the keeper writes them" in found.stderr
    found = tidepool("--database", str(tmp_path / "ledger.db"), "--json")
    assert (found.exit_code, json.loads(found.stdout)["machines"]) == (0, [])


def test_without_a_ledger_it_says_so() -> None:
    found = tidepool()
    assert found.exit_code == 1
    assert "there is no ledger" in found.output


def test_of_a_local_cloud_that_is_down_nothing_is_there_now() -> None:
    ledger = ledgers.local()
    ledger.parent.mkdir(parents=True)
    Store.open(str(ledger)).close()
    found = tidepool()
    assert found.exit_code == 1
    assert "the local cloud is down, so nothing is there now" in found.output


def test_on_a_terminal_it_takes_no_more_lines_than_there_are_and_names_do_nothing() -> None:
    machines = [
        MachineNow(f"i-{each}", "spot", "spot", "m5.large", 1.0, 1.0, 2.0, None, 0.04, each % 2) for each in range(100)
    ]
    jobs = [
        JobNow("d\x1b[2J", f"t{each}", "r", 1, "[bold]team", f"p{each}", "spot", "i-1", 1.0, 2.0, 3.0, 0.5)
        for each in range(100)
    ]
    console = Console(width=100, height=30, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(verb.shown(now(100.0, machines, jobs), 30))
    told = capture.get()
    assert len(told.splitlines()) <= 30
    assert "\x1b[2J" not in told
    assert "[bold]team" in told
    assert "… and 90 more" in told


def test_a_terminal_is_drawn_again_until_it_is_interrupted(events: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("infra.cli.top.time.sleep", sleep)
    console = Console(width=100, height=30, force_terminal=True, file=io.StringIO())
    verb._follow(Path(events), "", 0.5, console)
    assert looks == [0.5, 0.5, 0.5]
