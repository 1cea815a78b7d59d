"""What follows an attempt, by its cause."""

from __future__ import annotations

import json

import pytest

from tidepool.outcome import Cause
from tidepool.retries import MOST_KEPT, Attempt, Limits, decide, dump, last_words, load, memory, since_cleared

GIB = 1024**3
LIMITS = Limits(author=2, platform=4, memory=2)
LARGEST = 64 * GIB


def history(*causes: Cause, memory_bytes: int = GIB) -> list[Attempt]:
    return [Attempt(number, cause, "why", "spot-a", "spot", memory_bytes) for number, cause in enumerate(causes, 1)]


def attempts_of(*causes: Cause, limits: Limits = LIMITS) -> int:
    """How many attempts are made when the causes come one after another, the last again and again."""
    ended: list[Cause] = []
    for number in range(1, 100):
        ended.append(causes[min(number, len(causes)) - 1])
        if not decide(history(*ended), limits, largest_bytes=LARGEST).retry:
            return number
    raise AssertionError("it never ends")


@pytest.mark.parametrize("cause", [Cause.SPOT_RECLAIM, Cause.NODE_LOST, Cause.EVICTED, Cause.UNKNOWN])
def test_what_the_job_could_not_help_has_an_allowance_of_its_own(cause: Cause) -> None:
    assert attempts_of(cause) == 1 + LIMITS.platform
    assert attempts_of(cause, cause, cause, Cause.APP_ERROR) == 3 + 1 + LIMITS.author


@pytest.mark.parametrize("cause", [Cause.APP_ERROR, Cause.TIMED_OUT])
def test_a_program_that_fails_is_tried_as_often_as_its_author_says(cause: Cause) -> None:
    assert attempts_of(cause) == 1 + LIMITS.author
    assert attempts_of(cause, limits=Limits(author=0)) == 1
    assert decide(history(cause), LIMITS).delay_seconds is None  # the author's own


@pytest.mark.parametrize("cause", [Cause.CANCELLED, Cause.IMAGE_PULL, Cause.UNSCHEDULABLE])
def test_what_would_end_alike_is_not_tried_again(cause: Cause) -> None:
    assert attempts_of(cause) == 1
    assert f"{cause} is not retried: " in decide(history(cause), LIMITS).reason


def test_a_job_without_retries_still_survives_its_machine() -> None:
    assert attempts_of(Cause.SPOT_RECLAIM, Cause.SPOT_RECLAIM, Cause.APP_ERROR, limits=Limits(author=0)) == 3


def test_want_of_memory_is_met_with_more_twice() -> None:
    assert attempts_of(Cause.OUT_OF_MEMORY) == 1 + LIMITS.memory
    grown = memory(4 * GIB, history(Cause.OUT_OF_MEMORY, memory_bytes=4 * GIB), LARGEST)
    assert grown == 6 * GIB
    twice = [*history(Cause.OUT_OF_MEMORY, memory_bytes=4 * GIB), Attempt(2, Cause.OUT_OF_MEMORY, memory_bytes=grown)]
    assert memory(4 * GIB, twice, LARGEST) == 9 * GIB
    assert "9.0 GiB" in decide(twice, LIMITS, largest_bytes=LARGEST).reason


def test_more_memory_is_kept_after_other_ends() -> None:
    ended = history(Cause.OUT_OF_MEMORY, Cause.SPOT_RECLAIM, memory_bytes=4 * GIB)
    assert memory(4 * GIB, ended, LARGEST) == 6 * GIB


def test_no_more_memory_is_asked_for_than_there_is() -> None:
    ended = history(Cause.OUT_OF_MEMORY, memory_bytes=4 * GIB)
    assert memory(4 * GIB, ended, 5 * GIB) == 5 * GIB
    assert decide(ended, LIMITS, largest_bytes=5 * GIB).retry
    nothing_more = decide(ended, LIMITS, largest_bytes=4 * GIB)
    assert not nothing_more.retry
    assert "no pool that it may run on has more" in nothing_more.reason


def test_attempts_that_nobody_recorded_count_as_the_platforms() -> None:
    assert decide(history(Cause.SPOT_RECLAIM), LIMITS, lost=3).retry
    assert not decide(history(Cause.SPOT_RECLAIM), LIMITS, lost=4).retry
    assert decide(history(Cause.APP_ERROR), LIMITS, lost=4).retry


def test_the_pause_after_a_lost_machine_grows_to_a_minute() -> None:
    limits = Limits(author=0, platform=10)
    delays = [decide(history(*[Cause.NODE_LOST] * count), limits).delay_seconds for count in range(1, 8)]
    assert delays == [5, 10, 20, 40, 60, 60, 60]


def test_airflow_is_asked_for_all_allowances_together() -> None:
    assert Limits(author=3).total == 3 + 10 + 2


def test_a_task_that_is_cleared_starts_anew() -> None:
    ended = history(*[Cause.APP_ERROR] * 3)
    counted, lost = since_cleared([*ended, Attempt(5, Cause.APP_ERROR)], number=5, most=3 + 8, total=8)
    assert [attempt.number for attempt in counted] == [5]
    assert lost == 1  # attempt 4 ended without a word
    assert since_cleared(ended, number=3, most=8, total=8) == (ended, 0)
    assert since_cleared(ended, number=3, most=0, total=8) == (ended, 0)


def test_the_last_attempt_counts_though_its_author_has_lowered_the_retries_meanwhile() -> None:
    last = Attempt(1, Cause.APP_ERROR)
    assert since_cleared([last], number=1, most=15, total=2) == ([last], 0)


def test_the_log_says_why_the_last_attempt_ended() -> None:
    ended = [Attempt(1, Cause.NODE_LOST, "its machine i-1 is gone", "spot-a", "spot")]
    assert last_words(ended, 1) == ""
    assert last_words(ended, 2) == "Attempt 1 on spot-a (spot) ended with node_lost: its machine i-1 is gone"
    assert last_words(ended, 3).startswith("Attempt 2 ended without a word")


def test_attempts_are_kept_as_json_of_bounded_size() -> None:
    many = [Attempt(number, Cause.APP_ERROR, "x" * 10_000, "p" * 40, "on-demand", GIB) for number in range(200)]
    kept = json.loads(json.dumps(dump(many)))
    assert len(json.dumps(kept)) < 65_535
    assert [attempt.number for attempt in load(kept)] == list(range(200 - MOST_KEPT, 200))
    assert load(dump(history(Cause.NODE_LOST))) == history(Cause.NODE_LOST)


@pytest.mark.parametrize("kept", [None, "x", [1], [{"cause": "of a later version"}], [{}], [{"cause": "ok"}]])
def test_what_is_not_understood_is_left_out(kept: object) -> None:
    assert load(kept) == []
