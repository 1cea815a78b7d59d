"""Where a job waits for its budgets, or fails by them, before its pod is made."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tidepool import budget
from tidepool import capacity as capacity_document
from tidepool.budget import Reservation, Spending, Verdict, Word
from tidepool.capacity import SPENDING_CONFIG_MAP, Budget
from tidepool.history import quantile
from tidepool.ladder import Rung
from tidepool.operators.config_map import MissingError, SharedMap

if TYPE_CHECKING:
    from tidepool.operators.job_pod import JobPodOperator

log = logging.getLogger(__name__)

WAIT_SECONDS = 15.0
"""How soon it is looked again: the keeper publishes as often."""

UNKNOWN_SECONDS = 300.0
"""So long a job waits for figures that are missing before it fails: a keeper that starts again needs less."""

EXPECTED_SECONDS = 3600.0
"""What a job is taken to run for that never ran and has no shorter limit."""


class OverBudgetError(Exception):
    """A hard budget keeps the job from starting; the message has its figures."""


class BudgetGate:
    """The budgets of one job. budgets: those that it counts towards."""

    def __init__(self, api: CoreV1Api, namespace: str, budgets: Mapping[str, Budget], logger: Any = log) -> None:
        self._map = SharedMap(api, namespace, SPENDING_CONFIG_MAP)
        self._budgets = budgets
        self._log = logger
        self._told: set[str] = set()

    def admit(self, pod: str, expected: Callable[[], Reservation], check: Callable[[], None]) -> None:
        """Set aside what the job is expected to cost, once its budgets allow it. Raises OverBudgetError.

        check: called before each look, to raise where the task was stopped.
        """
        if not self._budgets:
            return
        asked, began = expected(), time.time()
        while True:
            check()
            found = self._look(pod, asked)
            for warning in found.warnings:
                self._say(warning)
            if found.word is Word.GO:
                return
            if found.word is Word.FAIL or (found.word is Word.UNKNOWN and time.time() - began >= UNKNOWN_SECONDS):
                raise OverBudgetError(found.why)
            self._say(f"Waiting for its budget: {found.why}")
            time.sleep(WAIT_SECONDS)

    def release(self, pod: str) -> None:
        """The pod has ended: no more is set aside for it than it cost. Where that fails, time does it."""
        if not self._budgets:
            return
        try:
            self._map.change(lambda data: budget.release(data, pod, time.time()))
        except Exception as error:  # noqa: BLE001 - it must not fail a job that has ended
            log.debug("nothing was given back of what was set aside for pod %s: %s", pod, error)

    def _look(self, pod: str, asked: Reservation) -> Verdict:
        """The verdict, with what is asked for set aside where it is a good one."""
        found = Verdict(Word.GO)

        def decide(data: dict[str, str]) -> Mapping[str, str] | None:
            nonlocal found
            others = budget.without(data, pod)  # of a pod of this attempt that got no machine
            found = budget.verdict(self._budgets, budget.load(others), asked, time.time())
            return budget.reserve(data, pod, asked, time.time()) if found.word is Word.GO else None

        try:
            self._map.change(decide)
        except (MissingError, ApiException, HTTPError, OSError) as error:
            log.warning("what was spent cannot be read: %s", error)
            found = budget.verdict(self._budgets, Spending(0.0, {}, {}), asked, time.time())
        return found

    def _say(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            self._log.warning(words)


def of(operator: JobPodOperator, dag: str = "") -> dict[str, Budget]:
    """The budgets that the operator's job counts towards. dag: else the operator's own."""
    return budget.of_job(capacity_document.load().budgets, operator.team, dag or operator.dag_id)


def gate(operator: JobPodOperator, context: Any) -> BudgetGate:
    """The gate of the operator's job."""
    found = of(operator, context["ti"].dag_id)
    return BudgetGate(operator.client, operator.asked[2].tenant.namespace, found, operator.log)


def expected(operator: JobPodOperator, context: Any, rung: Rung | None) -> Reservation:
    """What the attempt is expected to cost: the dearest pool of its rung, for as long as nine of ten past runs took.

    Without a past run for its execution_timeout, EXPECTED_SECONDS at most.
    """
    from tidepool.operators.deadline_alert import past_runtimes  # which few DAG files need

    ti, limit = context["ti"], operator.execution_timeout
    try:
        past = past_runtimes(ti)
    except Exception as error:  # noqa: BLE001 - without an answer it is as if it had never run
        log.warning("past runs of task %s cannot be read: %s", ti.task_id, error)
        past = ()
    seconds = quantile(past, 0.9) if past else EXPECTED_SECONDS
    seconds = min(seconds, limit.total_seconds()) if limit else seconds
    main = dataclasses.replace(operator.placement, pools=rung.pools) if rung is not None else operator.placement
    usd = budget.usd_per_hour([(main, 1), *operator.sizes[1:]])
    return Reservation(ti.dag_id, usd * seconds / 3600, time.time(), seconds)
