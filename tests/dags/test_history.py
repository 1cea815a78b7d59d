"""Past runs, asked of the books, and what the keeper publishes of them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime
from typing import Any

import pytest
from kubernetes.client import ApiException

from tests.dags.conftest import make_capacity
from tests.dags.histories import BOOK, GIB, HOSTILE, machine
from tidepool import budget
from tidepool.capacity import SPENDING_CONFIG_MAP, Budget, Capacity, Tenant
from tidepool.history import runs
from tidepool.keeper.page import queries
from tidepool.keeper.page.period import period
from tidepool.keeper.spending import Publisher, figures
from tidepool.ledger import history
from tidepool.ledger.books import Books
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store
from tidepool.report import tasks

DAY = 86_400.0
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
RATE = 0.036 / 3600


def run(
    task: str,
    number: int,
    *,
    seconds: float = 60,
    ago: float = 0.0,
    cause: str = "ok",
    cpu: float | None = None,
    memory: int = GIB,
    dag: str = "flights",
    team: str = "ads",
    attempt: int = 1,
    price: bool = True,
) -> list[Event]:
    """One attempt alone on a machine of its own, which runs until NOW less `ago`."""
    name = f"{dag}-{task}-{number}-{attempt}"
    end = NOW - ago
    begin = end - seconds
    owner: dict[str, Any] = {"pod": name, "pod_uid": name, "namespace": "ns", "dag": dag, "task": task, "team": team}
    owner |= {"run": f"r{number}", "attempt": attempt, "cpu_millis": 4000, "memory_bytes": 4 * GIB, "pool": "spot"}
    told = machine(f"i-{name}", begin - 40, begin - 10, end + 20, instance_type="m5.large" if price else "unknown")
    told += [Event(begin - 30, "pod.queued", **owner)]
    told += [Event(begin, kind, machine=f"i-{name}", **owner) for kind in ("pod.scheduled", "pod.running")]
    told += [Event(end, "pod.ended", machine=f"i-{name}", cause=cause, **owner)]
    if cpu is not None:
        about: dict[str, Any] = {
            "cpu_seconds": cpu,
            "memory_p99_bytes": memory,
            "memory_peak_bytes": memory,
            "samples": 10,
        }
        told += [Event(end, "pod.used", machine=f"i-{name}", **owner, **about)]
    return told


def kept(store: Store, *events: list[Event]) -> Store:
    store.record_all(event for each in events for event in each)
    Books(store, BOOK, clock=lambda: NOW + 60).update()
    return store


def test_what_pods_used_is_in_the_books_with_what_they_asked_for(store: Store) -> None:
    kept(store, run("clean", 1, cpu=30.0, memory=2 * GIB), run("clean", 2))
    found = {pod.run: pod for pod in history.pods(store, ("flights", "clean"))}
    assert (found["r1"].cpu_seconds, found["r1"].memory_p99_bytes, found["r1"].samples) == (30.0, 2 * GIB, 10)
    assert (found["r1"].cpu_millis, found["r1"].memory_bytes, found["r1"].seconds) == (4000, 4 * GIB, 60)
    assert (found["r2"].cpu_seconds, found["r2"].samples, found["r2"].is_measured) == (None, 0, False)
    assert found["r1"].usd == pytest.approx(60 * RATE)


def test_the_heaviest_tasks_come_first_and_are_those_that_adding_up_finds(store: Store) -> None:
    kept(
        store,
        *(run("long", each, seconds=300, cpu=1200.0, memory=4 * GIB, ago=each * 1000) for each in range(3)),
        *(run("lazy", each, seconds=100, cpu=10.0, ago=each * 1000) for each in range(3)),
        *(run("flaky", each, seconds=50, cause="app_error", ago=each * 1000) for each in range(3)),
        run("old", 1, seconds=5000, ago=2 * DAY),
    )
    since = NOW - DAY
    assert history.heaviest(store, "seconds", since, NOW, 9) == [
        ("flights", each) for each in ("long", "lazy", "flaky")
    ]
    assert history.heaviest(store, "seconds", 0, NOW, 1) == [("flights", "old")]
    by_waste = history.heaviest(store, "waste", since, NOW, 9)
    rows = [tasks.waste(runs(history.pods(store, each))[each], None) for each in by_waste]
    assert [row.task for row in rows] == ["lazy", "flaky", "long"]
    assert [row.wasted_usd for row in rows] == sorted((row.wasted_usd for row in rows), reverse=True)
    assert rows[0].unused_usd == pytest.approx(300 * RATE * 0.75)
    assert rows[1].lost_usd == pytest.approx(150 * RATE)
    assert history.heaviest(store, "waste", since, NOW, 9, dag="trains") == []


def test_sums_are_of_all_pods_however_few_of_them_are_looked_at(store: Store) -> None:
    kept(
        store,
        *(run("clean", each, cpu=30.0, memory=2 * GIB, ago=each * 1000) for each in range(5)),
        *(run("clean", each, cause="out_of_memory", ago=each * 1000 + 300) for each in (1, 2)),
        *(run("clean", each, attempt=2, cause="app_error", ago=each * 1000) for each in (7, 8)),
        run("clean", 9, ago=9000, price=False),
    )
    task = ("flights", "clean")
    everything = history.pods(store, task)
    found = history.sums(store, task, 0, NOW)
    assert found == dataclasses.replace(
        tasks.summed(runs(everything)[task]), usd=pytest.approx(found.usd), unused_usd=pytest.approx(found.unused_usd)
    )
    last = runs(history.pods(store, task, most=2))[task]
    slow, waste = tasks.slow(last, found), tasks.waste(last, None, NOW, found)
    assert (slow.runs, slow.failed, slow.pods, slow.sampled) == (8, 2, len(everything), 2)
    assert slow.total == sum(pod.seconds for pod in everything)
    assert waste.lost == {"app_error": 2}
    assert waste.wasted_usd == pytest.approx(found.lost_usd + found.unused_usd)


def test_the_most_wasteful_is_the_same_however_it_is_asked_for(store: Store) -> None:
    """What was measured too seldom says nothing, also to the database."""
    seldom = [
        dataclasses.replace(event, samples=1) if event.kind == "pod.used" else event
        for event in run("seldom", 1, seconds=900, cpu=1.0)
    ]
    kept(store, seldom, run("lazy", 1, seconds=60, cpu=1.0), run("flaky", 1, seconds=30, cause="app_error"))
    asked = history.heaviest(store, "waste", 0, NOW, 9)
    with store.reading() as connection:
        shown, _ = queries.tasks(connection, period("2026-11-20", "2026-11-23", date(2026, 11, 23)), "waste", "", 9, 0)
    assert [task for _, task in asked] == [each.task for each in shown] == ["lazy", "flaky", "seldom"]
    of_one = {each.task: history.sums(store, ("flights", each.task), 0, NOW) for each in shown}
    assert {each.task: each.waste for each in shown} == pytest.approx(
        {name: each.lost_usd + each.unused_usd for name, each in of_one.items()}
    )


def test_runs_are_put_together_from_their_attempts(store: Store) -> None:
    kept(store, run("clean", 1, ago=600, cause="spot_reclaim"), run("clean", 1, attempt=2), run("clean", 2, ago=9000))
    older, newer = runs(history.pods(store, ("flights", "clean")))["flights", "clean"]
    assert (older.first.run, newer.first.run) == ("r2", "r1")
    assert (newer.is_good, len(newer.pods), newer.is_alone) == (True, 2, True)
    assert newer.seconds == 600 + 60 + 30
    assert newer.lost_usd == pytest.approx(60 * RATE)


def test_of_similar_jobs_those_of_the_same_dag_come_first_then_the_teams_then_all(store: Store) -> None:
    kept(store, run("a", 1), run("b", 1, dag="trains"), run("c", 1, dag="ships", team="sales"))
    said = [
        {pod.dag for pod in history.similar(store, task, team, 0)[1]}
        for task, team in ((("flights", "new"), "ads"), (("new", "new"), "ads"), (("new", "new"), "nobody"))
    ]
    assert said == [{"flights"}, {"flights", "trains"}, {"flights", "trains", "ships"}]


def test_overhead_is_what_machines_cost_besides_their_jobs(store: Store) -> None:
    kept(store, run("clean", 1, seconds=60))
    assert history.overhead(store, "2026-01-01") == pytest.approx((40 + 20) / 60)
    assert history.overhead(store, "2027-01-01") is None


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_of_any_kind_are_only_names(store: Store, hostile: str) -> None:
    kept(store, run("clean", 1, dag=hostile, team=hostile))
    [(dag, task)] = history.heaviest(store, "waste", 0, NOW, 5)
    assert len(history.pods(store, (dag, task))) == 1
    assert history.similar(store, (dag, "x"), dag, 0)[0] == "dag"


BUDGETS = {
    "flights": Budget("", "flights", "day", 5, 0, "fail"),
    "ads": Budget("ads", "", "month", 5, 0, "fail"),
    "ads-trains": Budget("ads", "trains", "month", 5, 0, "fail"),
    "all": Budget("", "", "month", 5, 0, "fail"),
}


def spending(store: Store) -> Store:
    return kept(
        store,
        run("clean", 1, seconds=100),
        run("clean", 2, seconds=200, ago=DAY),
        run("clean", 3, seconds=400, ago=40 * DAY),
        run("ride", 1, seconds=800, dag="trains"),
        run("sail", 1, seconds=1600, dag="ships", team="sales"),
        run("odd", 1, seconds=50, dag="ships", team="sales", price=False),
    )


def test_a_budget_has_spent_what_the_pods_of_its_team_and_dag_cost_in_its_period(store: Store) -> None:
    found = figures(spending(store), BUDGETS, NOW)
    assert {name: round(each.usd / RATE) for name, each in found.items()} == {
        "flights": 100,
        "ads": 1100,
        "ads-trains": 800,
        "all": 2700,
    }
    assert found["all"].unpriced_seconds == 50
    assert found["flights"].begin == NOW - DAY / 2


class Core:
    """Takes patches of ConfigMaps."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, str], dict[str, str]] = {}
        self.denied = ""

    def patch_namespaced_config_map(self, name: str, namespace: str, body: dict[str, Any], **_: Any) -> None:
        if namespace == self.denied:
            raise ApiException(status=403, reason="Forbidden")
        self.written.setdefault((namespace, name), {}).update(body["data"])


