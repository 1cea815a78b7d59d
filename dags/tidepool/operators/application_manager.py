"""A pod manager whose pod is made by the spark-operator: it asks for an application and waits for the driver's pod."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubernetes.client import CustomObjectsApi, V1Pod
from kubernetes.client.exceptions import ApiException

from tidepool import spark_application
from tidepool.operators.pod_manager import CONFLICT_STATUS, GONE_STATUS, JobPodManager, outlast
from tidepool.outcome import Cause, JobFailed, Outcome

Object = dict[str, Any]
LOOK_SECONDS = 2.0


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
            try:
                return self.read_pod(pod)
            except ApiException as error:
                if error.status != GONE_STATUS:
                    raise
            application = self._read(pod)
            if application is None:
                raise JobFailed(
                    name, Outcome(Cause.CANCELLED, "its SparkApplication was deleted before it had a driver")
                )
            state, message = spark_application.state(application)
            if state in spark_application.FAILED_STATES:
                self.delete_pod(pod)
                cause = Cause.UNSCHEDULABLE if "exceeded quota" in message else Cause.UNKNOWN
                raise JobFailed(name, Outcome(cause, f"the spark-operator could not start its driver: {message}"))
            if time.time() >= give_up:
                self.delete_pod(pod)
                words = f"no driver's pod after {self.applications.seconds:.0f} s, state {state or 'none'!r}"
                hint = "" if state else "; does the spark-operator run (tidepool:spark_operator in stacks/)?"
                raise JobFailed(name, Outcome(Cause.UNSCHEDULABLE, words + hint))
            time.sleep(LOOK_SECONDS)

    def delete_pod(self, pod: V1Pod) -> None:
        """Delete the application, and with it the driver's pod; what is gone already is no error."""
        outlast(lambda: self._delete(pod))
        super().delete_pod(pod)

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

    def _delete(self, pod: V1Pod) -> None:
        try:
            self._call("delete_namespaced_custom_object", pod, pod.metadata.name)
        except ApiException as error:
            if error.status != GONE_STATUS:
                raise

    def _call(self, method: str, pod: V1Pod, last: Any) -> Any:
        resource = (spark_application.GROUP, spark_application.VERSION, pod.metadata.namespace)
        return getattr(self.applications.api, method)(*resource, spark_application.PLURAL, last)
