"""What follows an attempt: another one, when, and what is different then; or the end, and why. By cause, pure.

Each kind of cause has an allowance of its own: a reclaimed machine does not use up what the author granted a flaky
program, and a flaky program does not run as often as machines may be reclaimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidepool.job import human
from tidepool.outcome import Cause

PLATFORM = (Cause.SPOT_RECLAIM, Cause.NODE_LOST, Cause.EVICTED, Cause.UNKNOWN)
"""Nothing that the job did, as far as anybody knows."""

FINAL = {
    Cause.CANCELLED: "somebody stopped it",
    Cause.IMAGE_PULL: "the image does not come by pulling it again: check its name and the machines' right to pull it",
    Cause.UNSCHEDULABLE: "every pool that it may run on was asked, for as long as it may wait",
}
"""Causes after which another attempt would end alike, and why."""

PLATFORM_RETRIES = 10
MEMORY_RETRIES = 2
MEMORY_GROWTH = 1.5

FIRST_PLATFORM_DELAY_SECONDS = 5.0
LONGEST_PLATFORM_DELAY_SECONDS = 60.0

LONGEST_MESSAGE = 300
MOST_KEPT = 60
"""So many attempts fit in what Airflow keeps for a task (65,535 bytes)."""


@dataclass(frozen=True)
class Limits:
    """How many more attempts there may be after the first, by what ended the one before.

    author: what the author granted (`retries`). platform: for what the job could not help. memory: for want of it.
    """

    author: int
    platform: int = PLATFORM_RETRIES
    memory: int = MEMORY_RETRIES

    @property
    def total(self) -> int:
        """What Airflow has to allow for all of them together."""
        return self.author + self.platform + self.memory


@dataclass(frozen=True)
class Attempt:
    """One attempt that has ended. number: Airflow's try number. pool, market: where it was; memory_bytes: its limit.

    seconds: for which its program ran, as far as is known. of_members: cause and memory are of the job's other pods.
    """

    number: int
    cause: Cause
    message: str = ""
    pool: str = ""
    market: str = ""
    memory_bytes: int = 0
    seconds: float = 0.0
    of_members: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether there is another attempt. delay_seconds: before it; None: the author's. reason: for people, one line."""

    retry: bool
    reason: str
    delay_seconds: float | None = None


def decide(attempts: Sequence[Attempt], limits: Limits, lost: int = 0, largest_bytes: int = 0) -> Decision:
    """What follows the last of the attempts, oldest first.

    lost: further attempts of which nothing is known but that they ended: their Airflow worker died.
    largest_bytes: the most memory that any pool which the job may use gives it.
    """
    last = attempts[-1]
    if last.cause is Cause.OK:
        return Decision(False, "it has succeeded")
    if last.cause in FINAL:
        return Decision(False, f"{last.cause} is not retried: {FINAL[last.cause]}")
    if last.cause in PLATFORM:
        used = lost + sum(attempt.cause in PLATFORM for attempt in attempts)
        told = f"{last.cause}: not the job's doing, {used} of {limits.platform} such retries"
        if used > limits.platform:
            return Decision(
                False, f"{last.cause}: all {limits.platform} retries for what is not the job's doing are used"
            )
        delay = min(LONGEST_PLATFORM_DELAY_SECONDS, FIRST_PLATFORM_DELAY_SECONDS * 2 ** (used - 1))
        return Decision(True, told, delay)
    if last.cause is Cause.OUT_OF_MEMORY:
        return _memory(attempts, limits, largest_bytes)
    used = sum(attempt.cause not in (*PLATFORM, Cause.OUT_OF_MEMORY) for attempt in attempts)
    if used > limits.author:
        return Decision(False, f"{last.cause}: all {limits.author} retries that its author granted are used")
    return Decision(True, f"{last.cause}: {used} of the {limits.author} retries that its author granted")