def document(**budgets: Budget) -> Capacity:
    teams = {"ads": Tenant("tidepool-ads", "job"), "sales": Tenant("tidepool-sales", "job")}
    return dataclasses.replace(make_capacity(), tenants=teams, default_tenant="ads", budgets=budgets)


def test_every_team_is_told_what_was_spent_and_until_when_that_is_known(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    core = Core()
    core.denied = "tidepool-ads"
    publisher = Publisher(spending(store), core, lambda: document(**BUDGETS))
    for _ in range(2):
        publisher.step(NOW + 30)
    assert set(core.written) == {("tidepool-sales", SPENDING_CONFIG_MAP)}
    assert caplog.text.count("ConfigMap tidepool-ads/tidepool-spending is not written") == 1
    known = budget.load(core.written["tidepool-sales", SPENDING_CONFIG_MAP])
    assert known.time == NOW + 30
    assert known.figures["ads"].usd == pytest.approx(1100 * RATE, abs=1e-5)


def test_figures_are_known_only_as_far_as_every_machine_that_runs_is_counted(store: Store) -> None:
    kept(store, [event for event in run("clean", 1) if event.kind != "machine.gone"])
    assert history.counted_until(store, NOW + 500) == NOW + 60
    assert history.counted_until(store, NOW + 30) == NOW + 30


def test_without_budgets_or_where_another_keeper_acts_nothing_is_written(store: Store) -> None:
    core = Core()
    Publisher(store, core, document).step(NOW)
    Publisher(store, core, lambda: document(**BUDGETS), lambda: False).step(NOW)
    assert core.written == {}
