"""A pod manager that outlasts an outage of the API server, and a log follower that ends when the pod does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import tenacity
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import KubernetesApiException
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLogsConsumer, PodManager
from kubernetes.client import CoreV1Api, V1DeleteOptions, V1Pod, V1Preconditions
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse
from urllib3.util import Retry

OUTAGE_SECONDS = 180
"""How long the API server may be away before a job's attempt is given up."""

DENIED_SECONDS = 30
"""How long it may say 401 or 403: after a restart it does so for a moment, before it has read its roles."""

TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
DENIED_STATUS = frozenset({401, 403})
CONFLICT_STATUS = 409
GONE_STATUS = 404

OVER_QUOTA = "exceeded quota"
"""In what the API server says of a pod for which its team's quota has no room."""

T = TypeVar("T")


def is_transient(error: BaseException | None, denied_seconds: float = 0.0) -> bool:
    """Whether the same request may succeed later; for `denied_seconds` it has been denied already."""
    if isinstance(error, ApiException):
        if is_over_quota(error):
            return False
        return error.status in TRANSIENT_STATUS or (error.status in DENIED_STATUS and denied_seconds < DENIED_SECONDS)
    return isinstance(error, (HTTPError, KubernetesApiException))


def is_over_quota(error: ApiException) -> bool:
    """Whether a pod was refused as its team's quota is used up: the same request fails until another job has ended."""
    return OVER_QUOTA in str(error.body or "")


def outlast(call: Callable[[], T]) -> T:
    """Call until there is an answer, for OUTAGE_SECONDS at most; then raise what the last call raised."""
    denied_since: float | None = None

    def is_to_be_repeated(error: BaseException) -> bool:
        nonlocal denied_since
        is_denied = isinstance(error, ApiException) and error.status in DENIED_STATUS
        denied_since = (denied_since or time.time()) if is_denied else None
        return is_transient(error, time.time() - denied_since if denied_since else 0.0)

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(OUTAGE_SECONDS),
        wait=tenacity.wait_fixed(1),
        retry=tenacity.retry_if_exception(is_to_be_repeated),
        reraise=True,
    )
    return retrying(call)


def delete_once(client: CoreV1Api) -> None:
    """Have urllib3 not repeat a deletion by itself: what may be deleted the first time may be another's the second."""
    methods = Retry.DEFAULT_ALLOWED_METHODS - {"DELETE"}
    client.api_client.rest_client.pool_manager.connection_pool_kw["retries"] = Retry(3, allowed_methods=methods)


class JobPodManager(PodManager):
    """The provider's pod manager, whose own retries end after 15 s and whose log follower may hang for 5 minutes."""

    leaves: Callable[[V1Pod], bool] = staticmethod(lambda pod: False)
    """Whether a pod is another attempt's by now, and not to be deleted. Asked each time that it is tried."""

    _followed: HTTPResponse | None = None

    def read_pod(self, pod: V1Pod) -> V1Pod:
        """The pod as it is now; raises ApiException 404 where it is gone."""
        return outlast(lambda: super(JobPodManager, self).read_pod(pod))

    def delete_pod(self, pod: V1Pod) -> None:
        """Delete the pod, unless it `leaves` it; one that is gone already is no error."""
        outlast(lambda: None if self.leaves(pod) else self._delete_now(pod))

    def _delete_now(self, pod: V1Pod) -> None:
        super().delete_pod(pod)

    def run_pod_async(self, pod: V1Pod, **kwargs: Any) -> V1Pod:
        """Create the pod; unlike the provider's, without its whole specification in the log where that fails."""
        body = self._client.api_client.sanitize_for_serialization(pod)
        return self._client.create_namespaced_pod(body=body, namespace=pod.metadata.namespace, **kwargs)

    def await_pod_completion(
        self, pod: V1Pod, istio_enabled: bool = False, container_name: str = "base", do_xcom_push: bool = False
    ) -> V1Pod:
        """The pod once it has ended; where it has more containers and a result, once the job's own has.

        The provider's does not wait for the pod where there is a result, as it has a sidecar, and then takes a pod that
        is about to succeed for one that did not.
        """
        has_others = len((pod.spec.containers if pod.spec is not None else None) or []) > 1
        return super().await_pod_completion(pod, istio_enabled, container_name, do_xcom_push and has_others)

    def await_xcom_sidecar_container_start(self, pod: V1Pod, *_: Any, **__: Any) -> None:
        """There is none: a job's result is in its pod's status."""

    def delete_unchanged(self, pod: V1Pod) -> bool:
        """Delete the pod if it still is what was read; False where it has changed, such as by getting a machine."""
        conditions = V1Preconditions(uid=pod.metadata.uid, resource_version=pod.metadata.resource_version)
        options = V1DeleteOptions(preconditions=conditions, grace_period_seconds=0)
        try:
            outlast(lambda: self._client.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, body=options))
        except ApiException as error:
            if error.status == CONFLICT_STATUS:
                return False
            if error.status != GONE_STATUS:
                raise
        return True

    def read_pod_logs(self, pod: V1Pod, container_name: str, **kwargs: Any) -> PodLogsConsumer:
        """Follow the log. Where it cannot be read just now, that is a broken stream, which the caller resumes."""
        try:
            consumer: PodLogsConsumer = super().read_pod_logs(pod, container_name, **kwargs)
        except ApiException as error:
            if is_transient(error):
                raise HTTPError(f"log of pod {pod.metadata.name}: {error.status} {error.reason}") from error
            raise
        self._followed = consumer.response
        return consumer

    def stop_following(self) -> None:
        """Cut the log off, from another thread: the connection to a lost machine never ends by itself."""
        followed = self._followed
        if followed is not None:
            # It may have ended, or been given back to its connection pool, in the meantime.
            with suppress(ValueError, RuntimeError, OSError):
                followed.shutdown()
