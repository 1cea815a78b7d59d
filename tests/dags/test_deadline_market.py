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
from tidepool.breaker import Breaker
from tidepool.keeper import ownership
from tidepool.labels import DEADLINE
from tidepool.operators.breakers import Breakers
from tidepool.operators.deadline_alert import RUNTIMES
from tidepool.operators.retry_policy import STORE_KEY, attempt
from tidepool.outcome import Cause, JobFailed
from tidepool.retries import Attempt, dump

HOUR = 3600.0
NAMESPACE = "tidepool-analytics"


class Ti(SimpleNamespace):
    """A task instance whose earlier runs took so many seconds, by task; every run is a day apart.

    kept: what an earlier run left in its XComs, and what this one does.
    """

    def get_previous_ti(self, state: str, logical_date: datetime | None, map_index: int) -> SimpleNamespace | None:
        if isinstance(self.past, Exception):
            raise self.past
        durations = self.past.get(self.task_id, ())
        index = 0 if logical_date is None else (datetime(2026, 1, 30, tzinfo=UTC) - logical_date).days
        if index >= len(durations):
            return None
        before = datetime(2026, 1, 29, tzinfo=UTC) - index * timedelta(days=1)
        return SimpleNamespace(duration=durations[index], logical_date=before, try_number=1)

    def xcom_pull(self, key: str, map_indexes: int, include_prior_dates: bool) -> Any:
        assert (map_indexes, include_prior_dates) == (-1, True)
        return self.kept.get(key)

    def xcom_push(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def model_copy(self, update: dict[str, Any]) -> Ti:
        return Ti(**{**vars(self), **update})


def context(
    clock: Clock, past: Any, attempt: int = 1, queued: float = 0.0, kept: Any = None, **more: Any
) -> dict[str, Any]:
    """A run that was queued so many seconds ago, of tasks with these past runtimes."""
    begin = datetime.fromtimestamp(clock.now - queued, UTC)
    found = usual(attempt) | more
    ti = Ti(**{key: getattr(found["ti"], key) for key in ("dag_id", "task_id", "run_id", "try_number", "map_index")})
    ti.past, ti.max_tries, ti.kept = past, 15, {} if kept is None else {RUNTIMES: kept}
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
    Breakers(kubernetes, NAMESPACE).tell("spot-small", lambda known, now: known.ran(now, 0.5, 2))
    spark(kubernetes, deadline=deadline).execute(context(clock, past, attempt=2))
    assert pool_of(kubernetes) == "on-demand-small"


# Checkpoints, and what attempts leave to those after them.


def lost(*seconds: float) -> SimpleNamespace:
    """A store that knows of attempts which ran so long on spot machines and lost them."""
    attempts = [
        Attempt(number, Cause.SPOT_RECLAIM, "", "spot-small", "spot", seconds=each)
        for number, each in enumerate(seconds, start=1)
    ]
    return SimpleNamespace(get=lambda key: dump(attempts) if key == STORE_KEY else None)


EVERY = timedelta(minutes=10)


@pytest.mark.parametrize(("every", "pool"), [(None, "on-demand-small"), (EVERY, "spot-small")])
def test_with_checkpoints_a_reclaim_is_no_miss(
    kubernetes: Kubernetes, clock: Clock, every: timedelta | None, pool: str
) -> None:
    operator = spark(kubernetes, deadline=timedelta(hours=8), checkpoint_every=every)
    operator.execute(context(clock, {"clean": [5 * HOUR] * 10}))
    assert pool_of(kubernetes) == pool


@pytest.mark.parametrize(("ran", "pool"), [(4 * HOUR, "spot-small"), (600.0, "on-demand-small")])
def test_what_earlier_attempts_have_saved_leaves_time_for_spot(
    kubernetes: Kubernetes, clock: Clock, ran: float, pool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = spark(kubernetes, deadline=timedelta(hours=8), checkpoint_every=EVERY)
    begun = context(clock, {"clean": [5 * HOUR] * 10}, attempt=2, queued=4.5 * HOUR, task_state_store=lost(ran))
    operator.execute(begun)
    assert pool_of(kubernetes) == pool
    said = capsys.readouterr().out
    assert "each of which makes at most 10 min of it undone" in said
    assert ("of which 3 h 50 min are saved" in said) == (pool == "spot-small")


def test_with_checkpoints_two_lost_attempts_do_not_send_a_job_on_demand_that_has_time(
    kubernetes: Kubernetes, clock: Clock
) -> None:
    past, times = {"clean": [600.0] * 5}, {"deadline": timedelta(hours=30), "checkpoint_every": timedelta(minutes=1)}
    spark(kubernetes, **times).execute(context(clock, past, attempt=4, task_state_store=lost(90, 90, 90)))
    assert pool_of(kubernetes) == "spot-small"
    kubernetes.bodies.clear()
    spark(kubernetes, **times).execute(context(clock, past, attempt=9, task_state_store=lost(*[90.0] * 8)))
    assert pool_of(kubernetes) == "on-demand-small", "retries are kept for what happens there"
    kubernetes.bodies.clear()
    few = spark(kubernetes, **times, platform_retries=3, retries=10)
    few.execute(context(clock, past, attempt=3, task_state_store=lost(90, 90)))
    assert pool_of(kubernetes) == "on-demand-small"


@pytest.mark.parametrize(("expected", "pool"), [(None, "on-demand-small"), (timedelta(hours=1), "spot-small")])
def test_the_first_run_goes_by_what_its_author_expects(
    kubernetes: Kubernetes, clock: Clock, expected: timedelta | None, pool: str
) -> None:
    operator = spark(kubernetes, deadline=timedelta(hours=20), checkpoint_every=EVERY, expected=expected)
    operator.execute(context(clock, {}))
    assert pool_of(kubernetes) == pool


@pytest.mark.usefixtures("capacity_file")
@pytest.mark.parametrize("name", ["expected", "checkpoint_every"])
def test_durations_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(JobError, match=f"task 'clean': {name}: must be a timedelta longer than 0, not 60"):
        SparkPodOperator(task_id="clean", application="clean.py", **{name: 60})


def test_a_run_by_hand_goes_by_what_earlier_runs_by_hand_have_left(kubernetes: Kubernetes, clock: Clock) -> None:
    """Runs without a logical date have no earlier ones that Airflow would tell of."""
    operator = spark(kubernetes, deadline=timedelta(hours=10))
    operator.execute(context(clock, {}, kept=[600.0, 610.0, 590.0]))
    assert pool_of(kubernetes) == "spot-small"


def script(kubernetes: Kubernetes, clock: Clock, seconds: float, phase: str = "Succeeded") -> None:
    """The pod's program runs so long and ends."""

    def end(name: str) -> None:
        began, clock.now = clock.now, clock.now + seconds
        kubernetes.end(name, phase, 0 if phase == "Succeeded" else 1)
        over = kubernetes.pods[name].status.container_statuses[0].state.terminated
        over.started_at, over.finished_at = (datetime.fromtimestamp(at, UTC) for at in (began, clock.now))

    kubernetes.script = end


def test_a_good_run_leaves_what_it_took_to_the_next_one(kubernetes: Kubernetes, clock: Clock) -> None:
    script(kubernetes, clock, 1000.0)
    begun = context(clock, {"clean": [600.0, 700.0]})
    spark(kubernetes, deadline=timedelta(hours=10)).execute(begun)
    assert begun["ti"].kept[RUNTIMES] == [1000.0, 600.0, 700.0]
    seen = Breakers(kubernetes, NAMESPACE).read()["spot-small"]
    assert (seen.hours, seen.losses) == (pytest.approx(1000 / 3600), 0)


@pytest.mark.parametrize(("every", "took"), [(EVERY, 6000.0), (None, 1000.0)])
def test_a_resumed_run_took_what_all_its_attempts_worked(
    kubernetes: Kubernetes, clock: Clock, every: timedelta | None, took: float
) -> None:
    script(kubernetes, clock, 1000.0)
    begun = context(clock, {}, kept=[500.0], attempt=2, task_state_store=lost(5000.0))
    spark(kubernetes, deadline=timedelta(hours=10), checkpoint_every=every).execute(begun)
    assert begun["ti"].kept[RUNTIMES] == [took, 500.0]


@pytest.mark.parametrize(("before", "kept"), [(5000.0, [6000.0]), (0.0, None)], ids=["known", "unknown"])
def test_a_deferred_run_leaves_what_it_took_unless_an_attempt_is_unknown(
    kubernetes: Kubernetes, clock: Clock, before: float, kept: list[float] | None
) -> None:
    kubernetes.put("p", labels={"tidepool.dev/pool": "spot-small"})
    script(kubernetes, clock, 1000.0)
    kubernetes.script("p")
    given = {"deadline": timedelta(hours=10), "checkpoint_every": EVERY}
    operator = spark(kubernetes, **given, deferrable=True, get_logs=False)
    begun = context(clock, {}, attempt=2, task_state_store=lost(before))
    operator.trigger_reentry(begun, {"status": "success", "name": "p", "namespace": NAMESPACE})
    assert begun["ti"].kept.get(RUNTIMES) == kept


def test_a_job_without_a_deadline_leaves_none(kubernetes: Kubernetes, clock: Clock) -> None:
    script(kubernetes, clock, 1000.0)
    begun = context(clock, {})
    spark(kubernetes).execute(begun)
    assert RUNTIMES not in begun["ti"].kept


def test_an_attempt_that_failed_says_how_long_it_ran_and_the_team_learns_of_it(
    kubernetes: Kubernetes, clock: Clock
) -> None:
    script(kubernetes, clock, 1800.0, "Failed")
    with pytest.raises(JobFailed) as caught:
        spark(kubernetes, deadline=timedelta(hours=10)).execute(context(clock, {"clean": [600.0] * 5}))
    assert caught.value.seconds == 1800
    assert attempt(caught.value, 1).seconds == 1800
    seen = Breakers(kubernetes, NAMESPACE).read()["spot-small"]
    assert (seen.hours, seen.losses) == (0.5, 0)


# Spot pools without machines.


def pool_in(body: dict[str, Any]) -> str:
    return str(body["metadata"]["labels"]["tidepool.dev/pool"])


def test_where_spot_has_no_machine_the_deadline_is_asked_again_and_on_demand_is_not_the_next_best(
    kubernetes: Kubernetes, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    comes = clock.now + 20 * 60
    kubernetes.phase = lambda body: "Running" if clock.now >= comes else "Pending"
    spark(kubernetes, deadline=timedelta(hours=10)).execute(context(clock, {"clean": [600.0] * 5}))
    assert {pool_in(body) for body in kubernetes.bodies} == {"spot-small"}
    assert 2 <= len(kubernetes.bodies) <= 4
    assert 20 * 60 <= clock.passed < 40 * 60
    assert kubernetes.most_live == 1
    assert "Its deadline: waiting for spot" in capsys.readouterr().out


def test_the_wait_for_a_spot_pool_that_was_asked_in_vain_ends_on_demand_in_time(
    kubernetes: Kubernetes, clock: Clock
) -> None:
    kubernetes.phase = lambda body: "Running" if pool_in(body) == "on-demand-small" else "Pending"
    spark(kubernetes, deadline=timedelta(hours=1)).execute(context(clock, {"clean": [600.0] * 10}))
    assert [pool_in(body) for body in kubernetes.bodies][-1] == "on-demand-small"
    assert clock.passed < 45 * 60


def test_without_the_teams_memory_of_pools_the_attempt_has_its_own(kubernetes: Kubernetes, clock: Clock) -> None:
    kubernetes.config_maps.clear()
    kubernetes.phase = lambda body: "Running" if pool_in(body) == "on-demand-small" else "Pending"
    spark(kubernetes, deadline=timedelta(hours=1)).execute(context(clock, {"clean": [600.0] * 10}))
    assert len(kubernetes.bodies) <= 5
    assert [pool_in(body) for body in kubernetes.bodies][-1] == "on-demand-small"


def test_a_task_that_waits_after_it_asked_in_vain_can_be_stopped(kubernetes: Kubernetes, clock: Clock) -> None:
    kubernetes.phase = lambda body: "Pending"
    operator = spark(kubernetes, deadline=timedelta(hours=10))
    clock.at = [(200, operator.on_kill)]
    with pytest.raises(Exception, match="stopped"):
        operator.execute(context(clock, {"clean": [600.0] * 5}))
    assert kubernetes.pods == {}


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
