"""What a job should ask for, from what it used."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.dags.conftest import make_capacity, make_pool
from tidepool import overrides, rightsize
from tidepool.history import PodRecord, TaskRun, runs
from tidepool.job import Job
from tidepool.report import tasks
from tidepool.rightsize import recommend, slowdown, unused
from tidepool.sizing import place

GIB = 1024**3
SMALL = make_pool("spot-small", priority=50)
LARGE = make_pool("spot-large", cpu_millis=7900, memory_bytes=30 * GIB, usd_per_hour=0.16, priority=60)
FALLBACK = make_pool("on-demand-small", "on-demand", usd_per_hour=0.096, priority=10)
FALLBACK_LARGE = make_pool(
    "on-demand-large", "on-demand", cpu_millis=7900, memory_bytes=30 * GIB, usd_per_hour=0.384, priority=10
)
CAPACITY = make_capacity(SMALL, LARGE, FALLBACK, FALLBACK_LARGE, make_pool("system", "on-demand", jobs=False))
WHOLE = place(Job("clean", pool="spot-large"), CAPACITY)


def pod(run: int, attempt: int = 1, **more: Any) -> PodRecord:
    """A run of ten minutes alone on a large machine, of which it used little."""
    about: dict[str, Any] = {
        "team": "ads",
        "namespace": "ns",
        "pool": "spot-large",
        "market": "spot",
        "queued": run * 3600.0,
        "started": run * 3600.0 + 60,
        "ended": run * 3600.0 + 660,
        "cause": "ok",
        "cpu_millis": WHOLE.cpu_millis,
        "memory_bytes": WHOLE.memory_bytes,
        "cpu_seconds": 720.0,
        "memory_p99_bytes": 3 * GIB,
        "memory_peak_bytes": 3 * GIB,
        "samples": 60,
        "held_seconds": 600.0,
        "usd": 600 / 3600 * 0.16,
    }
    return PodRecord("flights", "clean", f"r{run:03}", attempt, **(about | more))


def history(count: int = 5, **more: Any) -> list[TaskRun]:
    return runs(pod(number, **more) for number in range(count))[("flights", "clean")]


def test_a_job_that_needs_little_gets_the_cheapest_machine_with_room_and_its_fallback() -> None:
    advice = recommend(history(), CAPACITY, now=9)[0]
    assert advice.kind == rightsize.MACHINE
    override = advice.override
    assert override is not None
    assert (override.pools, override.cores, override.made) == (("spot-small", "on-demand-small"), 2, 9)
    # The larger machine 600 s; the smaller one for longer, as if its cores had all been busy a part of the time.
    longer = slowdown(1.2, 8, 2)
    assert advice.saves_usd == pytest.approx(600 / 3600 * (0.16 - 0.04 * longer))


def test_what_is_recommended_can_be_placed_where_it_says() -> None:
    override = recommend(history(), CAPACITY)[0].override
    assert override is not None
    job = overrides.overridden(Job("clean", pool="spot-large"), override)
    placement = place(job, overrides.only(CAPACITY, override))
    assert [pool.name for pool in placement.pools] == ["spot-small", "on-demand-small"]
    assert placement.memory_bytes >= 1.2 * 3 * GIB


@pytest.mark.parametrize(
    "less",
    [
        {"count": 2},
        {"samples": 2},
        {"memory_p99_bytes": None},
        {"cpu_seconds": None},
        {"memory_p99_bytes": 6 * GIB},  # with its headroom it needs the large machine
        {"memory_peak_bytes": 7 * GIB},
        {"cpu_seconds": 5 * 600.0},  # with a quarter of the cores it would be much slower
        {"cause": "app_error"},
        {"pool": "gone"},
    ],
)
def test_no_smaller_machine_is_recommended_where_too_little_is_known_or_it_would_not_do(less: dict[str, Any]) -> None:
    count = less.pop("count", 5)
    assert [each for each in recommend(history(count, **less), CAPACITY) if each.kind == rightsize.MACHINE] == []


def test_a_job_of_several_pods_gets_no_recommendation() -> None:
    pods = [pod(number, queued=number * 3600.0 + part) for number in range(5) for part in range(3)]
    several = runs(pods)["flights", "clean"]
    assert recommend(several, CAPACITY) == []
    assert "several pods" in tasks.waste(several, CAPACITY).refused


def test_a_mapped_task_gets_one_size_by_the_instance_that_needs_most() -> None:
    def mapped(index: int) -> list[PodRecord]:
        used = (3 + index) * GIB
        more = {"map_index": str(index), "memory_p99_bytes": used, "memory_peak_bytes": used}
        return [pod(number, queued=number * 3600.0 + index, **more) for number in range(5)]

    [alone] = [each for each in recommend(history(), CAPACITY) if each.kind == rightsize.MACHINE]
    pods = [each for index in range(2) for each in mapped(index)]
    [found] = [each for each in recommend(runs(pods)["flights", "clean"], CAPACITY) if each.kind == rightsize.MACHINE]
    assert found.saves_usd == pytest.approx(2 * (alone.saves_usd or 0)), "of both instances of a run"
    assert "4.8 GiB" in found.words
    pods += mapped(7)
    wide = runs(pods)["flights", "clean"]
    assert [each for each in recommend(wide, CAPACITY) if each.kind == rightsize.MACHINE] == [], "one needs 12 GiB"
    assert rightsize.refused(wide) == ""


def test_a_job_that_keeps_running_out_of_memory_gets_what_it_grew_to() -> None:
    asked = {"memory_bytes": 2 * GIB, "pool": "spot-small"}
    pods = [
        each
        for number in range(4)
        for each in (
            pod(number, 1, cause="out_of_memory", usd=0.01, **asked),
            pod(number, 2, **(asked | {"memory_bytes": 3 * GIB})),
        )
    ]
    advice = recommend(runs(pods)[("flights", "clean")], CAPACITY)
    assert [each.kind for each in advice] == [rightsize.MEMORY]
    assert advice[0].override is not None
    assert (advice[0].override.memory, advice[0].override.memory_bytes) == ("3072Mi", 2 * GIB)
    assert advice[0].saves_usd == pytest.approx(0.01)


def test_a_job_that_loses_more_on_spot_than_it_saves_goes_on_demand() -> None:
    small = {"pool": "spot-small", "cpu_seconds": 600 * 1.9, "memory_p99_bytes": 5 * GIB, "usd": 600 / 3600 * 0.04}
    small |= {"cpu_millis": 1680, "memory_bytes": 6 * GIB}
    pods = [pod(number, 4, **small) for number in range(4)]
    pods += [pod(n, attempt, **(small | {"cause": "spot_reclaim"})) for n in range(4) for attempt in (1, 2, 3)]
    kinds = {each.kind: each for each in recommend(runs(pods)[("flights", "clean")], CAPACITY)}
    override = kinds[rightsize.MARKET].override
    assert override is not None
    assert override.market == "on-demand"
    assert kinds[rightsize.MARKET].saves_usd == pytest.approx(600 / 3600 * (4 * 0.04 - 0.096))
    few = [pod(number, 2, **small) for number in range(4)] + [pod(0, 1, **(small | {"cause": "spot_reclaim"}))]
    assert rightsize.MARKET not in {each.kind for each in recommend(runs(few)[("flights", "clean")], CAPACITY)}


def test_spot_and_sharing_are_told_and_never_applied() -> None:
    calm: dict[str, Any] = {
        "pool": "on-demand-small",
        "market": "on-demand",
        "cpu_millis": 1680,
        "memory_bytes": 6 * GIB,
    }
    found = recommend(history(cpu_seconds=120.0, memory_p99_bytes=GIB, memory_peak_bytes=GIB, **calm), CAPACITY)
    assert {each.kind for each in found} == {rightsize.SPOT, rightsize.SHARE}
    assert all(each.override is None for each in found)


def test_a_job_that_shares_its_machine_is_offered_a_smaller_part() -> None:
    shared = place(Job("clean", exclusive=False, cores=4, pool="spot-large"), CAPACITY)
    part: dict[str, Any] = {"cpu_millis": shared.cpu_millis, "memory_bytes": shared.memory_bytes, "cpu_seconds": 300.0}
    advice = recommend(history(memory_p99_bytes=GIB, memory_peak_bytes=GIB, **part), CAPACITY)[0]
    assert advice.override is not None
    assert (advice.override.memory, advice.override.cores, advice.override.pools) == ("1229Mi", 1, ())


def test_fewer_cores_are_never_faster_and_a_single_thread_needs_one() -> None:
    assert slowdown(1.0, 8, 1) == 1
    assert slowdown(8.0, 8, 2) == 4
    assert slowdown(3.0, 8, 8) == 1
    for busy in (0.2, 1.5, 3.9):
        assert [slowdown(busy, 4, cores) for cores in (4, 3, 2, 1)] == sorted(
            slowdown(busy, 4, cores) for cores in (4, 3, 2, 1)
        )


def test_unused_is_what_neither_cpu_nor_memory_used() -> None:
    assert unused(pod(0, cpu_millis=4000, memory_bytes=4 * GIB, cpu_seconds=600.0, memory_p99_bytes=3 * GIB)) == 0.25
    assert unused(pod(0, cpu_millis=1000, memory_bytes=4 * GIB, cpu_seconds=900.0, memory_p99_bytes=3 * GIB)) == 0
    assert unused(pod(0, samples=0)) is None


def test_an_override_is_the_same_after_it_was_kept_and_anything_else_is_none() -> None:
    override = recommend(history(), CAPACITY)[0].override
    assert override is not None
    assert overrides.load(overrides.dump(override)) == override
    for text in ("", "[]", "{}", '{"dag": 1, "task": "t"}', '{"dag": "d", "task": "t", "cores": "2"}', "nonsense"):
        assert overrides.load(text) is None
    assert overrides.key("a.b", "c") != overrides.key("a", "b.c")


def test_an_override_holds_only_for_the_size_it_was_made_for_and_until_it_is_rolled_back() -> None:
    override = recommend(history(), CAPACITY)[0].override
    assert override is not None
    assert overrides.holds(override, WHOLE) == ""
    smaller = dataclasses.replace(WHOLE, memory_bytes=GIB)
    assert "the job has" in overrides.holds(override, smaller)
    assert overrides.holds(dataclasses.replace(override, rolled_back="it ran out"), WHOLE) == "it ran out"


def test_what_few_measurements_say_is_shown_and_nothing_follows_from_it() -> None:
    row = tasks.waste(history(samples=2), CAPACITY)
    assert (row.memory_p99_bytes, row.unused_usd, row.advice) == (3 * GIB, 0, ())
    assert row.cpu == pytest.approx(720 / 600 / (WHOLE.cpu_millis / 1000))
    assert tasks.waste(history(memory_p99_bytes=None, samples=0), CAPACITY).cpu is None
