"""What a DAG's next run will take and cost."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tidepool import estimate as library
from tidepool.estimate import Known, Pods, Shape, estimate
from tidepool.history import PodRecord, TaskRun, runs

GIB = 1 << 30
WHOLE = Pods(1, 1680, 6 * GIB, 1.0, "spot-small", "spot", 0.04)


def shape(task: str = "clean", **more: Any) -> Shape:
    about: dict[str, Any] = {"team": "ads", "pods": (WHOLE,)}
    return Shape(task, **(about | more))


def past(seconds: list[float], wait: float = 30, task: str = "clean", **more: Any) -> list[TaskRun]:
    pods = []
    for number, ran in enumerate(seconds):
        start = 1000.0 + 10_000 * number
        about: dict[str, Any] = {"cause": "ok", "cpu_millis": 1680, "memory_bytes": 6 * GIB, "held_seconds": ran}
        about |= {"queued": start - wait, "started": start, "ended": start + ran} | more
        pods.append(PodRecord("d", task, f"r{number}", 1, **about))
    return runs(pods)[("d", task)]


def one(known: Known, **more: Any) -> library.TaskEstimate:
    return estimate("d", [shape(**more)], {"clean": known}).tasks[0]


def test_a_task_with_runs_of_its_own_is_estimated_from_them() -> None:
    found = one(Known(past([600] * 10)))
    assert (found.basis, found.why) == ("history", "10 runs of its own")
    assert found.seconds.p50 == pytest.approx(630, rel=0.02)
    assert 630 < found.seconds.p90 < 800
    assert found.usd.p50 == pytest.approx(600 / 3600 * 0.04, rel=0.02)
    assert (found.pool, found.market) == ("spot-small", "spot")


def test_the_more_runs_were_seen_the_surer_it_is() -> None:
    widths = []
    for count in (0, 1, 3, 10, 20):
        found = one(Known(past([600.0] * count) if count else []))
        widths.append(found.seconds.p90 / found.seconds.p50)
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(
    ("known", "why", "seconds"),
    [
        (Known(), "no job that was seen: 10 min are supposed", 600 + library.PRIOR_WAIT_SECONDS),
        (Known(past([100, 120])), "2 runs of its own", None),
        (Known(past([100] * 9, memory_bytes=GIB)), "9 runs of its own, of another size", None),
        (Known(past([100] * 9, cause="app_error")), "no job that was seen", 600 + library.PRIOR_WAIT_SECONDS),
        (
            Known((), [run.first for run in past([50, 60, 70], wait=5)], "team ads"),
            "3 jobs of team ads",
            60 + 5,
        ),
    ],
)
def test_a_cold_start_says_what_it_follows_from(known: Known, why: str, seconds: float | None) -> None:
    found = one(known)
    assert found.basis == "cold start"
    assert found.why.startswith(why)
    if seconds is not None:
        assert found.seconds.p50 == pytest.approx(seconds, rel=0.1)
    assert found.seconds.p90 > 1.15 * found.seconds.p50


def test_a_cold_start_is_no_longer_than_its_attempt_may_be() -> None:
    found = one(Known(), limit_seconds=120.0)
    assert found.seconds.p90 <= 120 + library.PRIOR_WAIT_SECONDS
    assert found.usd.p90 <= 120 / 3600 * 0.04 * 1.001
    assert "execution_timeout" in found.why


def test_a_dag_takes_its_longest_path_and_costs_all_its_tasks() -> None:
    tasks = [
        shape("a", downstream=("b", "c")),
        shape("b", downstream=("d",)),
        shape("c", downstream=("d",)),
        shape("d"),
        Shape("notify"),
    ]
    lengths = {"a": 100.0, "b": 1000.0, "c": 10.0, "d": 50.0}
    known = {task: Known(past([each] * 20, wait=0.001, task=task)) for task, each in lengths.items()}
    found = estimate("d", tasks, known)
    assert found.seconds.p50 == pytest.approx(1150, rel=0.05)
    assert found.usd.p50 == pytest.approx(1160 / 3600 * 0.04, rel=0.05)
    by_name = {task.task: task for task in found.tasks}
    assert [by_name[task].critical for task in "abcd"] == [1, 1, 0, 1]
    assert (by_name["notify"].basis, by_name["notify"].usd.p90) == ("no job", 0)
    assert found.usd.p90 < sum(task.usd.p90 for task in found.tasks), "not all are dear at once"


def test_a_job_of_many_pods_holds_them_all_and_a_past_run_has_them_in_it() -> None:
    members = (WHOLE, Pods(4, 1680, 6 * GIB, 1.0, "spot-large", "spot", 0.16))
    cold = one(Known(), pods=members)
    alone = one(Known())
    assert cold.usd.p50 == pytest.approx(alone.usd.p50 * (1 + 4 * 4), rel=0.01)
    mapped = one(Known(), copies=10)
    assert mapped.usd.p50 > 8 * alone.usd.p50
    assert mapped.seconds.p50 > alone.seconds.p50
    assert "10 copies" in mapped.why
    assert one(Known(past([600] * 9)), copies=10).usd == one(Known(past([600] * 9))).usd


def test_a_job_whose_pods_only_a_run_knows_is_told_and_counts_as_nothing() -> None:
    found = estimate("d", [shape(), Shape("many", unknown="only a run knows")], {})
    by_name = {task.task: task for task in found.tasks}
    assert (by_name["many"].basis, by_name["many"].why, by_name["many"].usd.p90) == ("unknown", "only a run knows", 0)
    assert found.usd == by_name["clean"].usd


def test_the_same_seed_gives_the_same_figures() -> None:
    first, again, other = (estimate("d", [shape()], {}, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first.usd != other.usd


def test_overhead_is_the_ledgers_or_at_most_a_boot_and_an_idle_time_for_each_job() -> None:
    known = {"clean": Known(past([600] * 20))}
    assert estimate("d", [shape()], known, overhead=0.3).overhead == 0.3
    cold = estimate("d", [shape()], known, idle_seconds=20)
    assert cold.overhead == pytest.approx((library.BOOT_SECONDS + 20) / 600, rel=0.02)
    assert "at most" in cold.overhead_why
    assert estimate("d", [Shape("notify")], {}).overhead == 0


@pytest.mark.parametrize("count", [3, 5, 20])
def test_nine_of_ten_runs_are_below_p90_and_half_below_p50(count: int) -> None:
    """Of tasks of many lengths, whose runs differ by 10 to 50 %."""
    chance = random.Random(count)  # noqa: S311 - a repeatable one is wanted
    below = {"p50": 0, "p90": 0}
    rounds = 400
    for _ in range(rounds):
        median, spread = math.exp(chance.uniform(3, 9)), chance.uniform(0.1, 0.5)
        drawn = [median * math.exp(chance.gauss(0, spread)) for _ in range(count + 1)]
        found = estimate("d", [shape()], {"clean": Known(past(drawn[:-1], wait=0.001))}, draws=300).tasks[0]
        below["p50"] += drawn[-1] <= found.seconds.p50
        below["p90"] += drawn[-1] <= found.seconds.p90
    assert 0.42 <= below["p50"] / rounds <= 0.58
    assert 0.84 <= below["p90"] / rounds <= 0.97
