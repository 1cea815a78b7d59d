"""One job, one pod, one machine: KubernetesPodOperator with the machine chosen and every end named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from airflow.sdk.exceptions import AirflowException, AirflowSkipException, AirflowTaskTimeout, TaskDeferred
from kubernetes.client import ApiClient, V1Pod
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tidepool import capacity as capacity_document
from tidepool import pod as pods
from tidepool.job import Job, JobError
from tidepool.operators import reattach
from tidepool.operators.pod_manager import GONE_STATUS, JobPodManager, outlast
from tidepool.operators.pod_watch import PodWatch, has_ended
from tidepool.outcome import Cause, JobFailed, Outcome, outcome
from tidepool.sizing import place

NO_POOL = "default_pool"
"""No pool named. Airflow's own default for its argument of this name, which mapped tasks always pass."""

REFUSED: Mapping[str, str] = {
    "affinity": "name a `pool`",
    "container_resources": "ask for `cores`, `memory` and `gpus`",
    "namespace": "name a `team`",
    "pod_template_dict": "use `full_pod_spec`, which is laid over the job's pod",
    "pod_template_file": "use `full_pod_spec`, which is laid over the job's pod",
    "service_account_name": "name a `team`",
}
"""Arguments of KubernetesPodOperator that would silently undo the job's place, size and owner; what to do instead."""

STOPPED = Outcome(Cause.CANCELLED, "the task was stopped: cleared, marked, or its worker told to stop")


