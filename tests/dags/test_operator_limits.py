"""What a job's attempt may cost, and which size it has instead of its author's."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.dags.conftest import make_capacity, make_pool
from tests.dags.fake_kubernetes import Clock, Kubernetes, Store, context, task
from tidepool import Cause, JobFailed, JobPodOperator, explain
from tidepool import budget as budgets
from tidepool import capacity as document
from tidepool.budget import Figure
from tidepool.capacity import OVERRIDES_CONFIG_MAP, SPENDING_CONFIG_MAP, Budget
from tidepool.operators import budget_gate, deadline_alert, explanation
from tidepool.operators.config_map import WRITES, SharedMap
from tidepool.overrides import Override, dump, key, load

GIB = 1024**3
OUT_OF_MEMORY = "OOMKilled"


def failed(operator: JobPodOperator, attempt: int = 1, store: Store | None = None) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        operator.execute(context(attempt, store))
    return caught.value


def keep(kubernetes: Kubernetes, name: str, **data: str) -> None:
    """A ConfigMap of the team's."""
    kubernetes.config_maps.pop(name, None)
    kubernetes.create_namespaced_config_map(
        "ns", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data=data)
    )


# Budgets.


@pytest.fixture
def budgeted(capacity_file: Path, capacity: document.Capacity, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a budget of the DAG `d`, which never ran, into the capacity document."""
    monkeypatch.setattr(deadline_alert, "past_runtimes", lambda ti: ())

    def write(**changes: Any) -> None:
        budget = dataclasses.replace(Budget("", "d", "day", 0, 10, "fail"), **changes)
        capacity_file.write_text(document.dumps(dataclasses.replace(capacity, budgets={"b": budget})))

    return write


def spent(kubernetes: Kubernetes, usd: float, until: float | None = None) -> None:
    """The keeper publishes; what is set aside stays."""
    now = time.time() if until is None else until
    text = budgets.dump_spent(now, {"b": Figure(usd, budgets.period("day", now)[0])})
    known = kubernetes.config_maps.get(SPENDING_CONFIG_MAP)
    keep(kubernetes, SPENDING_CONFIG_MAP, **{**(known.data if known else {}), budgets.SPENT: text})


def reserved(kubernetes: Kubernetes) -> dict[str, budgets.Reservation]:
    return dict(budgets.load(kubernetes.config_maps[SPENDING_CONFIG_MAP].data).reserved)


def test_a_job_within_its_budget_sets_aside_what_it_is_expected_to_cost_and_gives_back_the_rest(
    kubernetes: Kubernetes, clock: Clock, budgeted: Callable[..., None]
) -> None:
    budgeted()
    spent(kubernetes, 2)
    seen: list[budgets.Reservation] = []

    def runs(name: str) -> None:
        seen.append(reserved(kubernetes)[name])
        clock.sleep(600)
        kubernetes.end(name, "Succeeded")

    kubernetes.script = runs
    task(kubernetes, execution_timeout=timedelta(minutes=30)).execute(context())
    assert seen[0].seconds <= 1800
    assert seen[0].usd == pytest.approx(0.04 * seen[0].seconds / 3600)
    [left] = reserved(kubernetes).values()
    assert left.left(clock.time()) == 0


def test_what_a_job_is_expected_to_cost_follows_from_its_past_runs(
    kubernetes: Kubernetes, budgeted: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    budgeted()
    monkeypatch.setattr(deadline_alert, "past_runtimes", lambda ti: (100.0, 200.0, 300.0))
    found = budget_gate.expected(task(kubernetes), context(), None)
    assert found.seconds == pytest.approx(280)
    assert found.usd == pytest.approx(280 / 3600 * 0.096)  # on the dearest of its pools


def test_at_a_hard_limit_no_pod_is_made_and_the_task_fails_for_good_with_the_figures(
    kubernetes: Kubernetes, budgeted: Callable[..., None]
) -> None:
    budgeted()
    spent(kubernetes, 9.99)
    error = failed(task(kubernetes))
    assert error.cause is Cause.UNSCHEDULABLE
    assert "over its budget: budget 'b' of DAG d: 9.99 USD spent this day" in error.message
    assert "hard limit of 10.00 USD" in error.message
    assert kubernetes.created == []


def test_at_a_limit_that_waits_the_task_starts_when_there_is_room_again(
    kubernetes: Kubernetes, clock: Clock, budgeted: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    budgeted(at_limit="wait")
    spent(kubernetes, 11)
    clock.at = [(60, lambda: spent(kubernetes, 11)), (120, lambda: spent(kubernetes, 3))]
    task(kubernetes).execute(context())
    told = capsys.readouterr().out
    assert "Waiting for its budget: budget 'b'" in told
    assert len(kubernetes.created) == 1
    assert 120 <= clock.passed < 150


@pytest.mark.parametrize("how", ["missing", "old", "no map", "no answer"])
def test_without_figures_a_hard_limit_lets_nobody_start(
    kubernetes: Kubernetes, clock: Clock, budgeted: Callable[..., None], how: str
) -> None:
    budgeted()
    if how == "missing":
        keep(kubernetes, SPENDING_CONFIG_MAP)
    elif how == "old":
        spent(kubernetes, 0, until=clock.time() - budgets.STALE_SECONDS - 1)
    elif how == "no answer":

        def away(*_: Any, **__: Any) -> None:
            raise ApiException(status=500, reason="away")

        kubernetes.read_namespaced_config_map = away  # type: ignore[method-assign]
    error = failed(task(kubernetes))
    assert "does the keeper run?" in error.message
    assert kubernetes.created == []
    assert clock.passed == pytest.approx(budget_gate.UNKNOWN_SECONDS, abs=30)


def test_figures_that_come_while_a_task_waits_for_them_let_it_start(
    kubernetes: Kubernetes, clock: Clock, budgeted: Callable[..., None]
) -> None:
    budgeted()
    clock.at = [(100, lambda: spent(kubernetes, 1))]
    task(kubernetes).execute(context())
    assert len(kubernetes.created) == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_soft_limit_says_so_and_keeps_nobody(
    kubernetes: Kubernetes, budgeted: Callable[..., None], known: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    budgeted(soft_usd=5, hard_usd=0)
    if known:
        spent(kubernetes, 6)
    task(kubernetes).execute(context())
    told = capsys.readouterr().out
    assert ("soft limit of 5.00 USD" if known else "does the keeper run?") in told
    assert len(kubernetes.created) == 1


def test_an_attempt_on_its_second_rung_is_not_counted_twice(
    kubernetes: Kubernetes, clock: Clock, budgeted: Callable[..., None]
) -> None:
    budgeted(hard_usd=0.12)  # an hour on-demand, and not another on spot besides
    spent(kubernetes, 0)
    kubernetes.phase = lambda body: (
        "Running" if "on-demand-small" in json.dumps(body["spec"]["affinity"]) else "Pending"
    )
    task(kubernetes).execute(context())
    assert len(kubernetes.bodies) >= 2


def test_a_task_that_is_stopped_while_it_waits_makes_no_pod(
    kubernetes: Kubernetes, clock: Clock, budgeted: Callable[..., None]
) -> None:
    budgeted(at_limit="wait")
    operator = task(kubernetes)
    clock.at = [(30, operator.on_kill), (40, lambda: setattr(operator, "_killed", True))]
    assert failed(operator).cause is Cause.CANCELLED
    assert kubernetes.created == []


def test_without_a_budget_nothing_is_read(kubernetes: Kubernetes) -> None:
    asked: list[str] = []
    read = kubernetes.read_namespaced_config_map

    def noted(name: str, *arguments: Any, **more: Any) -> Any:
        asked.append(name)
        return read(name, *arguments, **more)

    kubernetes.read_namespaced_config_map = noted  # type: ignore[method-assign]
    task(kubernetes).execute(context())
    assert SPENDING_CONFIG_MAP not in asked


def test_who_writes_at_the_same_time_is_seen_and_nothing_is_lost(kubernetes: Kubernetes) -> None:
    keep(kubernetes, SPENDING_CONFIG_MAP, n="0")
    shared = SharedMap(kubernetes, "ns", SPENDING_CONFIG_MAP)
    others = iter(range(3))

    def add(data: dict[str, str]) -> dict[str, str]:
        if next(others, None) is not None:  # somebody is faster
            keep(kubernetes, SPENDING_CONFIG_MAP, n=str(int(data["n"]) + 10))
        return {"n": str(int(data["n"]) + 1)}

    shared.change(add)
    assert kubernetes.config_maps[SPENDING_CONFIG_MAP].data == {"n": "31"}


def test_where_others_are_always_faster_it_ends_with_the_conflict(kubernetes: Kubernetes) -> None:
    keep(kubernetes, SPENDING_CONFIG_MAP, n="0")
    tries: list[int] = []

    def add(data: dict[str, str]) -> dict[str, str]:
        tries.append(1)
        keep(kubernetes, SPENDING_CONFIG_MAP, n=str(len(tries)))
        return {"n": "mine"}

    with pytest.raises(ApiException, match="Conflict"):
        SharedMap(kubernetes, "ns", SPENDING_CONFIG_MAP).change(add)
    assert len(tries) == WRITES


def test_a_job_whose_budget_is_used_up_as_it_moves_up_the_ladder_says_so(
    kubernetes: Kubernetes, clock: Clock, budgeted: Callable[..., None]
) -> None:
    budgeted()
    spent(kubernetes, 1)
    kubernetes.phase = lambda body: "Pending"
    clock.at = [(40, lambda: spent(kubernetes, 11))]
    error = failed(task(kubernetes))
    assert error.cause is Cause.UNSCHEDULABLE
    assert error.message.startswith("over its budget: ")
    assert kubernetes.pods == {}


# Overrides.


def override(kubernetes: Kubernetes, **changes: Any) -> None:
    """Of the task `clean` of the DAG `d`, made for the size that it has now."""
    usual = task(kubernetes).placement
    size = {"cpu_millis": usual.cpu_millis, "memory_bytes": usual.memory_bytes}
    about: dict[str, Any] = {"memory": "2Gi", "cores": 1, "why": "it used little"} | size | changes
    made = Override("d", "clean", **about)
    keep(kubernetes, OVERRIDES_CONFIG_MAP, **{key("d", "clean"): dump(made)})


def kept(kubernetes: Kubernetes) -> Override:
    found = load(kubernetes.config_maps[OVERRIDES_CONFIG_MAP].data[key("d", "clean")])
    assert found is not None
    return found


def memory_of(body: dict[str, Any]) -> str:
    return str(body["spec"]["containers"][0]["resources"]["limits"]["memory"])


def test_a_job_has_the_size_of_its_override_and_its_log_says_so(
    kubernetes: Kubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    override(kubernetes)
    task(kubernetes).execute(context())
    assert memory_of(kubernetes.bodies[0]) == "2048Mi"
    assert "--conf spark.driver.memory" in " ".join(kubernetes.bodies[0]["spec"]["containers"][0]["args"])
    told = capsys.readouterr().out
    assert "Overridden by `tidepool jobs right-size`: memory=2Gi, cores=1, because it used little" in told


def test_an_override_of_pools_and_market_decides_where_the_job_goes(kubernetes: Kubernetes) -> None:
    override(kubernetes, memory=None, cores=None, pools=("on-demand-small",))
    task(kubernetes).execute(context())
    override(kubernetes, memory=None, cores=None, market="on-demand")
    task(kubernetes).execute(context(2))
    for body in kubernetes.bodies:
        assert body["metadata"]["labels"]["tidepool.dev/pool"] == "on-demand-small"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory_bytes": GIB}, "the job has"),
        ({"rolled_back": "it ran out"}, "it ran out"),
        ({"memory": "900Gi"}, "does not fit"),
        ({"memory": "700Mi"}, "Spark's heap gets"),
        ({"pools": ("gone",)}, "needs a job pool"),
    ],
)
def test_an_override_that_does_not_hold_leaves_the_job_as_its_author_asked(
    kubernetes: Kubernetes, changes: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    override(kubernetes, **changes)
    usual = task(kubernetes).placement
    task(kubernetes).execute(context())
    assert memory_of(kubernetes.bodies[0]) == f"{usual.memory_bytes // 1024**2}Mi"
    told = capsys.readouterr().out
    assert "Its size is its author's" in told
    assert words in told


def test_an_override_is_rolled_back_by_the_first_lack_of_memory_and_the_next_attempt_has_its_authors_size(
    kubernetes: Kubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    override(kubernetes)
    usual = task(kubernetes).placement
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 137, OUT_OF_MEMORY)
    store = Store()
    assert failed(task(kubernetes), 1, store).cause is Cause.OUT_OF_MEMORY
    assert 'attempt 1 of run r ran out of 2.0 GiB ("2048Mi")' in kept(kubernetes).rolled_back
    told = capsys.readouterr().out
    assert "Its override is rolled back" in told
    kubernetes.pods.clear()
    kubernetes.script = lambda name: kubernetes.end(name, "Succeeded")
    task(kubernetes).execute(context(2, store))
    assert memory_of(kubernetes.bodies[-1]) == f"{usual.memory_bytes // 1024**2}Mi"


def test_after_a_rollback_the_job_may_grow_into_the_pools_that_its_author_allows(
    kubernetes: Kubernetes, capacity_file: Path
) -> None:
    large = make_pool("spot-large", cpu_millis=7900, memory_bytes=30 * GIB, priority=60)
    capacity_file.write_text(document.dumps(make_capacity(large, make_pool("spot-small"))))
    override(kubernetes, pools=("spot-small",))
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 137, OUT_OF_MEMORY)
    error = failed(task(kubernetes))
    assert memory_of(kubernetes.bodies[0]) == "2048Mi"
    assert error.largest_bytes == 30 * GIB - 256 * 1024**2


def test_another_failure_leaves_the_override(kubernetes: Kubernetes) -> None:
    override(kubernetes)
    kubernetes.script = lambda name: kubernetes.end(name, "Failed", 1, "Error")
    failed(task(kubernetes))
    assert kept(kubernetes).rolled_back == ""


def test_an_override_of_another_task_or_that_cannot_be_read_is_none(kubernetes: Kubernetes) -> None:
    for text in (dump(Override("d", "other", memory="2Gi")), "nonsense"):
        keep(kubernetes, OVERRIDES_CONFIG_MAP, **{key("d", "clean"): text})
        task(kubernetes).execute(context())
    usual = task(kubernetes).placement
    assert {memory_of(body) for body in kubernetes.bodies} == {f"{usual.memory_bytes // 1024**2}Mi"}


def test_explain_shows_the_override_that_holds_and_why_another_does_not(
    kubernetes: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = task(kubernetes).placement
    size = {"cpu_millis": usual.cpu_millis, "memory_bytes": usual.memory_bytes}
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "d.py").write_text(
        "from airflow.sdk import DAG\nfrom tidepool import SparkPodOperator\n"
        "with DAG('d', schedule=None):\n    SparkPodOperator(task_id='clean', application='clean.py')\n"
    )
    monkeypatch.setenv(explanation.OVERRIDES_VARIABLE, str(tmp_path / "overrides.json"))
    for more, words in (({}, "Overridden by"), ({"rolled_back": "it ran out"}, "that does not hold: it ran out")):
        about: dict[str, Any] = size | more
        found = Override("d", "clean", memory="2Gi", why="it used little", **about)
        data = {usual.tenant.namespace: {key("d", "clean"): dump(found)}}
        (tmp_path / "overrides.json").write_text(json.dumps(data))
        answer = explanation.explain_task(tmp_path / "dags", "d", "clean")
        assert words in "\n".join(explain.lines(answer["figures"]))