def _memory(attempts: Sequence[Attempt], limits: Limits, largest_bytes: int) -> Decision:
    last = attempts[-1]
    used = sum(attempt.cause is Cause.OUT_OF_MEMORY for attempt in attempts)
    if used > limits.memory:
        return Decision(False, f"out_of_memory: all {limits.memory} retries with more memory are used; ask for more")
    wanted = grown(last.memory_bytes, 1)
    if last.memory_bytes and largest_bytes <= last.memory_bytes:
        return Decision(
            False,
            f"out_of_memory with {human(last.memory_bytes)}: no pool that it may run on has more for a job",
        )
    get = min(wanted, largest_bytes) if largest_bytes else wanted
    return Decision(True, f"out_of_memory: {used} of {limits.memory} such retries, with {human(get)} of memory", 0.0)


def memory(asked_bytes: int, attempts: Sequence[Attempt], largest_bytes: int) -> int:
    """What the next attempt should have: half as much again as any that ran out of it; at most the largest there is."""
    short = max((attempt.memory_bytes for attempt in attempts if attempt.cause is Cause.OUT_OF_MEMORY), default=0)
    return max(asked_bytes, min(grown(short, 1), largest_bytes)) if short else asked_bytes


def of(attempts: Sequence[Attempt], members: bool) -> list[Attempt]:
    """Those whose want of memory was the main pod's, or that of the job's other pods."""
    return [attempt for attempt in attempts if attempt.of_members == members]


def grown(memory_bytes: int, times: int) -> int:
    """The memory after so many attempts that ran out of it, in whole MiB."""
    return int(memory_bytes * MEMORY_GROWTH**times) // 1024**2 * 1024**2


def last_words(attempts: Sequence[Attempt], number: int) -> str:
    """Why the attempt before this one ended, for the log; empty for the first."""
    before = [attempt for attempt in attempts if attempt.number < number]
    if number <= 1:
        return ""
    if not before or before[-1].number < number - 1:
        return f"Attempt {number - 1} ended without a word: its Airflow worker died or was stopped."
    last = before[-1]
    where = f" on {last.pool} ({last.market})" if last.pool else ""
    return f"Attempt {last.number}{where} ended with {last.cause}: {last.message.partition(chr(10))[0]}"


def dump(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """The attempts as JSON, the latest that fit in what Airflow keeps for a task."""
    return [
        {**asdict(attempt), "cause": attempt.cause.value, "message": attempt.message[:LONGEST_MESSAGE]}
        for attempt in attempts[-MOST_KEPT:]
    ]


def load(kept: Any) -> list[Attempt]:
    """The attempts of JSON that `dump` made; what is none is left out, as by a version that knew other causes."""
    found = []
    for item in kept if isinstance(kept, list) else []:
        if isinstance(item, Mapping) and item.get("cause") in set(Cause) and isinstance(item.get("number"), int):
            known = {key: item[key] for key in Attempt.__dataclass_fields__ if key in item}
            found.append(Attempt(**{**known, "cause": Cause(item["cause"])}))
    return found


def since_cleared(attempts: Sequence[Attempt], number: int, most: int, total: int) -> tuple[list[Attempt], int]:
    """The attempts that count, and how many of them nobody recorded.

    number: the attempt that has just ended. most: the last that Airflow allows. A task that is cleared starts anew, and
    Airflow then allows `total` more than it had by then. The last attempt counts always: what Airflow allows is older
    than the DAG file where that has changed meanwhile.
    """
    first = first_since_cleared(number, most, total)
    counted = [attempt for attempt in attempts if attempt.number >= first]
    return counted, max(0, number - first + 1 - len({attempt.number for attempt in counted}))


def first_since_cleared(number: int, most: Any, total: int) -> int:
    """The attempt with which the task began, or began anew; see `since_cleared`. most: what is no number is unknown."""
    return max(1, min(number, most - total + 1)) if isinstance(most, int) and most else 1
