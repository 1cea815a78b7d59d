"""What an operator's error says of its pod's end, with everything that can still be read of it."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from airflow.sdk.exceptions import AirflowTaskTimeout
from kubernetes.client import CoreV1Api, V1Pod
from kubernetes.client.exceptions import ApiException

from tidepool.objects import is_over
from tidepool.operators import evidence
from tidepool.operators.pod_manager import GONE_STATUS
from tidepool.outcome import STOPPING_SIGNALS, VERDICT, VERDICTS, Cause, JobFailed, Outcome, Seen, conclude

log = logging.getLogger(__name__)

STOPPED = "the task was stopped: it was cleared or marked"
WORKER_STOPPED = Outcome(Cause.EVICTED, "its Airflow worker was told to stop, and Airflow still wants the task")

_ANOTHER_COMES = {None, "scheduled", "queued", "restarting", "up_for_retry"}
"""A task's states between two attempts."""

VERDICT_SECONDS, VERDICT_INTERVAL = 60.0, 5.0
"""A container that got a signal on a machine that seems well: a machine that goes down is not ready within 40 s."""


def of_error(
    api: CoreV1Api,
    error: BaseException,
    seen: Seen,
    execution_timeout: timedelta | None,
    is_about_pod: bool = False,
    is_overtime: bool = False,
) -> Outcome | None:
    """How the pod ended, if that is what the error is about; None for errors that have nothing to do with it.

    seen: what is known without asking again. is_about_pod: it is known to be. is_overtime: so is that its time was up.
    """
    chain = list(_chain(error))
    overtime = any(isinstance(link, AirflowTaskTimeout) for link in chain)
    launch = any(isinstance(link, PodLaunchFailedException) for link in chain)
    clock = next((link for link in chain if isinstance(link, PodLaunchTimeoutException)), None)
    gone = any(isinstance(link, ApiException) and link.status == GONE_STATUS for link in chain)
    ended = seen.pod is not None and is_over(seen.pod)
    if not (overtime or launch or clock or gone or ended or is_about_pod):
        return None
    words = f"it ran longer than its execution_timeout of {execution_timeout}" if overtime or is_overtime else ""
    told = evidence.events(api, seen.pod) if seen.pod else ()
    found = _verdict(api, dataclasses.replace(seen, gone=seen.gone or gone, events=told, overtime=words))
    if clock is not None and found.cause is not Cause.OK:
        return Outcome(found.cause, f"{clock}; {found.message}")
    return found


def told(error: BaseException) -> JobFailed | None:
    """The end that was known before the stock operator, cleaning up after it, raised an error of its own."""
    return next((link for link in _chain(error) if isinstance(link, JobFailed)), None)


def write(api: CoreV1Api, pod: V1Pod, cause: Cause) -> None:
    """Write on a pod that its task is about to delete why it is: whoever watches pods sees the deletion only."""
    if cause not in VERDICTS:
        return
    body = {"metadata": {"uid": pod.metadata.uid, "annotations": {VERDICT: cause.value}}}
    try:
        api.patch_namespaced_pod(pod.metadata.name, pod.metadata.namespace, body, _request_timeout=(5, 10))
    except Exception as error:  # noqa: BLE001 - the pod costs money: whatever it was, it is deleted
        log.debug("pod %s is deleted without its cause: %s", pod.metadata.name, error)


def of_stop(context: Any) -> Outcome:
    """Why a task was told to stop: Airflow no longer wants it, or only its worker has to go."""
    try:
        if "running" in _states(context):
            return WORKER_STOPPED
    except Exception as error:  # noqa: BLE001 - without an answer it counts as what people do
        log.debug("the task's state cannot be read: %s", error)
    return Outcome(Cause.CANCELLED, STOPPED)


def is_given_up(context: Any) -> bool:
    """Whether nobody hears of this attempt's end any more: its worker was killed, or Airflow awaits another attempt."""
    try:
        return not _ANOTHER_COMES.isdisjoint(_states(context))
    except (OSError, EOFError):  # the worker that a task speaks through
        return True
    except Exception as error:  # noqa: BLE001 - without an answer it is as usual
        log.debug("the task's state cannot be read: %s", error)
        return False


def _states(context: Any) -> set[str | None]:
    ti = context["ti"]
    states = ti.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[context["run_id"]], map_index=ti.map_index
    )
    return {state for run in states.values() for state in run.values()}


def _verdict(api: CoreV1Api, seen: Seen) -> Outcome:
    """The outcome with what is known of the machine; one that got a signal is looked at until its machine shows."""
    deadline = time.time() + VERDICT_SECONDS
    while True:
        node, gone = evidence.machine(api, seen.pod or {})
        found = conclude(dataclasses.replace(seen, node=node, node_gone=gone))
        signalled = any(f"exit code {code}" in found.message for code in STOPPING_SIGNALS)
        if node is None or found.cause is not Cause.APP_ERROR or not signalled or time.time() >= deadline:
            return found
        time.sleep(VERDICT_INTERVAL)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from or during."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