class JobPodOperator(KubernetesPodOperator):
    """Runs a container image on a machine of a job pool, which is bought for it and given back after it.

    image: by its name in the capacity document (such as "spark") or in full. cores: threads that work at once.
    memory: the pod's memory limit, such as "3Gi". gpus: how many of its machine it gets. pool: the machines' pool.
    team: whose job it is, and so in which namespace it runs and whose quota it uses; else the default tenant's.
    Whatever isn't given follows from the pools of the capacity document (TIDEPOOL_CAPACITY): the best job pool on which
    the job fits, and the whole machine. exclusive: no other job on the machine meanwhile.
    airflow_pool: what Airflow calls `pool`.
    Every argument of KubernetesPodOperator may be given besides, save those in `refused`; `tolerations` are added.

    Raises JobError where the job fits no pool or its team is none, and CapacityError without a capacity document: both
    when the DAG file is parsed. An attempt that does not end well raises JobFailed with its cause.
    """

    refused = REFUSED

    def __init__(
        self,
        *,
        image: str,
        cores: int | None = None,
        memory: str | None = None,
        gpus: int = 0,
        pool: str = NO_POOL,
        exclusive: bool = True,
        team: str | None = None,
        airflow_pool: str = NO_POOL,
        retries: int = 3,
        retry_delay: timedelta = timedelta(seconds=10),
        **kwargs: Any,
    ) -> None:
        task = kwargs.get("task_id", "")
        given = {**(kwargs.get("default_args") or {}), **kwargs}
        refused = [f"{name}: {instead}" for name, instead in self.refused.items() if given.get(name) is not None]
        if refused:
            raise JobError(f"task {task!r}: not for the author to give: {'; '.join(refused)}")
        capacity = capacity_document.load()
        image = capacity.images.get(image, image)
        job = Job(
            task=task,
            cores=cores,
            memory=memory,
            pool=None if pool == NO_POOL else pool,
            exclusive=exclusive,
            gpus=gpus,
            team=team,
        )
        placement = place(job, capacity)
        manifest = pods.manifest(placement, image, capacity)
        if kwargs.get("tolerations"):
            kwargs["tolerations"] = [*manifest["spec"]["tolerations"], *kwargs["tolerations"]]
        defaults: dict[str, Any] = {
            "schedule_timeout_seconds": capacity.schedule_timeout_seconds,  # the stock 120 s is less than a scale-up
            "startup_timeout_seconds": 600,
            "startup_check_interval_seconds": 2,
            "on_finish_action": "delete_pod",
            "log_pod_spec_on_failure": False,
            "termination_message_policy": "FallbackToLogsOnError",
        }
        kwargs |= {name: value for name, value in defaults.items() if name not in given}
        kwargs |= {"namespace": placement.tenant.namespace, "pod_template_dict": manifest}
        super().__init__(
            image=image,
            pool=airflow_pool,
            retries=retries,
            retry_delay=retry_delay,
            **kwargs,
        )
        self.team = placement.team
        self.placement = placement
        self._attempt = 0
        self._watch: PodWatch | None = None

    @cached_property
    def pod_manager(self) -> JobPodManager:
        """The pod manager that outlasts an outage of the API server."""
        return JobPodManager(kube_client=self.client, callbacks=self.callbacks)

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """The pod, with its owner on it."""
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        if context is not None:
            ti = context["ti"]
            labels, annotations = pods.owner(ti.dag_id, ti.task_id, context["run_id"], ti.try_number, self.team)
            pod.metadata.labels = {**(pod.metadata.labels or {}), **labels}
            pod.metadata.annotations = {**(pod.metadata.annotations or {}), **annotations}
        return pod

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Any) -> V1Pod:
        """The pod that an earlier attempt left running, else a new one; watched from here on."""
        namespace = pod_request_obj.metadata.namespace
        pod = None
        if self.durable:
            selector = self._build_find_pod_label_selector(context)
            pod = reattach.takeover(self.client, self.pod_manager, namespace, selector, self._give_up)
        if pod is None:
            outlast(lambda: self.pod_manager.create_pod(pod_request_obj))
            pod = pod_request_obj
        else:
            self.log.info("Going on with pod %s of an earlier attempt", pod.metadata.name)
            reattach.claim(self.client, pod, context["ti"].try_number)
        self._watch = PodWatch(self.client, pod.metadata.name, namespace, self.pod_manager.stop_following)
        self._watch.start()
        return pod

    def find_pod(self, namespace: str, context: Any, *, exclude_checked: bool = True) -> V1Pod | None:
        """This attempt's pod by its name: by its labels there may be more than one."""
        if self.pod is None:
            return super().find_pod(namespace, context, exclude_checked=exclude_checked)
        try:
            return self.pod_manager.read_pod(self.pod)
        except ApiException as error:
            if error.status == GONE_STATUS:
                return None
            raise

    def execute(self, context: Any) -> Any:
        """Run the job to its end; raises JobFailed with the cause unless that is good."""
        self._attempt = context["ti"].try_number
        return self._concluded(lambda: super(JobPodOperator, self).execute(context))

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Come back from the triggerer (deferrable=True) and conclude as `execute` does."""
        self._attempt = context["ti"].try_number
        return self._concluded(lambda: super(JobPodOperator, self).trigger_reentry(context, event))

    def cleanup(self, pod: V1Pod, remote_pod: V1Pod, xcom_result: Any = None, context: Any = None) -> None:
        """Delete the pod. Where the task was stopped the stock operator returns and Airflow sees a success: raise."""
        if remote_pod is not None and not self._killed and remote_pod.status.phase == "Succeeded":
            # Should deleting it fail, a later run of this task must not take its success for its own.
            self.patch_already_checked(remote_pod, reraise=False)
        super().cleanup(pod, remote_pod, xcom_result=xcom_result, context=context)
        if self._killed:
            raise JobFailed(self._pod_name(), STOPPED)

    def on_kill(self) -> None:
        """Delete the pod, unless a later attempt has taken it over: this one is a leftover of a lost scheduler."""
        if self.pod is not None and reattach.is_held_by_later_attempt(self.client, self.pod, self._attempt):
            self._killed = True
            self.log.info("Leaving pod %s to the attempt that took it over", self._pod_name())
            return
        super().on_kill()

    def _give_up(self, pod: V1Pod) -> None:
        self.patch_already_checked(pod, reraise=False)
        self.process_pod_deletion(pod, reraise=False)

    def _pod_name(self) -> str:
        return self.pod.metadata.name if self.pod is not None else "(none)"

    def _concluded(self, run: Callable[[], Any]) -> Any:
        """What `run` returns, or JobFailed with the cause where the pod's end is why it did not return well."""
        try:
            result = run()
        except TaskDeferred:
            if not self._killed:
                raise
        except AirflowSkipException:
            raise
        except (AirflowException, ApiException, HTTPError) as error:
            found = self._outcome(error)
            if found is None:
                raise
            if found.cause is not Cause.OK or self.do_xcom_push:
                raise JobFailed(self._pod_name(), found) from error
            self.log.warning("Pod %s has succeeded; what came after did not: %s", self._pod_name(), error)
            return None
        finally:
            if self._watch is not None:
                self._watch.stop()
        if self._killed:
            raise JobFailed(self._pod_name(), STOPPED)
        return result

    def _outcome(self, error: BaseException) -> Outcome | None:
        """How the pod ended, if that is what the error is about; None for errors that have nothing to do with it."""
        if self._killed:
            return STOPPED
        chain = list(_chain(error))
        if any(isinstance(link, AirflowTaskTimeout) for link in chain):
            return Outcome(Cause.TIMED_OUT, f"it ran longer than its execution_timeout of {self.execution_timeout}")
        last = self._last_seen()
        about_pod = any(
            isinstance(link, (PodLaunchTimeoutException, PodLaunchFailedException))
            or (isinstance(link, ApiException) and link.status == GONE_STATUS)
            for link in chain
        )
        return outcome(last, self.base_container_name) if about_pod or (last and has_ended(last)) else None

    def _last_seen(self) -> dict[str, Any] | None:
        """The pod as the watch saw it last, else as the stock operator did (deferrable tasks have no watch)."""
        if self._watch is not None and self._watch.last is not None:
            return self._watch.last
        seen = self.remote_pod or self.pod
        if seen is None or seen.status is None:
            return None
        found: dict[str, Any] = ApiClient().sanitize_for_serialization(seen)
        return found


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from or during."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
