"""Airflow's retry policy by the cause of each end; the attempts so far are kept in Airflow's task state store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy

from tidepool.operators.pod_manager import is_transient
from tidepool.outcome import Cause, JobFailed
from tidepool.retries import MEMORY_RETRIES, PLATFORM_RETRIES, Attempt, Limits, decide, dump, load, since_cleared

log = logging.getLogger(__name__)

STORE_KEY = "tidepool_attempts"


@dataclass(frozen=True)
class CauseRetryPolicy(RetryPolicy):
    """Another attempt as `retries.decide` says. The task's `retries` must be `limits.total`.

    author: further attempts after failures of the program. platform: after what the job could not help. memory: with
    more memory, after want of it.
    """

    author: int
    platform: int = PLATFORM_RETRIES
    memory: int = MEMORY_RETRIES

    @property
    def limits(self) -> Limits:
        """The three allowances."""
        return Limits(self.author, self.platform, self.memory)

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Mapping[str, Any] | None = None
    ) -> RetryDecision:
        """Airflow's question after an attempt that raised. It is not asked for AirflowFailException, nor for workers
        that died.
        """
        ended = attempt(exception, try_number)
        kept = remembered(context)
        if kept is None:
            # Without a memory, as if it had always been like this: never more attempts than the allowance.
            kept = [attempt(exception, number) for number in range(1, try_number)]
        attempts = [*(each for each in kept if each.number < try_number), ended]
        remember(context, attempts)
        counted, lost = since_cleared(attempts, try_number, max_tries, self.limits.total)
        decision = decide(counted, self.limits, lost, getattr(exception, "largest_bytes", 0))
        log.info("Attempt %d ended with %s: %s", try_number, ended.cause, ended.message)
        log.info("There is %s attempt: %s", "another" if decision.retry else "no further", decision.reason)
        if not decision.retry:
            return RetryDecision.fail(decision.reason)
        delay = None if decision.delay_seconds is None else timedelta(seconds=decision.delay_seconds)
        return RetryDecision.retry(delay, decision.reason)

    def serialize(self) -> dict[str, Any]:
        """As JSON, by Airflow's convention."""
        return {"__type": type(self).__name__, "author": self.author, "platform": self.platform, "memory": self.memory}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> CauseRetryPolicy:
        """What `serialize` wrote."""
        return cls(author=data["author"], platform=data["platform"], memory=data["memory"])


def attempt(exception: BaseException, number: int) -> Attempt:
    """The attempt that ended with the exception. One that is not about its pod counts like a failure of the program,
    save where the API server did not answer.
    """
    if not isinstance(exception, JobFailed):
        cause = Cause.UNKNOWN if is_transient(exception) else Cause.APP_ERROR
        return Attempt(number, cause, f"{type(exception).__name__}: {exception}")
    where = exception.pool, exception.market, exception.memory_bytes, exception.seconds, exception.of_members
    return Attempt(number, exception.cause, exception.message, *where)


def remembered(context: Mapping[str, Any] | None) -> list[Attempt] | None:
    """The attempts so far; None where they can't be read."""
    store = (context or {}).get("task_state_store")
    try:
        return None if store is None else load(store.get(STORE_KEY))
    except Exception as error:  # noqa: BLE001 - Airflow would fall back to its own count, which is far too high
        log.warning("the attempts so far cannot be read: %s", error)
        return None


def remember(context: Mapping[str, Any] | None, attempts: list[Attempt]) -> None:
    """Keep them for the next attempt."""
    store = (context or {}).get("task_state_store")
    try:
        if store is not None:
            store.set(STORE_KEY, dump(attempts))
    except Exception as error:  # noqa: BLE001
        log.warning("the attempts so far cannot be kept: %s", error)
