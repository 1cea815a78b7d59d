"""The page's figures are the report's: what they count, what they leave out, what is not known."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.dags.histories import BOOK, machine, pod
from tests.dags.pages import EPOCH, NOW, Reader, opened, page
from tidepool.keeper import metrics
from tidepool.keeper.page import app, queries
from tidepool.keeper.page.period import Period
from tidepool.ledger import history
from tidepool.ledger.attribution import Billing
from tidepool.ledger.books import Books
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store
from tidepool.report.costs import costs


def test_a_search_finds_what_it_says_and_nothing_more(tmp_path: Path) -> None:
    told = machine("i-1", 0, 1, 900)
    for number, dag in enumerate(("a_b", "axb", "50%", "Straße")):
        told += pod(str(number), "i-1", 10 * number + 2, 10 * number + 3, 10 * number + 9, dag=dag)
    store = opened(tmp_path, told)

    def found(text: str) -> list[str]:
        with store.reading() as connection:
            tasks, count = queries.tasks(connection, EPOCH, "waste", text, 10, 0)
        assert len(tasks) == count
        return sorted(task.dag for task in tasks)

    assert found("a_b") == ["a_b"]
    assert found("%") == ["50%"]
    assert found("A_B") == ["a_b"]
    assert found("' OR 1=1 --") == []
    assert len(found("")) == 4


def test_what_the_overview_shows_is_what_the_report_says(tmp_path: Path) -> None:
    told = machine("i-1", 0, 40, 3600) + pod("a", "i-1", 50, 60, 1000, pulling=51, dag="flights", team="core")
    told += machine("i-2", 100, 150, None, market="on-demand") + machine("i-3", 0, 1, 9, instance_type="x9.unheard")
    store = opened(tmp_path, told)
    report = costs(told, BOOK, "day", 0, NOW)
    with store.reading() as connection:
        whole = queries.total(connection, EPOCH)
        daily = queries.daily(connection, EPOCH)
    assert whole.usd == pytest.approx(report.bill.usd)
    assert whole.seconds == pytest.approx(report.bill.seconds)
    assert whole.unpriced == pytest.approx(report.bill.unpriced_seconds) == 9
    for row in report.rows:
        for category, amount in row.amounts.items():
            mine = [cost for key, cost in daily.items() if (key[0], key[2]) == (row.name[0], category)]
            assert sum(cost.seconds for cost in mine) == pytest.approx(amount.seconds)
    text = page(store, "", **{"from": "1970-01-01", "to": "1970-01-03"})[1]
    assert f"${report.bill.usd:,.2f}+" in text, "a part has no known price, and that is said"
    store.close()


def test_an_unknown_price_is_unknown_and_never_zero(tmp_path: Path) -> None:
    store = opened(tmp_path, machine("i-3", 0, 1, 900, instance_type="x9.unheard") + pod("a", "i-3", 2, 3, 800))
    days = {"from": "1970-01-01", "to": "1970-01-01"}
    for where in ("", "jobs", "comparison"):
        text = page(store, where, **days)[1]
        assert "unknown" in "".join(Reader(text).text)
    assert "unknown" in page(store, "job", dag="d", task="a", run="r")[1]
    store.close()


@pytest.mark.parametrize("minimum", [0, 60])
def test_the_overview_says_what_its_figures_count_and_what_they_leave_out(tmp_path: Path, minimum: int) -> None:
    store = Store.open(str(tmp_path / "ledger.db"))
    store.record_all(machine("i-1", 0, 1, 30))
    Books(store, BOOK, Billing(minimum_seconds=minimum), clock=lambda: NOW).update()
    with store.reading() as connection:
        whole = queries.total(connection, EPOCH)
        text = app.file(connection, EPOCH, NOW)
    assert whole.seconds == max(30, minimum)
    for said in (text, page(store, "", **EPOCH.query)[1]):
        assert "Left out: all other volumes (EBS)" in said
        assert "data transfer" in said
        assert ("each for 60 s at least" in said) == (minimum == 60)
        assert ("may bill a machine for a minute at least" in said) == (minimum == 0)
    store.close()


def test_pods_whose_machine_is_gone_are_nowhere_counted_as_there(tmp_path: Path) -> None:
    told = machine("i-1", 0, 1, 900) + machine("i-2", 0, 1, None)
    told += pod("a", "i-1", 2, 3, None) + pod("b", "i-2", 2, 3, None) + pod("c", "i-2", 2, 3, 50)
    store = opened(tmp_path, [*told, Event(NOW - 40 * 86_400, "pod.queued", pod_uid="d", pod="job-d")])
    with store.reading() as connection:
        there = queries.now(connection)
    assert (there.running, there.waiting) == (1, 1)
    assert sorted(job.pod for job in history.present(store, NOW).jobs) == ["job-b", "job-d"]
    gauges = metrics.Metrics(store, clock=lambda: NOW).render()
    assert sum(float(line.split()[-1]) for line in gauges.splitlines() if line.startswith("tidepool_jobs{")) == 2
    store.close()


def test_the_dearest_moment_is_what_always_on_is_made_of(tmp_path: Path) -> None:
    told = machine("i-1", 0, 1, 3600) + machine("i-2", 1800, 1801, 7200, market="on-demand")
    told += machine("i-3", 3600, 3601, 5400) + machine("i-s", 0, 1, None, pool="system", market="on-demand")
    store = opened(tmp_path, told)
    with store.reading() as connection:
        peak = queries.peak(connection, EPOCH, NOW)
        bought, on_demand = queries.bought(connection, EPOCH)
    assert peak is not None
    assert peak.usd_per_hour == pytest.approx(2 * 0.096), "the two that were there at once; one went as another came"
    assert peak.machines == (("spot", "m5.large", 2),)
    assert on_demand == pytest.approx((3600 + 5400 + 1800) / 3600 * 0.096)
    assert bought.usd == pytest.approx((3600 + 1800) / 3600 * 0.036 + 5400 / 3600 * 0.096)
    store.close()


def test_waste_is_what_failed_and_what_was_not_used(tmp_path: Path) -> None:
    told = (
        machine("i-1", 0, 0, 4000)
        + pod("bad", "i-1", 0, 0, 1000)
        + pod("good", "i-1", 2000, 2000, 3000, cpu=1000, memory=4)
    )
    told = [each for each in told if (each.kind, each.pod_uid) != ("pod.ended", "bad")]
    told.append(Event(1000, "pod.ended", "i-1", pod_uid="bad", cause="app_error"))
    told.append(Event(3001, "pod.used", "i-1", pod_uid="good", cpu_seconds=250, memory_p99_bytes=1, samples=9))
    store = opened(tmp_path, told)
    with store.reading() as connection:
        found = {task.task: task for task in queries.tasks(connection, EPOCH, "waste", "", 10, 0)[0]}
    assert found["bad"].lost == pytest.approx(found["bad"].usd)
    assert found["bad"].failed == 1
    assert found["good"].unused == pytest.approx(0.75 * (found["good"].usd or 0))
    store.close()


def test_a_task_is_shown_with_what_its_days_have_together(tmp_path: Path) -> None:
    day, told = 86_400.0, machine("i-1", 0, 0, 3 * 86_400.0)
    for uid, since, until in (("a", 0.0, 1000.0), ("b", day, day + 3000), ("c", 2 * day, None)):
        told += [replace(each, task="task", run=uid) for each in pod(uid, "i-1", since, since, until)]
    store = opened(tmp_path, told, 2 * day + 100)
    with store.reading() as connection:
        [task], count = queries.tasks(connection, EPOCH, "time", "TASK", 10, 0)
        [first], _ = queries.tasks(connection, Period(EPOCH.first, EPOCH.first), "time", "", 10, 0)
        trend = queries.trends(connection, EPOCH, [("d", "task")])
    store.close()
    assert (count, task.team, task.runs, task.pods, task.failed) == (1, "t", 3, 3, 0)
    assert (task.mean, task.longest, first.longest) == (2000, 3000, 1000)
    assert task.usd == pytest.approx((1000 + 3000 + 100) * 0.036 / 3600)
    assert trend["d", "task"] == [*(pytest.approx(each * 0.036 / 3600) for each in (1000, 3000, 100)), None]
