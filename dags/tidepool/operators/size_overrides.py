"""The sizes that a team's jobs have instead of what their authors asked for. Nothing here ever fails a job."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from kubernetes.client import CoreV1Api

from tidepool import capacity as capacity_document
from tidepool import ladder, overrides
from tidepool.capacity import OVERRIDES_CONFIG_MAP, Capacity
from tidepool.job import JobError, human
from tidepool.operators.config_map import MissingError, SharedMap
from tidepool.overrides import Override
from tidepool.sizing import place

if TYPE_CHECKING:
    from tidepool.operators.job_pod import JobPodOperator

log = logging.getLogger(__name__)


class SizeOverrides:
    """The overrides of one namespace: a key for each task, as JSON."""

    def __init__(self, api: CoreV1Api, namespace: str) -> None:
        self._map = SharedMap(api, namespace, OVERRIDES_CONFIG_MAP)

    def of(self, dag: str, task: str) -> Override | None:
        """The task's, if it has one and it can be read; also one that was rolled back."""
        try:
            found = overrides.load(self._map.read().get(overrides.key(dag, task), ""))
        except Exception as error:  # noqa: BLE001 - whatever it was, the job has the size that its author asked for
            self._give_up(error)
            return None
        return found if found is not None and (found.dag, found.task) == (dag, task) else None

    def roll_back(self, dag: str, task: str, why: str) -> bool:
        """Have the task run as its author asked, from now on; true where an override held until now."""
        found = self.of(dag, task)
        if found is None or found.rolled_back:
            return False
        name, text = overrides.key(dag, task), overrides.dump(dataclasses.replace(found, rolled_back=why))
        try:
            self._map.change(lambda data: {**data, name: text} if name in data else None)
        except Exception as error:  # noqa: BLE001
            self._give_up(error)
            return False
        return True

    def _give_up(self, error: Exception) -> None:
        (log.debug if isinstance(error, MissingError) else log.warning)("overrides cannot be read: %s", error)


def take(operator: JobPodOperator, context: Any) -> None:
    """Give the operator its task's override, if it has one that holds; else what its author asked for."""
    job, market, usual = operator.asked
    if operator.override is not None:
        operator.override, operator.job, operator.market = None, job, market
        operator.resize(usual, context)
    found = SizeOverrides(operator.client, usual.tenant.namespace).of(context["ti"].dag_id, context["ti"].task_id)
    if found is None:
        return
    if why := overridden(operator, found, context):
        operator.log.info("Its size is its author's, and not %s by override: %s", found.words, why)


def overridden(operator: JobPodOperator, found: Override, context: Any) -> str:
    """Give the operator the override; why not, where it can't have it."""
    job, market, usual = operator.asked
    if why := planned(operator, found):
        return why
    try:
        operator.resize(operator.placement, context)
    except JobError as error:
        operator.job, operator.market, operator.override = job, market, None
        operator.resize(usual, context)
        return str(error)
    return ""


def planned(operator: JobPodOperator, found: Override) -> str:
    """Give the operator the override's size without its command; why not, where it can't have it."""
    job, market, usual = operator.asked
    if why := overrides.holds(found, usual):
        return why
    changed, chosen = overrides.overridden(job, found), found.market or market
    try:
        capacity = overrides.only(ladder.offered(capacity_document.load(), chosen, operator.task_id), found)
        placement = place(changed, capacity)
    except JobError as error:
        return str(error)
    operator.job, operator.market, operator.placement, operator.override = changed, chosen, placement, found
    return ""


def offered(operator: JobPodOperator) -> Capacity:
    """The capacity document with the pools that the job may use, by its author or its override."""
    capacity = ladder.offered(capacity_document.load(), operator.market, operator.task_id)
    return overrides.only(capacity, operator.override) if operator.override is not None else capacity


def roll_back(operator: JobPodOperator, context: Any, memory_bytes: int) -> None:
    """The job ran out of memory: from its next attempt on it has its author's size, or what that has grown to."""
    ti = context["ti"]
    why = f"attempt {ti.try_number} of run {context['run_id']} ran out of {human(memory_bytes)}"
    kept = SizeOverrides(operator.client, operator.asked[2].tenant.namespace)
    if kept.roll_back(ti.dag_id, ti.task_id, why):
        operator.log.warning("Its override is rolled back: %s", why)
    operator.job, operator.market, _ = operator.asked
    operator.override = None
