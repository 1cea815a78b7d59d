import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from infra.cli import flights, report_view, view
from infra.cli.dag_run import Screen
from tidepool.capacity import Capacity, Pool, Tenant
from tidepool.ledger.events import Event
from tidepool.ledger.journal import append
from tidepool.report import timeline
from tidepool.report.document import document

START = 1_767_225_600.0
POOL = Pool(
    "spot-small", "spot", True, ("m5.large",), {}, (), 1930, 7 << 30, 20 << 30, 0, "amd64", 4, 50, 0.0349, 0.096
)
CAPACITY = Capacity("local", {"jobs": Tenant("tidepool-jobs", "job")}, "jobs", {}, 1800, {"spot-small": POOL})
MACHINE = "i-0123456789abcdef0"


def told(task: str = "clean", cause: str = "ok", attempt: int = 1) -> list[Event]:
    machine = {"machine": MACHINE, "pool": "spot-small", "market": "spot", "instance_type": "m5.large"}
    pod = {"pod": f"{task}-x", "pod_uid": "u-1", "dag": "flights_daily", "task": task, "attempt": attempt}
    return [
        Event(START, "pod.queued", **pod),
        Event(START + 1.25, "machine.asked", usd_per_hour=0.0349, **machine),
        Event(START + 4.5, "machine.ready", machine=MACHINE),
        Event(START + 5, "pod.scheduled", machine=MACHINE, **pod),
        Event(START + 6, "pod.running", machine=MACHINE, **pod),
        Event(START + 41.5, "pod.ended", machine=MACHINE, cause=cause, **pod),
        Event(START + 60.75, "machine.gone", machine=MACHINE),
    ]


def printed(thing: object) -> list[str]:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("count", "machine", "job"),
    [
        (1, None, "queued"),
        (2, "asked", "queued"),
        (3, "ready", "queued"),
        (4, "ready", "launched"),
        (5, "running", "running"),
        (6, "idle", "done"),
        (7, "gone", "done"),
    ],
)
def test_the_board_says_where_machines_and_jobs_stand(count: int, machine: str | None, job: str) -> None:
    board = view.board(told()[:count])
    assert [one.state for one in board.machines] == ([machine] if machine else [])
    assert [one.state for one in board.jobs] == [job]
    assert bool(board.left(["spot-small"])) == (machine not in (None, "gone"))
    assert board.left(["system"]) == []


def test_every_change_is_a_line_and_nothing_is_said_twice() -> None:
    before, lines = view.Board(), []
    for count in range(len(told()) + 1):
        after = view.board(told()[:count])
        lines += [sentence for _, sentence in view.changes(before, after)]
        assert view.changes(after, after) == []
        before = after
    assert lines == [
        "job clean queued",
        f"machine {MACHINE} asked  (spot-small, spot, m5.large)",
        f"machine {MACHINE} ready  (spot-small, spot, m5.large)",
        f"job clean launched on {MACHINE}",
        f"job clean running on {MACHINE}",
        f"machine {MACHINE} running  (spot-small, spot, m5.large)",
        "job clean done: ok",
        f"machine {MACHINE} idle  (spot-small, spot, m5.large)",
        f"machine {MACHINE} gone  (spot-small, spot, m5.large)",
    ]


def test_off_a_terminal_the_screen_prints_a_line_for_every_change_since_it_began(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for event in told():
        append(path, event)
    append(path, Event(START + 100, "pod.queued", pod="later", pod_uid="u-2"))
    console = Console(file=io.StringIO(), width=80)
    with Screen(path, console, since=START + 90) as screen:
        screen.look()
        screen.look()
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "   10.0 s  job later queued\n"


LONG = "a_job_with_a_name_that_is_longer_than_anybody_would_want_to_read_or_write"


@pytest.mark.parametrize("width", [120, 80, 60, 40])
@pytest.mark.parametrize("task", ["clean", LONG])
def test_tables_and_sentences_fit_the_terminal(task: str, width: int) -> None:
    events = told(task, cause="out_of_memory", attempt=12)
    console = Console(width=width, file=io.StringIO(), highlight=False)
    report_view.show(timeline.report(events, CAPACITY, START + 120), console)
    console.print(view.tables(view.board(events[:5]), START + 10_000))
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    assert any("0.0" in line and line.endswith("out_of_memory") for line in lines)
    assert sum(line.startswith(("all", MACHINE)) and line.endswith("0.00058") for line in lines) == 2


def test_sentences_of_a_report_fit_80_columns() -> None:
    said = report_view.comparison_lines(timeline.report(told(LONG), CAPACITY, START + 120))
    assert max(map(len, said)) <= 80


def test_the_report_shows_the_timeline_and_the_sums_as_they_add_up() -> None:
    report = timeline.report(told(), CAPACITY, START + 120)
    assert printed(report_view.jobs_table(report))[1].split() == [
        *("clean", "1", "0.0", "1.2", "4.5", "6.0", "41.5", "60.8", "ok"),
    ]
    line = printed(report_view.machines_table(report))[1].split()
    assert line[:3] == [MACHINE, "spot-small", "0.0349"]
    bought, used, idle = (round(float(cell) * 10) for cell in line[3:6])
    assert bought == used + idle == 595


def test_the_comparison_states_its_formulas() -> None:
    text = "\n".join(report_view.comparison_lines(timeline.report(told(), CAPACITY, START + 120)))
    assert "0.0960 x 61 / 3600 = 0.00162 USD, 2.8 times as much" in text
    assert "0.0960 x 24 = 2.30 USD" in text


def test_a_report_without_machines_says_so() -> None:
    assert report_view.comparison_lines(timeline.report([], CAPACITY, START)) == ["No machine was bought."]


def test_the_report_as_json_has_the_same_figures() -> None:
    found = json.loads(json.dumps(document(timeline.report(told(), CAPACITY, START + 120))))
    seconds = found["machine_seconds"]
    assert (seconds["bought"], seconds["used"], seconds["idle"]) == (59.5, 35.5, 24.0)
    assert found["jobs"][0]["machine_asked"] == START + 1.25
    assert found["bench"] == {"launch_to_ready_seconds": [3.25], "queued_to_running_seconds": [6.0]}
    assert found["peak"] == {"machines": {"spot-small": 1}, "on_demand_usd_per_hour": 0.096}


def test_the_flights_are_shown_in_80_columns() -> None:
    row = {"carrier": "EV", "name": "ExpressJet Airlines Inc. of a very long name", "origin": "EWR", "flights": 43939}
    row |= {"mean_dep_delay": 20.16, "mean_arr_delay": None, "p90_arr_delay": 75.0, "cancelled": 0.0528}
    model = {"rmse": 17.6, "baseline_rmse": 18.9, "rows_train": 261_000, "rows_test": 65_000}
    console = Console(width=80, file=io.StringIO())
    flights.show({"delays": [row] * 35, "model": model}, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert all(part in text for part in ("43,939", "20.2", "5.3%", "… and 25 more", "RMSE 17.6 min", "261,000"))
