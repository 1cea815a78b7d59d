"""Which pod a task's new attempt goes on with: one that an attempt before it left running, or none.

An attempt ends without cleaning up where its Airflow worker was killed. Its pod runs on, and the next attempt takes it
over instead of buying a second machine for the same work. A pod that is on its way out is waited for: two pods of one
task would write to the same place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from kubernetes.client import CoreV1Api, V1Pod
from kubernetes.client.exceptions import ApiException

from tidepool.capacity import LABEL_PREFIX
from tidepool.operators.pod_manager import GONE_STATUS, JobPodManager, outlast

log = logging.getLogger(__name__)

HOLDER = LABEL_PREFIX + "holder"
"""Annotation: the attempt that took the pod over from the one that made it."""

TERMINATION_GRACE_SECONDS = 60
"""How long after its own deadline a deleted pod is waited for. One that stays longer has lost its machine."""


def takeover(
    api: CoreV1Api, manager: JobPodManager, namespace: str, selector: str, give_up: Callable[[V1Pod], None]
) -> V1Pod | None:
    """The one pod among those that the selector finds which the new attempt goes on with; None if it needs its own.

    Also one that has succeeded meanwhile: its work is done and only its result was not recorded. Terminating pods are
    waited for. What failed, is stuck, or is a duplicate is handed to `give_up`, which marks and deletes it.
    """
    found = outlast(lambda: api.list_namespaced_pod(namespace, label_selector=selector)).items
    usable = []
    for pod in sorted(found, key=lambda pod: pod.metadata.creation_timestamp):
        if pod.metadata.deletion_timestamp is not None:
            if not _await_gone(manager, pod):
                give_up(pod)
        elif pod.status.phase == "Failed":
            give_up(pod)
        else:
            usable.append(pod)
    for duplicate in usable[:-1]:
        log.warning("Pod %s is of the same task as %s; giving it up", duplicate.metadata.name, usable[-1].metadata.name)
        give_up(duplicate)
    return usable[-1] if usable else None


def claim(api: CoreV1Api, pod: V1Pod, attempt: int) -> None:
    """Note on the pod that this attempt holds it now, so that an older one's late end leaves it alone."""
    body = {"metadata": {"annotations": {HOLDER: str(attempt)}}}
    outlast(lambda: api.patch_namespaced_pod(pod.metadata.name, pod.metadata.namespace, body))


def is_held_by_later_attempt(api: CoreV1Api, pod: V1Pod, attempt: int) -> bool:
    """Whether an attempt after this one has claimed the pod. Where that cannot be read, no: the pod costs money."""
    try:
        current = api.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace, _request_timeout=5)
    except Exception:  # noqa: BLE001 - called while the task is being killed: whatever it was must not keep the pod
        return False
    holder = (current.metadata.annotations or {}).get(HOLDER, "")
    return holder.isdecimal() and int(holder) > attempt


def _await_gone(manager: JobPodManager, pod: V1Pod) -> bool:
    """Wait until a deleted pod is gone; False if it outstays its own grace period by TERMINATION_GRACE_SECONDS."""
    name = pod.metadata.name
    log.info("Waiting for pod %s of an attempt before this one to end", name)
    # deletionTimestamp is in the future by the pod's grace period.
    deadline = pod.metadata.deletion_timestamp.timestamp() + TERMINATION_GRACE_SECONDS
    while datetime.now(UTC).timestamp() < deadline:
        try:
            if manager.read_pod(pod).metadata.uid != pod.metadata.uid:
                return True
        except ApiException as error:
            if error.status == GONE_STATUS:
                return True
            raise
        time.sleep(1)
    log.warning("Pod %s does not end; going on without it", name)
    return False
