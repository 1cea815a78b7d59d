"""Deadlines as Airflow's alerts, and what a task can know of them."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference
from airflow.sdk.definitions.deadline import VariableInterval
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.serialization.serialized_objects import DagSerialization

from tidepool.operators import deadline_alert as alerts

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def run(**given: Any) -> SimpleNamespace:
    usual = {"run_after": NOON, "start_date": NOON + timedelta(minutes=1), "logical_date": NOON}
    return SimpleNamespace(**usual | given)


def dag(*deadlines: DeadlineAlert) -> DAG:
    return DAG("d", schedule=None, deadline=list(deadlines) or None)


async def somebody(who: str, context: dict[str, Any]) -> None:
    """A callback of an author's."""


def test_a_dag_with_a_deadline_is_one_that_airflow_can_store() -> None:
    alert = alerts.deadline_alert(2 * HOUR)
    stored = DagSerialization.to_dict(dag(alert))
    assert stored["dag"]["deadline"]
    assert alert.reference is DeadlineReference.DAGRUN_QUEUED_AT
    assert alert.interval == 2 * HOUR


def test_an_author_may_bring_a_callback() -> None:
    alert = alerts.deadline_alert(HOUR, somebody, who="me")
    assert alert.callback.path.endswith("test_deadline_alert.somebody")
    assert alert.callback.kwargs == {"who": "me"}


def test_a_callback_that_the_triggerer_cannot_await_is_refused() -> None:
    with pytest.raises(AttributeError, match="not awaitable"):
        alerts.deadline_alert(HOUR, print)  # type: ignore[arg-type]


@pytest.mark.parametrize("within", [timedelta(0), -HOUR])
def test_a_deadline_before_the_start_is_refused(within: timedelta) -> None:
    with pytest.raises(ValueError, match="must be longer than 0"):
        alerts.deadline_alert(within)


def test_a_tasks_deadline_has_no_callback_of_the_authors() -> None:
    with pytest.raises(ValueError, match="give the DAG a deadline"):
        alerts.deadline_alert(HOUR, somebody, task_id="load")


def test_tasks_add_their_deadlines_to_those_of_the_dag() -> None:
    with_two = dag(alerts.deadline_alert(4 * HOUR))
    alerts.add_task_deadline(with_two, "load", HOUR)
    assert [alert.interval for alert in with_two.deadline or []] == [4 * HOUR, HOUR]
    without = dag()
    alerts.add_task_deadline(without, "load", HOUR)
    assert [alert.callback.kwargs["task_id"] for alert in without.deadline or []] == ["load"]


def test_a_missed_run_is_said_in_the_triggerers_log(caplog: pytest.LogCaptureFixture) -> None:
    context = {"dag_run": {"dag_id": "d", "dag_run_id": "r", "state": "running"}, "deadline": {}}
    with caplog.at_level(logging.ERROR):
        asyncio.run(alerts.missed(within=7200, context=context))
    said = "run r of DAG d missed its deadline: not done 2:00:00 after the run was queued (running)"
    assert caplog.messages == [said]


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ({"r": {"load": "running"}}, "not done 1:00:00 after the run was queued (running)"),
        ({"r": {"load": "failed"}}, "(failed)"),
        ({"r": {"load": None}}, "(not started)"),
        ({}, "(not started)"),
        ({"r": {"load": "success"}}, ""),
        ({"r": {"load": "skipped"}}, ""),
        ({"r": {"load_0": "success", "load_1": "running"}}, "(running)"),
        ({"r": {"load_0": "success", "load_1": "skipped"}}, ""),
    ],
)
def test_a_task_that_is_done_has_not_missed_its_deadline(
    states: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def get_task_states(**given: Any) -> dict[str, Any]:
        asked.append(given)
        return states

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
    context = {"dag_run": {"dag_id": "d", "dag_run_id": "r", "state": "running"}}
    with caplog.at_level(logging.ERROR):
        asyncio.run(alerts.missed(within=3600, task_id="load", context=context))
    assert asked == [{"dag_id": "d", "task_ids": ["load"], "run_ids": ["r"]}]
    assert all(said in message for message in caplog.messages)
    assert len(caplog.messages) == bool(said)


def test_the_earliest_deadline_that_a_task_can_know_is_due() -> None:
    callback = AsyncCallback(alerts.missed)
    known = [
        alerts.deadline_alert(3 * HOUR),
        DeadlineAlert(DeadlineReference.DAGRUN_LOGICAL_DATE, 4 * HOUR, callback),
        DeadlineAlert(DeadlineReference.FIXED_DATETIME(NOON), 5 * HOUR, callback),
    ]
    unknown = [
        DeadlineAlert(DeadlineReference.AVERAGE_RUNTIME(max_runs=5), HOUR, callback),
        DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, VariableInterval("x"), callback),
        alerts.deadline_alert(HOUR, task_id="another"),
    ]
    for count, hours in ((3, 3), (2, 4), (1, 5)):
        assert alerts.due(dag(*known[3 - count :], *unknown), run()) == NOON + hours * HOUR
    assert alerts.due(dag(*unknown), run()) is None
    assert alerts.due(dag(), run()) is None


