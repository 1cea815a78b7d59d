"""What Prometheus gets: figures of the books, with labels that don't grow with the jobs."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import make_capacity
from tidepool.capacity import Budget, Capacity
from tidepool.keeper import metrics, spending
from tidepool.keeper.metrics import METRICS, Metrics
from tidepool.keeper.pace import Pace
from tidepool.labels import DEADLINE, utc
from tidepool.ledger.books import Books
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store
from tidepool.prices.book import Price, PriceBook

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
BOOK = PriceBook([Price("us-east-1", "m5.large", "spot", 0.04), Price("us-east-1", "m5.large", "on-demand", 0.1)])
SPOT: dict[str, Any] = {"pool": "spot-small", "market": "spot", "instance_type": "m5.large", "zone": "us-east-1a"}
JOB: dict[str, Any] = {
    "pool": "spot-small",
    "team": "analytics",
    "dag": "flights_daily",
    "task": "clean",
    "run": "r",
    "attempt": 1,
    "namespace": "tidepool-analytics",
    "cpu_millis": 1500,
    "memory_bytes": 5 << 30,
}


def machine(name: str, since: float, ready: bool = True, **more: Any) -> list[Event]:
    about = {**SPOT, **more}
    told = [Event(since, kind, name, **about) for kind in ("machine.asked", "machine.launched")]
    size = {"cpu_millis": 1930, "memory_bytes": 7 << 30}
    return [*told, Event(since + 30, "machine.ready", name, **about, **size)] if ready else told


def pod(
    uid: str, machine: str, queued: float, ended: float | None = None, cause: str = "ok", **more: Any
) -> list[Event]:
    about = {**JOB, "pod": uid, "pod_uid": uid, **more}
    told = [Event(queued, "pod.queued", **about)]
    if machine:
        kinds = ("pod.scheduled", "pod.running")
        told += [Event(queued + 1 + each, kind, machine, **about) for each, kind in enumerate(kinds)]
    if ended:
        told.append(Event(ended, "pod.ended", machine, cause=cause, **about))
    return told


def rendered(
    store: Store, now: float = NOON, document: Capacity | None = None, pace: Pace | None = None
) -> dict[str, float]:
    """The series, after the books are up to date."""
    Books(store, BOOK, clock=lambda: now).update()
    given = None if document is None else (lambda: document)
    return series(Metrics(store, given, pace, clock=lambda: now).render())


def series(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = re.fullmatch(r'([a-z_]+(?:\{(?:[a-z]+="(?:[^"\\]|\\.)*",?)+\})?) (\S+)', line).groups()  # type: ignore[union-attr]
            found[name] = float(value)
    return found


def test_machines_are_counted_by_what_they_do(store: Store) -> None:
    store.record_all(machine("i-boot", NOON - 20, ready=False))
    store.record_all(machine("i-busy", NOON - 600) + pod("u-1", "i-busy", NOON - 500))
    store.record_all(machine("i-idle", NOON - 600) + pod("u-2", "i-idle", NOON - 500, NOON - 100))
    store.record_all(machine("i-fresh", NOON - 90))
    store.record_all([*machine("i-taken", NOON - 600), Event(NOON - 60, "machine.reclaimed", "i-taken", **SPOT)])
    store.record_all([*machine("i-gone", NOON - 600), Event(NOON - 60, "machine.gone", "i-gone", **SPOT)])
    found = rendered(store)
    count = {
        state: found[f'tidepool_machines{{pool="spot-small",market="spot",state="{state}"}}']
        for state in ("boot", "busy", "idle", "reclaimed")
    }
    assert count == {"boot": 1, "busy": 1, "idle": 2, "reclaimed": 1}
    assert found['tidepool_usd_per_hour{pool="spot-small",market="spot"}'] == pytest.approx(5 * 0.04)
    assert found['tidepool_machine_idle_seconds{pool="spot-small"}'] == 100
    assert found['tidepool_machines_launched_total{pool="spot-small",market="spot"}'] == 6
    assert found['tidepool_reclaims_total{pool="spot-small"}'] == 1


def test_a_machine_without_a_price_is_counted_as_such_and_not_as_free(store: Store) -> None:
    store.record_all(machine("i-1", NOON - 3600, instance_type="x9.odd"))
    found = rendered(store)
    assert found['tidepool_machines_unpriced{pool="spot-small",market="spot"}'] == 1
    assert found['tidepool_unpriced_today_seconds{market="spot"}'] == pytest.approx(3600)


def test_costs_of_the_day_and_the_month_add_up_to_the_bill(store: Store) -> None:
    days = 86_400.0
    for number, ago in enumerate((2 * days, 7200.0, 40 * days)):
        name, began = f"i-{number}", NOON - ago
        store.record_all(machine(name, began) + pod(f"u-{number}", name, began + 60, began + 1860))
        store.record(Event(began + 3600, "machine.gone", name, **SPOT))
    found = rendered(store)
    for name, hours in (("today", 1), ("month", 2)):
        parts = [value for key, value in found.items() if key.startswith(f"tidepool_cost_{name}_usd")]
        assert sum(parts) == pytest.approx(0.04 * hours)
    assert found['tidepool_cost_today_usd{category="idle",market="spot",team="none"}'] > 0
    assert found['tidepool_cost_today_usd{category="job",market="spot",team="analytics"}'] > 0


def test_jobs_by_state_and_how_long_the_first_one_waits(store: Store) -> None:
    store.record_all(machine("i-1", NOON - 600) + pod("u-1", "i-1", NOON - 500) + pod("u-2", "", NOON - 400))
    store.record_all(pod("u-3", "", NOON - 90) + pod("u-4", "i-1", NOON - 300, NOON - 200, "out_of_memory"))
    found = rendered(store, document=make_capacity())
    assert found['tidepool_jobs{team="analytics",pool="spot-small",state="queued"}'] == 2
    assert found['tidepool_jobs{team="analytics",pool="spot-small",state="running"}'] == 1
    assert found['tidepool_job_waiting_seconds{pool="spot-small"}'] == 400
    assert found["tidepool_schedule_timeout_seconds"] == 1800
    assert found['tidepool_job_ends_total{team="analytics",cause="out_of_memory"}'] == 1


def test_orphans_are_what_the_reaper_sees_now_however_long_ago_it_found_them(store: Store) -> None:
    about: dict[str, Any] = {"pod_uid": "u-1", "pod": "a", "cause": "ownerless"}
    store.record(Event(NOON - 130, "reaper.found", occurrence="ownerless", **about))
    now, there = [NOON], {"ownerless": (3, NOON - 100_000)}
    made = Metrics(store, orphans=lambda: there, clock=lambda: now[0])
    found = series(made.render())
    assert found['tidepool_orphans{rule="ownerless"}'] == 3
    assert found['tidepool_orphan_seconds{rule="ownerless"}'] == 100_000
    there.clear()
    now[0] += metrics.KEEP_SECONDS
    found = series(made.render())
    assert 'tidepool_orphans{rule="ownerless"}' not in found, "what the ledger tells of may have another owner by now"
    assert found['tidepool_reaper_total{rule="ownerless",action="found"}'] == 1


def test_a_budgets_use_is_of_its_own_jobs_and_time(store: Store) -> None:
    for number, (team, dag) in enumerate((("analytics", "a"), ("analytics", "b"), ("research", "a"))):
        name, began = f"i-{number}", NOON - 3600
        store.record_all(machine(name, began) + pod(f"u-{number}", name, began + 30, NOON, team=team, dag=dag))
    document = make_capacity()
    budgets = {
        "analytics-daily": Budget("analytics", "", "day", soft_usd=0.04, hard_usd=0.08, at_limit="fail"),
        "a-monthly": Budget("", "a", "month", soft_usd=0.0, hard_usd=0.08, at_limit="wait"),
    }
    document = type(document)(**{**vars(document), "budgets": budgets})
    found = rendered(store, document=document)
    assert found['tidepool_budget_used_ratio{budget="analytics-daily",limit="soft"}'] == pytest.approx(2, rel=0.02)
    assert found['tidepool_budget_used_ratio{budget="analytics-daily",limit="hard"}'] == pytest.approx(1, rel=0.02)
    assert found['tidepool_budget_used_ratio{budget="a-monthly",limit="hard"}'] == pytest.approx(1, rel=0.02)
    assert 'tidepool_budget_used_ratio{budget="a-monthly",limit="soft"}' not in found


def test_a_budgets_use_is_what_jobs_look_at_before_they_start(store: Store) -> None:
    """Also what nobody saw, as of a pod whose end was only concluded."""
    began = NOON - 3600
    store.record_all(machine("i-1", began) + pod("u-1", "i-1", began + 30))
    end = {"pod_uid": "u-1", "pod": "u-1", "machine": "i-1", "cause": "node_lost"}
    store.record(Event(NOON, "pod.ended", reconstructed=True, earliest=began + 1800, **end))
    budgets = {"all": Budget("", "", "day", soft_usd=0.0, hard_usd=1.0, at_limit="fail")}
    document = dataclasses.replace(make_capacity(), budgets=budgets)
    told = rendered(store, document=document)
    assert told['tidepool_cost_today_usd{category="unattributed",market="spot",team="analytics"}'] > 0.01
    enforced = spending.figures(store, budgets, NOON)["all"].usd
    assert told['tidepool_budget_used_ratio{budget="all",limit="hard"}'] == pytest.approx(enforced, abs=1e-6)


def test_a_job_that_will_be_late_is_told_of_before_it_is(store: Store) -> None:
    for number in range(5):  # such jobs take ten minutes
        began = NOON - 86_400 * (number + 1)
        store.record_all(pod(f"old-{number}", "i-1", began, began + 600))

    def running(uid: str, deadline: float, phase: str = "Running", task: str = "clean") -> dict[str, Any]:
        store.record_all(pod(uid, "i-1", NOON - 300, task=task))
        said = {DEADLINE: utc(deadline), "tidepool.dev/owner-dag": "flights_daily", "tidepool.dev/owner-task": task}
        stamps = {"creationTimestamp": utc(NOON - 300), "labels": {"tidepool.dev/team": "analytics"}}
        return {"metadata": {"uid": uid, "annotations": said, **stamps}, "status": {"phase": phase}}

    there = [
        running("in-time", NOON + 301),
        running("late-soon", NOON + 299),
        running("late", NOON - 1, task="new"),
        running("never-seen", NOON + 1, task="new"),
        running("over", NOON - 1, "Succeeded"),
    ]
    Books(store, BOOK, clock=lambda: NOON).update()
    made = Metrics(store, pods=lambda: there, clock=lambda: NOON)
    assert series(made.render())['tidepool_deadline_at_risk_jobs{team="analytics"}'] == 2


def test_counters_go_on_from_where_they_were_and_are_the_same_after_a_restart(store: Store) -> None:
    now = [NOON]
    running = Metrics(store, clock=lambda: now[0])
    key = 'tidepool_job_ends_total{team="analytics",cause="ok"}'
    for number in range(3):
        store.record_all(pod(f"u-{number}", "i-1", NOON - 500, NOON - 100))
        now[0] += metrics.KEEP_SECONDS
        assert series(running.render())[key] == number + 1
    assert series(Metrics(store, clock=lambda: now[0]).render())[key] == 3


def test_two_scrapes_in_a_row_ask_the_database_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Metrics(store, clock=lambda: NOON)
    first = made.render()
    monkeypatch.setattr(store, "reading", lambda: pytest.fail("asked again"))
    assert made.render() == first


def test_the_lag_of_each_watch_is_the_longest_of_the_last_minute(store: Store) -> None:
    pace = Pace()
    pace.in_step("nodes", NOON - 40)
    pace.wrote("pods", NOON - 100.0, NOON - 90)
    pace.wrote("pods", NOON - 31.5, NOON - 30)
    pace.wrote("pods", NOON - 10.25, NOON - 10)
    found = rendered(store, pace=pace)
    assert found['tidepool_keeper_lag_seconds{watch="pods"}'] == 1.5
    assert found['tidepool_keeper_lag_seconds{watch="nodes"}'] == 0
    assert found['tidepool_keeper_in_step_timestamp_seconds{watch="nodes"}'] == NOON - 40


def test_no_name_that_a_user_chose_gets_out_of_its_label(store: Store) -> None:
    store.record_all(pod("u-1", "i-1", NOON - 50, NOON - 9, team='x"} 1\ntidepool_machines{pool="y\\'))
    found = rendered(store)
    assert found['tidepool_job_ends_total{team="x\\"} 1\\ntidepool_machines{pool=\\"y\\\\",cause="ok"}'] == 1


def test_the_number_of_series_does_not_grow_with_dags_tasks_pods_or_machines(store: Store) -> None:
    def fill(count: int, begin: int = 0) -> int:
        for number in range(begin, count):
            name, began = f"i-{number}", NOON - 1000 - number
            more = {"dag": f"dag-{number}", "task": f"task-{number}", "run": f"run-{number}"}
            store.record_all(machine(name, began) + pod(f"u-{number}", name, began + 30, NOON - 100, **more))
            store.record_all(pod(f"v-{number}", name, began + 40, **more))
        return len(rendered(store))

    few = fill(3)
    assert fill(60, 3) == few
    labels = {label for metric in METRICS for label in metric.labels}
    assert not labels & {"dag", "task", "run", "pod", "machine", "namespace", "instance_type"}


def test_every_metric_says_what_it_is_and_keeps_prometheus_rules() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
    with pytest.raises(ValueError, match="tidepool_other"):
        metrics.text({"tidepool_other": {(): 1.0}})


def test_prometheus_own_parser_takes_it(store: Store) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: as root, `./tidepool test` installs it")
    store.record_all(machine("i-1", NOON - 600) + pod("u-1", "i-1", NOON - 500, NOON - 100, team='a"b\\c'))
    Books(store, BOOK, clock=lambda: NOON).update()
    text = Metrics(store, make_capacity, clock=lambda: NOON).render()
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_page_of_metrics_names_all_of_them_with_their_labels() -> None:
    page = (Path(metrics.__file__).parents[2] / "docs" / "metrics.md").read_text()
    for metric in METRICS:
        row = next((line for line in page.splitlines() if line.startswith(f"| `{metric.name}`")), None)
        assert row, f"dags/docs/metrics.md lacks {metric.name}"
        assert all(f"`{label}`" in row for label in metric.labels), row
    listed = set(re.findall(r"^\| `(tidepool_\w+)`", page, re.MULTILINE))
    assert listed == {metric.name for metric in METRICS}
