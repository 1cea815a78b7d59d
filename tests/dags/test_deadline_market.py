"""Deadlines of jobs: the alert that Airflow gets, and the market that an attempt goes to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.deadline import DeadlineReference
from airflow.serialization.serialized_objects import DagSerialization

from tests.dags.fake_kubernetes import Clock, Kubernetes, connect
from tests.dags.fake_kubernetes import context as usual
from tidepool import JobError, JobPodOperator, SparkPodOperator, deadline_alert
from tidepool.capacity import BREAKERS_CONFIG_MAP
from tidepool.keeper import ownership
from tidepool.labels import DEADLINE
from tidepool.ladder import Breaker
from tidepool.operators.breakers import Breakers
from tidepool.operators.retry_policy import STORE_KEY
from tidepool.outcome import Cause
from tidepool.retries import Attempt, dump

HOUR = 3600.0
NAMESPACE = "tidepool-analytics"


class Ti(SimpleNamespace):
    """A task instance whose earlier runs took so many seconds, by task; every run is a day apart."""

    def get_previous_ti(self, state: str, logical_date: datetime | None, map_index: int) -> SimpleNamespace | None:
        if isinstance(self.past, Exception):
            raise self.past
        durations = self.past.get(self.task_id, ())
        index = 0 if logical_date is None else (datetime(2026, 1, 30, tzinfo=UTC) - logical_date).days
        if index >= len(durations):
            return None
        before = datetime(2026, 1, 29, tzinfo=UTC) - index * timedelta(days=1)
        return SimpleNamespace(duration=durations[index], logical_date=before)

    def xcom_push(self, **_: Any) -> None:
        """Nobody reads it."""

    def model_copy(self, update: dict[str, Any]) -> Ti:
        return Ti(**{**vars(self), **update})


def context(clock: Clock, past: Any, attempt: int = 1, queued: float = 0.0, **more: Any) -> dict[str, Any]:
    """A run that was queued so many seconds ago, of tasks with these past runtimes."""
    begin = datetime.fromtimestamp(clock.now - queued, UTC)
    found = usual(attempt) | more
    ti = Ti(**{key: getattr(found["ti"], key) for key in ("dag_id", "task_id", "run_id", "try_number", "map_index")})
    ti.past, ti.max_tries = past, 15
    found["ti"] = ti
    return found | {"dag_run": SimpleNamespace(run_after=begin, start_date=begin, logical_date=None)}


def spark(kubernetes: Kubernetes, **arguments: Any) -> JobPodOperator:
    return connect(SparkPodOperator(task_id="clean", application="clean.py", **arguments), kubernetes)


def test_a_pod_says_when_its_task_must_be_done(clock: Clock, kubernetes: Kubernetes) -> None:
    def said(operator: JobPodOperator, queued: float = 600.0) -> str | None:
        pod = operator.build_pod_request_obj(context(clock, {}, queued=queued))
        found: str | None = pod.metadata.annotations.get(DEADLINE)
        return found

    in_an_hour = datetime.fromtimestamp(clock.now - 600 + HOUR, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert said(spark(kubernetes, deadline=timedelta(hours=1))) == in_an_hour
    assert ownership.stamp(in_an_hour) == pytest.approx(clock.now - 600 + HOUR, abs=1)
    with DAG("late", schedule=None, deadline=deadline_alert(timedelta(hours=1))):
        of_dag = spark(kubernetes)
    assert said(of_dag) == in_an_hour
    assert said(spark(kubernetes)) is None


def pool_of(kubernetes: Kubernetes) -> str:
    return str(kubernetes.bodies[0]["metadata"]["labels"]["tidepool.dev/pool"])


def close(kubernetes: Kubernetes, *pools: str) -> None:
    """The pools had no machines just now."""
    for pool in pools:
        Breakers(kubernetes, NAMESPACE).tell(pool, Breaker.failed)


@pytest.mark.parametrize(
    ("past", "hours", "pool"),
    [
        ([600.0] * 5, 10, "spot-small"),
        ([1800.0] * 10, 50 / 60, "on-demand-small"),
        ([6 * HOUR] * 5, 8, "on-demand-small"),
        ([], 10, "on-demand-small"),
        (ConnectionError("no supervisor"), 10, "on-demand-small"),
    ],
    ids=["much time", "little time", "a reclaim would be a miss", "never ran", "unknown"],
)
def test_an_attempt_is_on_spot_where_its_deadline_allows_it(
    kubernetes: Kubernetes, clock: Clock, past: Any, hours: float, pool: str
) -> None:
    known = past if isinstance(past, Exception) else {"clean": past}
    spark(kubernetes, deadline=timedelta(hours=hours)).execute(context(clock, known))
    assert pool_of(kubernetes) == pool


def test_the_time_counts_from_when_the_run_was_queued(kubernetes: Kubernetes, clock: Clock) -> None:
    spark(kubernetes, deadline=timedelta(hours=2)).execute(context(clock, {"clean": [600.0] * 5}, queued=1.8 * HOUR))
    assert pool_of(kubernetes) == "on-demand-small"


def test_the_log_says_why(kubernetes: Kubernetes, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    spark(kubernetes, deadline=timedelta(minutes=15)).execute(context(clock, {"clean": [1800.0]}))
    said = capsys.readouterr().out
    assert "Its deadline: on-demand: 15 min left, the work takes 30 min (from 1 past run), reclaims 5.0%" in said
    assert "Now on on-demand-small (on-demand): on-demand is what its deadline needs" in said


def test_the_authors_market_wins(kubernetes: Kubernetes, clock: Clock) -> None:
    operator = spark(kubernetes, deadline=timedelta(minutes=15), market="spot")
    operator.execute(context(clock, {"clean": [600.0]}))
    assert pool_of(kubernetes) == "spot-small"


def test_a_job_without_a_deadline_asks_nobody_for_its_past(kubernetes: Kubernetes, clock: Clock) -> None:
    spark(kubernetes).execute(context(clock, AssertionError("asked")))
    assert pool_of(kubernetes) == "spot-small"


@pytest.mark.parametrize(("after", "pool"), [(HOUR, "spot-small"), (9.7 * HOUR, "on-demand-small")])
def test_a_dags_deadline_leaves_time_for_what_comes_after_the_task(
    kubernetes: Kubernetes, clock: Clock, after: float, pool: str
) -> None:
    with DAG("d", schedule=None, deadline=deadline_alert(timedelta(hours=10))):
        first = spark(kubernetes)
        first >> SparkPodOperator(task_id="load", application="load.py")
    first.execute(context(clock, {"clean": [600.0] * 5, "load": [after]}))
    assert pool_of(kubernetes) == pool


def test_spot_machines_are_waited_for_while_there_is_time(
    kubernetes: Kubernetes, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    close(kubernetes, "spot-small")
    spark(kubernetes, deadline=timedelta(hours=10)).execute(context(clock, {"clean": [600.0] * 5}))
    assert pool_of(kubernetes) == "spot-small"
    assert 300 <= clock.passed < 400  # the breaker's time
    said = capsys.readouterr().out
    assert said.count("Its deadline: waiting for spot: ") == 1
    assert "Now on spot-small (spot): it had no machines or lost them; this attempt tries it again" in said
    assert "Now on on-demand-small" not in said


def test_the_wait_ends_on_demand_in_time(kubernetes: Kubernetes, clock: Clock) -> None:
    close(kubernetes, *["spot-small"] * 6)  # for half an hour
    operator = spark(kubernetes, deadline=timedelta(minutes=45))
    operator.execute(context(clock, {"clean": [600.0] * 10}))
    assert pool_of(kubernetes) == "on-demand-small"
    assert 0 < clock.passed < 30 * 60


def test_a_pod_of_an_earlier_attempt_is_not_kept_waiting(kubernetes: Kubernetes, clock: Clock) -> None:
    close(kubernetes, "spot-small")
    kubernetes.put("left", "Running", labels={"tidepool.dev/pool": "on-demand-small"})
    spark(kubernetes, deadline=timedelta(hours=10)).execute(context(clock, {"clean": [600.0] * 5}, attempt=2))
    assert kubernetes.bodies == []
    assert clock.passed < 60


def test_a_task_that_waits_can_be_stopped(kubernetes: Kubernetes, clock: Clock) -> None:
    close(kubernetes, "spot-small")
    operator = spark(kubernetes, deadline=timedelta(hours=10))
    clock.at = [(100, operator.on_kill)]
    with pytest.raises(Exception, match="stopped"):
        operator.execute(context(clock, {"clean": [600.0] * 5}))
    assert kubernetes.bodies == []


def test_after_two_lost_attempts_no_deadline_keeps_a_job_on_spot(kubernetes: Kubernetes, clock: Clock) -> None:
    lost = [Attempt(number, Cause.SPOT_RECLAIM, "", "spot-small", "spot") for number in (1, 2)]
    store = SimpleNamespace(get=lambda key: dump(lost) if key == STORE_KEY else None)
    operator = spark(kubernetes, deadline=timedelta(hours=10))
    operator.execute(context(clock, {"clean": [600.0] * 5}, attempt=3, task_state_store=store))
    assert pool_of(kubernetes) == "on-demand-small"


def test_reclaims_that_the_team_saw_lately_count(kubernetes: Kubernetes, clock: Clock) -> None:
    deadline, past = timedelta(minutes=18), {"clean": [8 * 60.0] * 10}
    spark(kubernetes, deadline=deadline).execute(context(clock, past))
    assert pool_of(kubernetes) == "spot-small"
    kubernetes.bodies.clear()
    for _ in range(2):
        Breakers(kubernetes, NAMESPACE).tell("spot-small", Breaker.lost)
    assert kubernetes.config_maps[BREAKERS_CONFIG_MAP].data["spot-small"]
    spark(kubernetes, deadline=deadline).execute(context(clock, past, attempt=2))
    assert pool_of(kubernetes) == "on-demand-small"


# The alert.


@pytest.mark.usefixtures("capacity_file")
def test_a_tasks_deadline_is_an_alert_of_its_dag() -> None:
    with DAG("d", schedule=None) as dag:
        SparkPodOperator(task_id="clean", application="clean.py", deadline=timedelta(hours=2))
    alerts: Any = dag.deadline
    (alert,) = alerts
    assert alert.reference is DeadlineReference.DAGRUN_QUEUED_AT
    assert (alert.interval, alert.callback.kwargs["task_id"]) == (timedelta(hours=2), "clean")
    assert DagSerialization.to_dict(dag)["dag"]["deadline"]


@pytest.mark.usefixtures("capacity_file")
def test_a_mapped_tasks_deadline_is_one_alert_of_its_dag() -> None:
    with DAG("d", schedule=None, default_args={"deadline": timedelta(hours=2)}) as dag:
        SparkPodOperator.partial(task_id="clean", application="clean.py").expand(application_args=[["a"], ["b"]])
    alerts: Any = dag.deadline
    (alert,) = alerts
    assert alert.callback.kwargs["task_id"] == "clean"


@pytest.mark.usefixtures("capacity_file")
@pytest.mark.parametrize("deadline", [timedelta(0), -timedelta(hours=1), 3600])
def test_a_deadline_that_is_none_is_refused_when_the_file_is_parsed(deadline: Any) -> None:
    with pytest.raises(JobError, match="task 'clean': deadline: must be a timedelta longer than 0, not "):
        SparkPodOperator(task_id="clean", application="clean.py", deadline=deadline)
