"""Keeps a job's main pod in members: makes them, and replaces those that were lost, until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from kubernetes.client import ApiClient, CoreV1Api, V1Pod
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tidepool import cluster
from tidepool.capacity import LABEL_PREFIX
from tidepool.objects import FINAL_PHASES, Object
from tidepool.operators.pod_manager import CONFLICT_STATUS
from tidepool.outcome import Cause, outcome
from tidepool.pod import CONTAINER

log = logging.getLogger(__name__)

MAIN_LABEL = LABEL_PREFIX + "main"
"""Of a member: the uid of its main pod."""

LOOK_SECONDS = 5.0
LAST_LINES = 30
"""How much of the log of a member that failed goes into the task's: it is kept nowhere else."""

REPLACEMENTS_PER_MEMBER = 10
"""A job that loses more than this has another trouble than spot machines."""

_REQUEST_SECONDS = (5, 30)


class Members(threading.Thread):
    """Looks every few seconds how many members of `main` are alive, and makes what is missing of `count`.

    The log says why one failed, with its last words. starved: the last one that ran out of memory.

    make: the manifest of a member, from the main pod as JSON and the member's name. Members are numbered; a number is
    used once, so that one which was made and not answered for is not made twice.
    """

    def __init__(self, api: CoreV1Api, main: V1Pod, count: int, make: Callable[[Object, str], Object]) -> None:
        super().__init__(name=f"members of {main.metadata.name}", daemon=True)
        self._api = api
        self._main: Object = ApiClient().sanitize_for_serialization(main)
        self._namespace = main.metadata.namespace
        self._name = main.metadata.name
        self._uid = main.metadata.uid
        self._count = count
        self._make = make
        self._stopped = threading.Event()
        self._next = 0
        self._said = ""
        self.starved = ""
        self._told: set[str] = set()

    def run(self) -> None:
        """Look and make until stopped. What fails is said once and tried again."""
        while not self._stopped.is_set():
            try:
                self.step()
                self._said = ""
            except (ApiException, HTTPError) as error:
                words = getattr(error, "body", None) or str(error)
                if words != self._said:
                    log.warning("Pods of job %s could not be made, trying again: %s", self._name, words)
                self._said = words
            self._stopped.wait(LOOK_SECONDS)

    def stop(self) -> None:
        """Make no more."""
        self._stopped.set()

    def step(self) -> None:
        """One look, and what is missing."""
        selector = f"{MAIN_LABEL}={self._uid}"
        answer = self._api.list_namespaced_pod(
            self._namespace, label_selector=selector, _request_timeout=_REQUEST_SECONDS
        )
        numbers = [int(pod.metadata.name.rpartition("-")[2]) for pod in answer.items]
        self._next = max([self._next, *(number + 1 for number in numbers)])
        for pod in answer.items:
            if pod.status.phase == "Failed" and pod.metadata.name not in self._told:
                self._told.add(pod.metadata.name)
                self._tell(pod)
        alive = [pod for pod in answer.items if pod.status.phase not in FINAL_PHASES]
        alive = [pod for pod in alive if pod.metadata.deletion_timestamp is None]
        for _ in range(self._count - len(alive)):
            if self._next >= self._count * (1 + REPLACEMENTS_PER_MEMBER):
                log.error("Job %s has lost %d of its pods; replacing no more", self._name, self._next - len(alive))
                self.stop()
            if self._stopped.is_set():
                return
            self._create(f"{self._name}-{self._next}")

    def _tell(self, pod: V1Pod) -> None:
        """Why a member failed, and the end of its log."""
        name, end = pod.metadata.name, outcome(ApiClient().sanitize_for_serialization(pod))
        if end.cause is Cause.OUT_OF_MEMORY:
            self.starved = name
        log.warning("Pod %s of the job ended with %s: %s", name, end.cause, end.message)
        try:
            text = self._api.read_namespaced_pod_log(
                name, self._namespace, container=CONTAINER, tail_lines=LAST_LINES, _request_timeout=_REQUEST_SECONDS
            )
        except (ApiException, HTTPError) as error:
            log.info("The log of pod %s cannot be read: %s", name, getattr(error, "reason", None) or error)
            return
        for line in str(text).splitlines():
            log.info("%s: %s", name, line)

    def _create(self, name: str) -> None:
        member = cluster.owned_by(self._make(self._main, name), self._name, self._uid)
        member["metadata"]["labels"][MAIN_LABEL] = self._uid
        try:
            self._api.create_namespaced_pod(self._namespace, member, _request_timeout=_REQUEST_SECONDS)
        except ApiException as error:
            if error.status != CONFLICT_STATUS:
                raise
        if self._next >= self._count:
            log.info("Pod %s takes the place of one that was lost", name)
        self._next += 1
