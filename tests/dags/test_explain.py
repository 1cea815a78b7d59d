"""How a job's size and machines are explained: the figures add up, and the words are the figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from tests.dags.fake_kubernetes import Kubernetes, context, task
from tidepool import (
    DaskClusterOperator,
    DaskPodOperator,
    JobPodOperator,
    SparkApplicationOperator,
    SparkClusterOperator,
    SparklingWaterPodOperator,
    SparkPodOperator,
    deadline_alert,
    explain,
)
from tidepool import capacity as document
from tidepool.capacity import Budget, Capacity, Pool
from tidepool.explain import Part
from tidepool.job import MIB, Job, JobError
from tidepool.operators import explanation
from tidepool.operators.explanation import before_any_run, explain_task, longest_on_spot
from tidepool.sizing import place

Make = Callable[..., Pool]


def said(found: dict[str, Any]) -> str:
    return "\n".join(explain.lines(found))


@pytest.mark.usefixtures("capacity_file")
@pytest.mark.parametrize("asked", [{}, {"memory": "3Gi"}, {"cores": 1}, {"exclusive": False}], ids=str)
def test_the_shares_add_up_to_the_limit_which_is_within_what_the_machine_offers(asked: dict[str, Any]) -> None:
    (part,) = before_any_run(SparkPodOperator(task_id="t", application="a.py", **asked))["parts"]
    first, limit = part["pools"][0], part["size"]["memory_bytes"]
    assert sum(part["spark_memory_mib"].values()) == limit / MIB
    assert limit <= first["offered"]["memory_bytes"] <= first["allocatable"]["memory_bytes"]
    assert part["size"]["cpu_millis"] <= first["offered"]["cpu_millis"] <= first["allocatable"]["cpu_millis"]


@pytest.mark.usefixtures("capacity_file")
def test_a_job_is_explained_in_words() -> None:
    assert said(before_any_run(SparkPodOperator(task_id="t", application="a.py", memory="3Gi"))).splitlines() == [
        "Task t, of team analytics, in namespace tidepool-analytics.",
        "Asked for: memory='3Gi'.",
        "Pool spot-small (spot, $0.0400/h): it fits.",
        "Pool on-demand-small (on-demand, $0.0960/h): it fits.",
        "Pool system (on-demand, $0.0400/h): no, it is not for jobs.",
        "CPU: 1930m allocatable - 250m for DaemonSets = 1680m offered; 1680m requested, for 2 threads.",
        "Memory in MiB: heap 1934 + JVM overhead 384 + Python 600 + margin 154 = 3072, the limit <= 6912 offered = "
        "7168 allocatable - 256 for DaemonSets.",
        "Price: $0.0400 an hour on spot-small, for the whole machine; $0.0960 on-demand.",
        "Ladder: spot-small (spot), next in order; then on-demand-small (on-demand), next in order; then "
        "spot-small (spot) or on-demand-small (on-demand), whichever has a machine first.",
        "Attempts after the first: 3 after failures of the program, 10 after what it could not help, "
        "2 with 1.5 times the memory.",
    ]


@pytest.mark.parametrize(
    ("asked", "second", "why"),
    [
        ({}, {"jobs": False}, "it is not for jobs"),
        ({"pool": "first"}, {}, "the job names pool 'first'"),
        ({}, {"max_machines": 0}, "it may have no machines (its max is 0)"),
        ({"gpus": 1}, {}, "a machine has 0 GPUs of 1"),
        ({}, {"gpus": 1}, "its GPUs are for jobs that ask for them"),
        ({"cores": 2}, {"cpu_millis": 900}, "a machine gives a job 1 cores of 2 and 650m of CPU of 1680m"),
        ({}, {"memory_bytes": 2048 * MIB}, "a machine gives a job 1792 MiB of memory of 6912"),
        ({"memory": "1Gi"}, {"cpu_millis": 3920}, "another job would have room beside it on a machine"),
    ],
)
def test_it_is_said_why_a_pool_is_not_for_a_job(
    capacity_of: Callable[..., Capacity], pool: Make, asked: dict[str, Any], second: dict[str, Any], why: str
) -> None:
    first = pool("first", priority=99, gpus=asked.get("gpus", 0))
    capacity = capacity_of(first, pool("second", **second))
    job = Job("t", **asked)
    (part,) = explain.figures([Part("pod", job, None, place(job, capacity))], capacity, [], None)["parts"]
    assert [each["why_not"] for each in part["pools"]] == ["", why]


def test_a_market_that_the_author_pins_is_the_reason(capacity: Capacity) -> None:
    spot = dataclasses.replace(
        capacity, pools={name: each for name, each in capacity.pools.items() if each.market == "spot"}
    )
    found = explain.figures([Part("pod", Job("t"), "spot", place(Job("t"), spot))], capacity, [], None)
    (no,) = [each["why_not"] for each in found["parts"][0]["pools"] if each["pool"] == "on-demand-small"]
    assert no == "the job is for spot machines only"
    assert "Attempts: as its own retry policy says." in said(found)


def test_a_job_that_shares_its_machine_costs_its_share(capacity: Capacity) -> None:
    job = Job("t", exclusive=False)
    (part,) = explain.figures([Part("pod", job, None, place(job, capacity))], capacity, [], None)["parts"]
    assert part["price"] == {
        "share": 0.5,
        "usd_per_hour": 0.02,
        "machine_usd_per_hour": 0.04,
        "on_demand_usd_per_hour": 0.048,
    }


def test_a_job_of_several_kinds_of_pods_is_explained_by_kind(capacity: Capacity) -> None:
    parts = [
        Part("driver", Job("t", exclusive=False), None, place(Job("t", exclusive=False), capacity)),
        Part("executor", Job("t"), None, place(Job("t"), capacity)),
    ]
    told = said(explain.figures(parts, capacity, [], None))
    assert "driver: Asked for: exclusive=False." in told
    assert "executor: Asked for: a whole machine." in told


@pytest.mark.usefixtures("capacity_file")
@pytest.mark.parametrize(
    ("operator", "asked", "names"),
    [
        (SparkClusterOperator, {"executors": 3}, ["driver", "each of 3 executors"]),
        (SparkClusterOperator, {"executors": (1, 8)}, ["driver", "each of 1 to 8 executors"]),
        (SparkApplicationOperator, {}, ["driver", "each of 2 executors"]),
        (DaskClusterOperator, {}, ["scheduler", "each of 2 workers"]),
    ],
)
def test_a_job_of_several_pods_is_explained_by_kind_of_pod(
    operator: type[JobPodOperator], asked: dict[str, Any], names: list[str]
) -> None:
    job = operator(task_id="t", application="a.py", image="i:1", market="spot", memory="3Gi", **asked)
    main, member = before_any_run(job)["parts"]
    assert [main["name"], member["name"]] == names
    assert (main["asked"]["exclusive"], member["asked"]["exclusive"]) == (False, True)
    assert (main["asked"]["market"], member["asked"]["market"]) == ("on-demand", "spot")
    assert (main["pools"][0]["pool"], member["pools"][0]["pool"]) == ("on-demand-small", "spot-small")
    assert member["size"]["memory_bytes"] == 3072 * MIB
    for part in (main, member):
        shares = part["spark_memory_mib"]
        assert (shares is None) == (operator is DaskClusterOperator)
        assert shares is None or sum(shares.values()) == part["size"]["memory_bytes"] / MIB


@pytest.mark.usefixtures("capacity_file")
@pytest.mark.parametrize(
    ("operator", "what"),
    [
        (JobPodOperator, {"image": "spark"}),
        (SparkPodOperator, {"application": "a.py"}),
        (SparkClusterOperator, {"application": "a.py"}),
        (SparkApplicationOperator, {"application": "a.py"}),
        (SparklingWaterPodOperator, {"application": "a.py", "image": "i:1"}),
        (DaskPodOperator, {"application": "a.py", "image": "i:1"}),
        (DaskClusterOperator, {"application": "a.py", "image": "i:1"}),
    ],
)
def test_every_kind_of_job_takes_a_machine_and_shows_it(operator: type[JobPodOperator], what: dict[str, Any]) -> None:
    figures = before_any_run(operator(task_id="t", machine="m5.large", **what))
    assert figures["parts"][-1]["asked"]["machine"] == "m5.large"
    assert any("Asked for: machine='m5.large'." in line for line in explain.lines(figures))
    with pytest.raises(JobError, match=r"task 't': machine='m5\.metal', but no pool"):
        operator(task_id="t", machine="m5.metal", **what)
    with pytest.raises(JobError, match=r"task 't': machine: must be a type of machine"):
        operator(task_id="t", machine=5, **what)


def test_an_attempts_log_begins_with_the_same_words(kubernetes: Kubernetes, capsys: pytest.CaptureFixture[str]) -> None:
    operator = task(kubernetes, memory="3Gi")
    operator.execute(context())
    told = capsys.readouterr().out
    for line in explain.lines(before_any_run(operator)):
        assert line in told


# Deadlines.


def deadline_of(**arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = before_any_run(SparkPodOperator(task_id="t", application="a.py", **arguments))
    return found


@pytest.mark.usefixtures("capacity_file")
def test_a_deadline_is_explained_with_what_it_is_reckoned_with() -> None:
    told = said(deadline_of(deadline=timedelta(hours=2)))
    assert "Deadline: 2 h 00 min after its run was queued, by the task; 99% of deadlines are to be met." in told
    assert "5.0% reclaims an hour, each of which makes all (no checkpoint_every) of the work undone, 5 min for" in told
    assert "for a restart; spot $0.0400/h, on-demand $0.0960/h." in told
    assert (
        "The first run goes on-demand; a later one, as its run is queued: spot where ten past runs took up to" in told
    )


@pytest.mark.usefixtures("capacity_file")
def test_what_the_author_says_of_a_job_with_a_deadline_is_reckoned_with() -> None:
    times = {"expected": timedelta(minutes=30), "checkpoint_every": timedelta(minutes=5)}
    found = deadline_of(deadline=timedelta(hours=6), **times)
    told = said(found)
    assert "each of which makes at most 5 min of the work undone" in told
    assert "The first run, of which its author expects 30 min, goes on spot;" in told
    without = deadline_of(deadline=timedelta(hours=6))["deadline"]["longest_on_spot_seconds"]
    assert found["deadline"]["longest_on_spot_seconds"] > 1.3 * without


@pytest.mark.usefixtures("capacity_file")
def test_a_dags_deadline_is_its_tasks_where_they_have_none_of_their_own() -> None:
    with DAG("d", schedule=None, deadline=deadline_alert(timedelta(hours=5))):
        assert deadline_of()["deadline"]["of"] == "DAG"
    assert deadline_of()["deadline"] is None


@pytest.mark.usefixtures("capacity_file")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [({"market": "spot"}, "the author's `market` does"), ({"pool": "spot-small"}, "all its pools are spot")],
)
def test_it_is_said_where_a_deadline_has_no_say(arguments: dict[str, Any], why: str) -> None:
    told = said(deadline_of(deadline=timedelta(hours=2), **arguments))
    assert f"It does not choose the market: {why}." in told


def test_the_longest_run_on_spot_grows_with_the_time_there_is() -> None:
    hours = [longest_on_spot(3600.0 * each, 0.04, 0.1) for each in (0.05, 1, 2, 10)]
    assert hours[0] is None
    assert hours[1:] == sorted(each for each in hours[1:] if each is not None)
    assert 0 < (hours[1] or 0) < 3600


# From DAG files.


FILE = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from tidepool import JobPodOperator

with DAG("nightly", schedule=None):
    JobPodOperator(task_id="load", image="spark")
    JobPodOperator.partial(task_id="each", image="spark").expand(arguments=[["a"], ["b"]])
    listed = EmptyOperator(task_id="list")
    JobPodOperator.partial(task_id="late", image="spark").expand(arguments=listed.output)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "nightly.py").write_text(FILE)
    (folder / "broken.py").write_text("from airflow.sdk import DAG\nraise ValueError('of the author')\n")
    return folder


@pytest.mark.usefixtures("capacity_file")
def test_tasks_are_found_also_where_they_are_mapped(folder: Path) -> None:
    for name in ("load", "each"):
        found = explain_task(folder, "nightly", name)["figures"]
        assert (found["dag"], found["task"]) == ("nightly", name)


@pytest.mark.usefixtures("capacity_file")
def test_what_cannot_be_explained_is_said_with_what_can(folder: Path) -> None:
    broken = {"broken.py": "ValueError: of the author"}
    assert explain_task(folder, "x", "load")["error"] == {"what": "dag", "dags": ["nightly"], "files": broken}
    assert explain_task(folder, "nightly", "x")["error"]["tasks"] == ["each", "late", "list", "load"]
    no_job = explain_task(folder, "nightly", "list")["error"]
    assert (no_job["kind"], no_job["tasks"]) == ("EmptyOperator", ["load", "each", "late"])
    assert "only a run knows" in explain_task(folder, "nightly", "late")["error"]["message"]


@pytest.mark.usefixtures("capacity_file")
def test_the_answer_is_a_file(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "answer.json"
    assert explanation.main([str(folder), "nightly", "load", str(output)]) == 0
    assert '"figures"' in output.read_text()


def test_the_budgets_that_the_job_counts_towards_are_said(capacity: Capacity, capacity_file: Path) -> None:
    budgets = {
        "daily": Budget("", "d", "day", 5, 10, "wait"),
        "team": Budget("analytics", "", "month", 0, 100, "fail"),
        "soft": Budget("", "", "month", 50, 0, "fail"),
        "other": Budget("", "e", "day", 0, 1, "fail"),
    }
    capacity_file.write_text(document.dumps(dataclasses.replace(capacity, budgets=budgets)))
    with DAG("d"):
        operator = SparkPodOperator(task_id="t", application="a.py")
    assert [line for line in said(before_any_run(operator)).splitlines() if line.startswith("Budget")] == [
        "Budget daily of DAG d: a warning from 5.00 USD a day on; 10.00 USD a day, where the task waits.",
        "Budget soft of all jobs: a warning from 50.00 USD a month on.",
        "Budget team of team analytics: 100.00 USD a month, where the task fails.",
    ]