def test_a_run_counts_from_when_it_was_due_and_a_backfill_from_its_start() -> None:
    limit = dag(alerts.deadline_alert(2 * HOUR))
    assert alerts.due(limit, run(start_date=NOON + HOUR)) == NOON + 2 * HOUR
    assert alerts.due(limit, run(start_date=NOON + 48 * HOUR)) == NOON + 50 * HOUR
    assert alerts.due(limit, run(start_date=None)) == NOON + 2 * HOUR


class Past:
    """A task instance that has earlier runs; kept: the XCom of the last of them."""

    map_index = -1

    def __init__(self, *durations: float | None, kept: Any = None, tries: int = 1) -> None:
        self.durations, self.kept, self.tries = durations, kept, tries

    def xcom_pull(self, key: str, map_indexes: int, include_prior_dates: bool) -> Any:
        assert (key, map_indexes, include_prior_dates) == (alerts.RUNTIMES, -1, True)
        return self.kept

    def xcom_push(self, key: str, value: Any) -> None:
        assert key == alerts.RUNTIMES
        self.kept = value

    def get_previous_ti(self, state: str, logical_date: datetime | None, map_index: int) -> SimpleNamespace | None:
        assert state == "success"
        index = 0 if logical_date is None else NOON.day - logical_date.day
        if index >= len(self.durations):
            return None
        before = NOON - (index + 1) * timedelta(days=1)
        return SimpleNamespace(duration=self.durations[index], logical_date=before, try_number=self.tries)


def test_past_runtimes_are_those_of_good_attempts_newest_first() -> None:
    assert alerts.past_runtimes(Past(10.0, None, 30.0)) == (10.0, 30.0)
    assert alerts.past_runtimes(Past(*range(1, 20)), count=3) == (1, 2, 3)
    assert alerts.past_runtimes(Past()) == ()


def test_past_runtimes_that_a_run_has_left_come_first() -> None:
    assert alerts.past_runtimes(Past(10.0, kept=[50, 60.5])) == (50, 60.5)
    assert alerts.past_runtimes(Past(kept=[50, 60, 70]), count=2) == (50, 60)
    for strange in ([], "50", ["50"], {"a": 1}):
        assert alerts.past_runtimes(Past(10.0, kept=strange)) == (10.0,)


def test_a_good_run_leaves_what_it_and_the_runs_before_it_took() -> None:
    ti = Past(10.0, 20.0)
    alerts.keep_runtime(ti, 30.04)
    assert ti.kept == [30.0, 10.0, 20.0]
    for seconds in range(100, 112):
        alerts.keep_runtime(ti, seconds)
    assert ti.kept == [*range(111, 101, -1)]


def test_the_last_attempt_of_a_run_with_checkpoints_is_not_what_the_run_took() -> None:
    assert alerts.past_runtimes(Past(10.0, tries=2)) == (10.0,)
    assert alerts.past_runtimes(Past(10.0, tries=2), has_checkpoints=True) == ()
    assert alerts.past_runtimes(Past(10.0), has_checkpoints=True) == (10.0,)
