"""A pod manager whose pod is made by the spark-operator: it asks for an application and waits for the driver's pod."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.client import CustomObjectsApi, V1ObjectMeta, V1Pod
from kubernetes.client.exceptions import ApiException

from tidepool import spark_application
from tidepool.labels import OWNER_DAG, OWNER_RUN, OWNER_TASK
from tidepool.objects import Object
from tidepool.operators.pod_manager import CONFLICT_STATUS, GONE_STATUS, OVER_QUOTA, JobPodManager, outlast
from tidepool.outcome import Cause, JobFailed, Outcome

LOOK_SECONDS = 2.0

DRIVER_SECONDS = 120.0
"""So long an application that an earlier attempt made may take to get its driver's pod before it is removed."""

TASK_LABELS = ("dag_id", "task_id", "run_id", "map_index")
"""The provider's labels that together name one task of a run."""


@dataclass(frozen=True)
class Applications:
    """How a pod that is asked for becomes an application. make: its manifest. seconds: to wait for the driver's pod."""

    api: CustomObjectsApi
    make: Callable[[V1Pod], Object]
    seconds: float


class ApplicationPodManager(JobPodManager):
    """Application and driver's pod have one name: whoever knows the pod can remove both."""

    applications: Applications

    def run_pod_async(self, pod: V1Pod, **_: Any) -> V1Pod:
        """Make the application and wait for its driver's pod, or for that of one which was made before."""
        name = pod.metadata.name
        give_up = time.time() + self.applications.seconds
        outlast(lambda: self._create(pod))
        while True:
            driver = self._driver(pod)
            if driver is not None:
                return driver
            application = self._read(pod)
            if application is None:
                raise JobFailed(
                    name, Outcome(Cause.CANCELLED, "its SparkApplication was deleted before it had a driver")
                )
            state, message = spark_application.state(application)
            if state in spark_application.FAILED_STATES:
                self.delete_pod(pod)
                if OVER_QUOTA in message:
                    refused = ApiException(status=403, reason="Forbidden")
                    refused.body = message
                    raise refused  # as where the job's pod itself is refused: the task waits for its team's other jobs
                end = Outcome(Cause.UNKNOWN, f"the spark-operator could not start its driver: {message}")
                raise JobFailed(name, end)
            if time.time() >= give_up:
                self.delete_pod(pod)
                words = f"no driver's pod after {self.applications.seconds:.0f} s, state {state or 'none'!r}"
                hint = "" if state else "; does the spark-operator run (tidepool:spark_operator in stacks/)?"
                raise JobFailed(name, Outcome(Cause.UNSCHEDULABLE, words + hint))
            time.sleep(LOOK_SECONDS)

    def of_task(self, pod: V1Pod) -> list[V1Pod]:
        """The driver's pods, there or yet to come, of the applications that other attempts of the pod's task made.

        With name and namespace only.
        """
        mine = pod.metadata
        selector = ",".join(f"{key}={mine.labels[key]}" for key in (OWNER_DAG, OWNER_TASK, OWNER_RUN))
        resource = (spark_application.GROUP, spark_application.VERSION, mine.namespace, spark_application.PLURAL)
        api = self.applications.api
        found = outlast(lambda: api.list_namespaced_custom_object(*resource, label_selector=selector))["items"]
        made = [each for each in found if _task(spark_application.driver_labels(each)) == _task(mine.labels)]
        names = [each["metadata"]["name"] for each in made]
        return [
            V1Pod(metadata=V1ObjectMeta(name=name, namespace=mine.namespace)) for name in names if name != mine.name
        ]

    def settle(self, pod: V1Pod, check: Callable[[], None]) -> None:
        """Wait until an application has its driver's pod, or is gone. One that gets none is deleted: the spark-operator
        might start it beside another. check: called before each look, to raise where the task was stopped.
        """
        give_up = time.time() + DRIVER_SECONDS
        while time.time() < give_up + DRIVER_SECONDS:
            check()
            application, driver = self._read(pod), self._driver(pod)
            if application is None and driver is None:
                return
            if application is None or not application["metadata"].get("deletionTimestamp"):
                if driver is not None:
                    return
                state, _ = spark_application.state(application or {})
                if state in spark_application.FAILED_STATES or time.time() >= give_up:
                    self.delete_pod(pod)
            time.sleep(LOOK_SECONDS)

    def _delete_now(self, pod: V1Pod) -> None:
        """Delete the application, and with it the driver's pod; what is gone already is no error."""
        self._delete(pod)
        super()._delete_now(pod)

    def delete_unchanged(self, pod: V1Pod) -> bool:
        """Delete the driver's pod if it still is what was read, and its application then."""
        if not super().delete_unchanged(pod):
            return False
        outlast(lambda: self._delete(pod))
        return True

    def _create(self, pod: V1Pod) -> None:
        """Make the application; one of a pod before this one is waited for until it is gone."""
        body = self.applications.make(pod)
        while True:
            try:
                self._call("create_namespaced_custom_object", pod, body)
                return
            except ApiException as error:
                if error.status != CONFLICT_STATUS:
                    raise
            found = self._read(pod)
            if found is not None and not found["metadata"].get("deletionTimestamp"):
                return
            time.sleep(LOOK_SECONDS)

    def _read(self, pod: V1Pod) -> Object | None:
        try:
            found: Object = outlast(lambda: self._call("get_namespaced_custom_object", pod, pod.metadata.name))
        except ApiException as error:
            if error.status == GONE_STATUS:
                return None
            raise
        return found

    def _driver(self, pod: V1Pod) -> V1Pod | None:
        try:
            return self.read_pod(pod)
        except ApiException as error:
            if error.status == GONE_STATUS:
                return None
            raise

    def _delete(self, pod: V1Pod) -> None:
        try:
            self._call("delete_namespaced_custom_object", pod, pod.metadata.name)
        except ApiException as error:
            if error.status != GONE_STATUS:
                raise

    def _call(self, method: str, pod: V1Pod, last: Any) -> Any:
        resource = (spark_application.GROUP, spark_application.VERSION, pod.metadata.namespace)
        return getattr(self.applications.api, method)(*resource, spark_application.PLURAL, last)


def _task(labels: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(labels.get(key) for key in TASK_LABELS)
