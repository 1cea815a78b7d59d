"""How an attempt ended: from what its pod, the watch on it and the triggerer tell, and with what the next must know."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowSkipException, AirflowTaskTimeout, TaskDeferred
from kubernetes.client import ApiClient, V1Pod
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tidepool import capacity as capacity_document
from tidepool import ladder
from tidepool import pod as pods
from tidepool.breaker import Breaker
from tidepool.capacity import Pool
from tidepool.job import quantity
from tidepool.objects import Object, is_over
from tidepool.operators import ending, evidence, size_overrides
from tidepool.operators.attempt import job_pools
from tidepool.operators.retry_policy import remembered
from tidepool.outcome import Cause, JobFailed, Outcome, Seen
from tidepool.result import result
from tidepool.running import ran

if TYPE_CHECKING:
    from tidepool.operators.job_pod import JobPodOperator

LAUNCH_FAILED = "PodLaunchFailedException"
"""What the trigger gives a pod up by that can't start; it hands on the words only."""


class Conclusion:
    """The end of the attempt that an operator's job has now.

    is_given_up: the triggerer gave the pod up, which may not have a machine.
    """

    def __init__(self, operator: JobPodOperator) -> None:
        self._operator = operator
        self._end: Object | None = None
        self._landed = ""
        self.is_given_up = False
        self._is_about_pod = False
        self._is_overtime = False
        self._deferred_for: tuple[str, str] | None = None

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take what the trigger of a deferred task says."""
        self.is_given_up = event.get("status") == "timeout" or LAUNCH_FAILED in str(event.get("stack_trace"))
        self._is_about_pod = event.get("status") == "failed" or self.is_given_up
        # The trigger's clocks are two: of the pod's start, and of the whole task.
        self._is_overtime = event.get("status") == "timeout" and "execution_timeout" in str(event.get("message"))
        self._deferred_for = (event["namespace"], event["name"])

    def of(self, run: Callable[[], Any]) -> Any:
        """What `run` returns, or JobFailed with the cause where the pod's end is why it did not return well."""
        operator, attempt = self._operator, self._operator.attempt
        is_deferred = False
        try:
            returned = run()
        except TaskDeferred:
            is_deferred = not operator._killed
            if is_deferred:
                raise
        except AirflowSkipException:
            raise
        except (AirflowException, AirflowTaskTimeout, ApiException, HTTPError) as error:
            if isinstance(error, AirflowTaskTimeout) and operator.pod is not None:
                self._delete_unseen(operator.pod)
            if not operator._killed and (told := ending.told(error)) is not None:
                raise told from None
            found = ending.of_stop(attempt.context) if operator._killed else self._outcome(error)
            if found is None:
                raise
            if found.cause is not Cause.OK:
                raise self.failed(found) from error
            operator.log.warning("Pod %s has succeeded; what came after did not: %s", self._pod_name(), error)
            return self.result(self._end or self._last_seen() or {}) if operator.do_xcom_push else None
        finally:
            attempt.unfollow()
            if operator.pod is not None and not is_deferred:
                attempt.budgets().release(self._pod_name())
        self.check_stopped()
        if (seconds := self._ran()) and operator.has_deadline:
            from tidepool.operators import deadline_market  # which few DAG files need

            deadline_market.keep_runtime(attempt.context, attempt.known(), seconds)
        return returned

    def check_stopped(self) -> None:
        """Raise JobFailed with why the task was told to stop, if it was."""
        if self._operator._killed:
            raise self.failed(ending.of_stop(self._operator.attempt.context))

    def result(self, pod: Object) -> Any:
        """What the job returns. Raises JobFailed where its program wrote something that is no result."""
        try:
            return result(pod, self._operator.base_container_name)
        except ValueError as error:
            raise self.failed(Outcome(Cause.APP_ERROR, str(error))) from error

    def fix(self, pod: V1Pod | None) -> None:
        """The pod is about to be deleted: its end is what was seen until now. On one that has not ended it is written
        why it is given up.
        """
        self._end = self._last_seen()
        error = sys.exception()
        if error is None or pod is None or self._operator._killed or self._end is None or is_over(self._end):
            return
        if (found := self._outcome(error)) is not None:
            ending.write(self._operator.client, pod, found.cause)

    def _delete_unseen(self, pod: V1Pod) -> None:
        """Delete a pod whose task's time was up before it was seen: the stock operator leaves it to `on_kill`, which
        Airflow calls only for a timeout that comes through to it.
        """
        try:
            self._operator.pod_manager.delete_pod(pod)
        except (ApiException, HTTPError) as error:
            self._operator.log.warning("Pod %s could not be deleted: %s", pod.metadata.name, error)

    def _pod_name(self) -> str:
        return self._operator.pod.metadata.name if self._operator.pod is not None else "(none)"

    def failed(self, found: Outcome) -> JobFailed:
        """The exception for an end, with what the next attempt has to know of this one."""
        operator, pool = self._operator, self._pool()
        # A worker that has to go says nothing of the pool.
        where = {} if found is ending.WORKER_STOPPED else {"pool": pool.name, "market": pool.market}
        if where and found.cause in ladder.LOSSES and pool.market == "spot" and operator.pod is not None:
            operator.breakers.tell(pool.name, Breaker.lost)
        if found.cause is Cause.OUT_OF_MEMORY:
            size_overrides.roll_back(operator, operator.attempt.context, self._memory())
        memory, largest = self._memory_limits(found)
        # A pod that is left to the next attempt is that one's to account for.
        seconds = self._ran(found.cause in ladder.LOSSES) if where else 0.0
        return JobFailed(self._pod_name(), found, memory_bytes=memory, largest_bytes=largest, seconds=seconds, **where)

    def _ran(self, is_lost: bool = False) -> float:
        """Seconds for which the attempt ran. Its team learns of them if it was on a spot machine, and of its loss."""
        operator = self._operator
        seconds = ran(self._end or self._last_seen(), operator.base_container_name, time.time())
        pool = self._pool()
        if seconds and pool.market == "spot":
            operator.breakers.tell(pool.name, lambda known, now: known.ran(now, seconds / 3600, int(is_lost)))
        return seconds

    def _memory_limits(self, found: Outcome) -> tuple[int, int]:
        """The memory limit of the pod, or of the job's other pods where it is they that ended so; and the most that
        they could have in another attempt.
        """
        operator, attempt = self._operator, self._operator.attempt
        for part in operator.parts()[1:] if found.of_members else ():
            # After a deferral the operator is as its author made it.
            placement = attempt.regrown(part, attempt.earlier or remembered(attempt.context) or [])
            capacity = ladder.offered(capacity_document.load(), part.market, operator.task_id)
            return placement.memory_bytes, ladder.largest(part.job, capacity, placement.cores)
        offered = size_overrides.offered(operator)
        return self._memory(), ladder.largest(operator.job, offered, operator.placement.cores)

    def _memory(self) -> int:
        """The memory limit that the pod had: after a deferral only the pod itself knows."""
        operator = self._operator
        spec = operator.pod.spec if operator.pod is not None else None
        for container in (spec.containers if spec is not None else None) or []:
            limits = (container.resources.limits if container.resources is not None else None) or {}
            if container.name == operator.base_container_name and "memory" in limits:
                return quantity(limits["memory"])
        return operator.placement.memory_bytes

    def _pool(self) -> Pool:
        """Where the pod is or was, as far as is known: by its launch, else by its machine, else where it was to go."""
        operator, launch = self._operator, self._operator.attempt.launch
        pools = operator.rung.pools if operator.rung is not None else operator.placement.pools
        if not self._landed:
            self._landed = launch.landed if launch is not None else self._landed_deferred()
        labels = operator.pod.metadata.labels if operator.pod is not None else None
        name = self._landed or (labels or {}).get(capacity_document.POOL_LABEL)
        return next((pool for pool in (*pools, *job_pools()) if pool.name == name), pools[0])

    def _landed_deferred(self) -> str:
        """The pool whose machine a pod got while its task was deferred."""
        pod, pools = self._last_seen(), job_pools()
        if pod is None:
            return ""
        return evidence.pool(self._operator.client, pod, pods.may_land_on(pod, pools) or pools)

    def _outcome(self, error: BaseException) -> Outcome | None:
        """How the pod ended, if that is what the error is about."""
        operator, watch = self._operator, self._operator.attempt.watch
        gone = watch is not None and watch.is_gone and self._end is None
        seen = Seen(self._end or self._last_seen(), operator.base_container_name, gone, market=self._pool().market)
        limit, about = operator.execution_timeout, self._is_about_pod
        found = ending.of_error(operator.client, error, seen, limit, about, self._is_overtime)
        return operator.as_members_tell(found) if found is not None else None

    def _last_seen(self) -> Object | None:
        """The pod as the watch saw it last, else as the stock operator did.

        Deferrable tasks have no watch, and one that was broken off may be behind.
        """
        operator, watch = self._operator, self._operator.attempt.watch
        watched = watch.last if watch is not None else None
        seen = operator.remote_pod or operator.pod
        if seen is None and watched is None and self._deferred_for is not None:
            return evidence.gone_pod(operator.client, *self._deferred_for)
        if seen is None or seen.status is None or (watched is not None and is_over(watched)):
            return watched
        found: Object = ApiClient().sanitize_for_serialization(seen)
        if watched is None or (is_over(found) and found["metadata"].get("uid") == watched["metadata"].get("uid")):
            return found
        return watched
