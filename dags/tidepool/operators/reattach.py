"""One live pod for each task: what an attempt goes on with, and how its own pod is made only once.

An attempt ends without cleaning up where its Airflow worker was killed. Its pod runs on, and the next attempt takes it
over instead of buying a second machine for the same work. A pod that is on its way out is waited for: two pods of one
task would write to the same place.

An attempt's own pod has a name that follows from whose it is, so that the API server refuses a second one: where the
answer to its creation was lost, or its worker died right after, it is found under that name.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from kubernetes.client import CoreV1Api, V1Pod
from kubernetes.client.exceptions import ApiException

from tidepool.labels import HOLDER
from tidepool.operators.pod_manager import CONFLICT_STATUS, GONE_STATUS, JobPodManager, outlast

log = logging.getLogger(__name__)

LONGEST_BASE = 40
CHECKED = "already_checked"
"""The provider's label on pods whose end was dealt with."""

OWNER_LABELS = ("dag_id", "task_id", "run_id", "map_index", "try_number")
"""The provider's labels that together name one attempt."""

TERMINATION_GRACE_SECONDS = 60
"""How long after its own deadline a deleted pod is waited for. One that stays longer has lost its machine."""


class NotOursError(Exception):
    """A pod of the name that an attempt's pod must have is somebody else's; the message names it."""


def pod_name(base: str, dag: str, task: str, run: str, map_index: int, attempt: int) -> str:
    """The name of an attempt's pod: readable, and the same whenever it is asked for."""
    digest = hashlib.sha256("\0".join((dag, task, run, str(map_index), str(attempt))).encode()).hexdigest()[:10]
    kept = re.sub(r"[^a-z0-9]+", "-", base.lower())[:LONGEST_BASE].strip("-")
    return f"{kept}-{digest}" if kept else f"job-{digest}"


def create(manager: JobPodManager, pod: V1Pod) -> V1Pod:
    """Create the attempt's pod, or find it where it was created before and nobody heard of it.

    One that is on its way out is waited for, one that has ended and was dealt with makes room. Raises NotOursError.
    """
    while True:
        try:
            return outlast(lambda: manager.run_pod_async(pod))
        except ApiException as error:
            if error.status != CONFLICT_STATUS:
                raise
        try:
            found = manager.read_pod(pod)
        except ApiException as error:
            if error.status == GONE_STATUS:
                continue
            raise
        if not _is_ours(found, pod):
            owner = {key: (found.metadata.labels or {}).get(key) for key in OWNER_LABELS}
            raise NotOursError(f"pod {found.metadata.name} is there already and not this attempt's; it is of {owner}")
        if found.metadata.deletion_timestamp is None and (found.metadata.labels or {}).get(CHECKED) != "True":
            log.info("Pod %s of this attempt is there already", found.metadata.name)
            return found
        if found.metadata.deletion_timestamp is None:
            manager.delete_pod(found)
        if not await_gone(manager, found):
            raise NotOursError(f"pod {found.metadata.name} of an earlier run of this attempt does not go away")


def _is_ours(found: V1Pod, wanted: V1Pod) -> bool:
    there, ours = found.metadata.labels or {}, wanted.metadata.labels or {}
    return all(there.get(key) == ours.get(key) for key in OWNER_LABELS)


def takeover(
    api: CoreV1Api,
    manager: JobPodManager,
    namespace: str,
    selector: str,
    give_up: Callable[[V1Pod], None],
    is_to_be_told: Callable[[V1Pod], bool] = lambda pod: False,
) -> V1Pod | None:
    """The one pod among those that the selector finds which the new attempt goes on with; None if it needs its own.

    Also one that has succeeded meanwhile: its work is done and only its result was not recorded. And one that has
    failed where nobody was there to say so (`is_to_be_told`): the new attempt does, and what follows is decided as it
    would have been. Terminating pods are waited for. What failed otherwise, is stuck, is a duplicate, or should have
    been deleted by an attempt that died before, is handed to `give_up`, which marks and deletes it.
    """
    found = outlast(lambda: api.list_namespaced_pod(namespace, label_selector=selector)).items
    usable = []
    for pod in sorted(found, key=lambda pod: pod.metadata.creation_timestamp):
        is_checked = (pod.metadata.labels or {}).get(CHECKED) == "True"
        if pod.metadata.deletion_timestamp is not None:
            if not is_checked and not await_gone(manager, pod):
                give_up(pod)
        elif is_checked or (pod.status.phase == "Failed" and not is_to_be_told(pod)):
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


def await_gone(manager: JobPodManager, pod: V1Pod) -> bool:
    """Wait until a deleted pod is gone; False if it outstays its own grace period by TERMINATION_GRACE_SECONDS."""
    name = pod.metadata.name
    log.info("Waiting for pod %s to be gone", name)
    # deletionTimestamp is in the future by the pod's grace period.
    deadline = (pod.metadata.deletion_timestamp or datetime.now(UTC)).timestamp() + TERMINATION_GRACE_SECONDS
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
