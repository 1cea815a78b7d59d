"""One job, one pod, one machine: KubernetesPodOperator with the machine chosen and every end named."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import RetryPolicy
from airflow.sdk.definitions.mappedoperator import OperatorPartial
from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout
from kubernetes.client import ApiClient, CoreV1Api, V1Pod
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tidepool import capacity as capacity_document
from tidepool import explain, ladder, queues
from tidepool import pod as pods
from tidepool.capacity import Capacity, Market
from tidepool.explain import Figures, Part
from tidepool.job import Job
from tidepool.labels import LEASE_SECONDS
from tidepool.ladder import Rung
from tidepool.operators import arguments, lease, pod_owner
from tidepool.operators.arguments import NO_POOL, REFUSED, RETRIES
from tidepool.operators.breakers import Breakers
from tidepool.operators.pod_manager import GONE_STATUS, JobPodManager, delete_once
from tidepool.operators.problems import Problems
from tidepool.operators.retry_policy import CauseRetryPolicy
from tidepool.outcome import Cause, Outcome
from tidepool.overrides import Override
from tidepool.queues import Claim
from tidepool.retries import MEMORY_RETRIES, PLATFORM_RETRIES
from tidepool.sizing import Placement, named_pool, place, team_of

# What only a running task needs is imported there: the DAG processor imports this module anew for each file.
if TYPE_CHECKING:
    from tidepool.operators.attempt import Attempt
    from tidepool.operators.conclusion import Conclusion

LOG_READING = "fetch_container_logs_before_current_sec"
"""In the stack trace of a trigger that gave up waiting because it could not read the log."""


class _OverAlready(Exception):
    """A task was to be deferred, and its pod had ended: it has concluded and returns this."""

    def __init__(self, returned: Any) -> None:
        super().__init__()
        self.returned = returned


class JobPodOperator(KubernetesPodOperator):
    """Runs a container image on a machine of a job pool, which is bought for it and given back after it.

    image: by its name in the capacity document (such as "spark") or in full. cores: threads that work at once.
    memory: the pod's memory limit, such as "3Gi". gpus: how many of its machine it gets. pool: the machines' pool.
    machine: a type of the pools' machines, such as "m5.large": the job gets one of its shape, of a pool that has it.
    market: "spot" or "on-demand" machines only. team: whose job it is, and so in which namespace it runs and whose
    quota it uses; else the default tenant's. Whatever isn't given follows from the pools of the capacity document
    (TIDEPOOL_CAPACITY): the best job pool on which the job fits, and the whole machine. exclusive: no other job on the
    machine meanwhile.
    retries: after failures of the program; platform_retries: after what the job could not help, such as a reclaimed
    machine; memory_retries: with half as much memory again, after want of it. Airflow's own `retries` of the task is
    their sum. retry_policy: instead of all that. airflow_pool: what Airflow calls `pool`.
    deadline: so long after its DAG run was queued it must be done. Airflow tells if it isn't (Deadline Alerts), and an
    attempt is on spot only where the deadline allows it; without one, where the DAG's deadlines do.
    expected: the work's time, for its first run. checkpoint_every: the program keeps what it has done, and a reclaim
    makes at most so much of it undone; without it, all.
    do_xcom_push: the task's result is the JSON that the program wrote to /dev/termination-log, 4096 bytes at most.
    Every argument of KubernetesPodOperator may be given besides, save those in `refused`; `tolerations` are added.

    Raises JobError where the job fits no pool or its team is none, and CapacityError without a capacity document: both
    when the DAG file is parsed. An attempt that does not end well raises JobFailed with its cause.
    """

    refused = REFUSED
    template_fields: Sequence[str] = tuple(
        field for field in KubernetesPodOperator.template_fields if field not in REFUSED
    )
    """The stock operator's, save what is not for the author to give: Airflow takes its time over each."""

    # Here, as Airflow takes its time over each attribute that an operator sets, and a DAG file with a thousand
    # operators is parsed every half minute.
    _returned: Any = None
    rung: Rung | None = None
    """Where the attempt's pod is, or is to go; None before there is an attempt."""
    claim: Claim | None = None
    override: Override | None = None
    expected: timedelta | None = None
    checkpoint_every: timedelta | None = None

    def __init__(
        self,
        *,
        image: str,
        cores: int | None = None,
        memory: str | None = None,
        gpus: int = 0,
        pool: str = NO_POOL,
        machine: str | None = None,
        market: Market | None = None,
        exclusive: bool = True,
        team: str | None = None,
        airflow_pool: str = NO_POOL,
        retries: int = RETRIES,
        platform_retries: int = PLATFORM_RETRIES,
        memory_retries: int = MEMORY_RETRIES,
        retry_delay: timedelta = timedelta(seconds=10),
        retry_policy: RetryPolicy | None = None,
        deadline: timedelta | None = None,
        expected: timedelta | None = None,
        checkpoint_every: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        task = kwargs.get("task_id", "")
        given = {**(kwargs.get("default_args") or {}), **kwargs}
        durations = {"deadline": deadline, "expected": expected, "checkpoint_every": checkpoint_every}
        limits = {"retries": retries, "platform_retries": platform_retries, "memory_retries": memory_retries}
        capacity, problems = capacity_document.load(), Problems(task)
        image = capacity.images.get(image, image)
        named = arguments.named_pool(pool)
        with problems:
            job = Job(task, cores, memory, pool=named, machine=machine, exclusive=exclusive, gpus=gpus, team=team)
        with problems:
            capacity = ladder.offered(capacity, market, task)
        with problems:
            arguments.check(task, given, self.refused, durations, limits)
        if not problems:
            with problems:
                placement = place(job, capacity)
        if problems:  # `place` looks at one thing after the other
            with problems:
                team_of(Job(task, team=team), capacity)
            with problems:
                named_pool(Job(task, pool=named), capacity) if named else None
        problems.tell()
        if retry_policy is None:
            retry_policy = CauseRetryPolicy(retries, platform_retries, memory_retries)
            retries = retry_policy.limits.total
        if kwargs.get("tolerations"):
            own = pods.manifest(placement, image, capacity)["spec"]["tolerations"]
            kwargs["tolerations"] = [*own, *kwargs["tolerations"]]
        kwargs |= {name: value for name, value in arguments.defaults(capacity, given).items() if name not in given}
        if isinstance(given.get("labels"), Mapping):  # the next attempt looks for the pod by them
            kwargs["labels"] = pods.without_ours(given["labels"])
        super().__init__(
            image=image,
            namespace=placement.tenant.namespace,
            pool=airflow_pool,
            retries=retries,
            retry_delay=retry_delay,
            retry_policy=retry_policy,
            **kwargs,
        )
        self.job = job
        self.market = market
        self.placement = placement
        self.deadline = deadline
        if expected is not None:
            self.expected = expected
        if checkpoint_every is not None:
            self.checkpoint_every = checkpoint_every
        self._is_queued = airflow_pool == NO_POOL and given.get("pool_slots", 1) == 1
        self.asked = job, market, placement
        self.take(capacity, (placement, 1))
        arguments.alert(self.get_dag(), self.task_id, deadline)

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Airflow's, with the retries that a mapped task has besides its author's: the scheduler reads them here."""
        made: OperatorPartial = super().partial(**kwargs)
        made.kwargs |= arguments.of_mapped(kwargs, made.kwargs, cls.claimed)
        return made

    @classmethod
    def claimed(cls, given: Mapping[str, Any], capacity: Capacity) -> list[tuple[Placement, int]]:
        """The pods that a job of these arguments has, and how many of each, as `take` is told them of one that is made.

        Raises JobError where it can't be.
        """
        return [(arguments.placed(given, capacity), 1)]

    @property
    def team(self) -> str:
        """Whose job it is."""
        return self.placement.team

    @cached_property
    def client(self) -> CoreV1Api:
        """The stock operator's, which leaves the repetition of deletions to `outlast`."""
        client: CoreV1Api = super().client
        delete_once(client)
        return client

    @cached_property
    def pod_manager(self) -> JobPodManager:
        """The pod manager that outlasts an outage of the API server."""
        manager = JobPodManager(kube_client=self.client, callbacks=self.callbacks)
        manager.leaves = self.attempt.leaves
        return manager

    @cached_property
    def breakers(self) -> Breakers:
        """What the team's attempts found out about pools."""
        return Breakers(self.client, self.placement.tenant.namespace)

    @cached_property
    def attempt(self) -> Attempt:
        """The attempt that runs now."""
        from tidepool.operators.attempt import Attempt

        return Attempt(self)

    @cached_property
    def conclusion(self) -> Conclusion:
        """How it ended."""
        from tidepool.operators.conclusion import Conclusion

        return Conclusion(self)

    @property
    def has_deadline(self) -> bool:
        """Whether it has one, or its DAG."""
        return self.deadline is not None or bool(getattr(self.get_dag(), "deadline", None))

    def resize(self, placement: Placement, context: Any) -> None:
        """Take another size for this attempt. For operators whose command follows from the size."""
        self.placement = placement

    def resize_members(self, placement: Placement, context: Any) -> None:
        """Take another size for the job's other pods. For operators that have such."""

    def take(self, capacity: Capacity, *placements: tuple[Placement, int]) -> None:
        """The pods that the job has, and how many of each. Airflow starts the task once there is room for them, unless
        its author said when."""
        self.sizes: tuple[tuple[Placement, int], ...] = placements
        if self._is_queued and (found := queues.claim(placements, capacity)):
            self.claim, self.pool, self.pool_slots = found, found.queue.name, found.slots

    def parts(self) -> list[Part]:
        """The kinds of pods that the job has, for the words on its size; the first is the one that Airflow follows."""
        return [Part("pod", self.job, self.market, self.placement)]

    def figures(self, rungs: Sequence[Rung]) -> Figures:
        """How it came to its size and its machines. rungs: of the ladder that an attempt has."""
        from tidepool.operators import budget_gate

        policy = self.retry_policy
        limits = policy.limits if isinstance(policy, CauseRetryPolicy) else None
        found = explain.figures(self.parts(), capacity_document.load(), rungs, limits, self.claim)
        budgets = budget_gate.of(self)
        return found | {
            "override": dataclasses.asdict(self.override) if self.override else None,
            "budgets": {name: dataclasses.asdict(each) for name, each in budgets.items()},
        }

    def as_members_tell(self, found: Outcome) -> Outcome:
        """The main pod's end, with what the job's other pods say of it. For operators that have such."""
        return found

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """The pod, with its owner, its lease and the name that follows from its owner on it."""
        placement = self.placement
        if self.rung is not None:
            placement = dataclasses.replace(placement, pools=self.rung.pools)
        # Not made when the DAG file is parsed: Airflow would look for templates and XComs all through it.
        self.pod_template_dict = pods.manifest(placement, str(self.image), capacity_document.load())
        returns, self.do_xcom_push = self.do_xcom_push, False  # a result needs no sidecar: `extract_xcom`
        try:
            pod = super().build_pod_request_obj(context, dry_run=dry_run)
        finally:
            self.do_xcom_push = returns
        pod.metadata.labels = pods.without_ours(pod.metadata.labels) | self.pod_template_dict["metadata"]["labels"]
        pod.metadata.annotations = pods.without_ours(pod.metadata.annotations)
        for container in pod.spec.containers:
            if container.name == self.base_container_name and container.args:
                container.args = arguments.flat(container.args)
        if context is not None:
            pod_owner.mark(pod, self, context)
        return pod

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Any) -> V1Pod:
        """The pod that an earlier attempt left running, else a new one; watched from here on."""
        return self.attempt.begin(context).pod(pod_request_obj.metadata.namespace)

    def await_pod_start(self, pod: V1Pod) -> None:
        """Wait until the pod has started, moving it up the ladder where it gets no machine."""
        if self.attempt.launch is not None:
            self.pod = self.attempt.launch.run(pod)
        else:
            super().await_pod_start(pod)

    def invoke_defer_method(self, last_log_time: Any = None, context: Any = None) -> None:
        """Defer once the pod has its machine or has come to the last rung; the trigger waits for the rest."""
        if self.attempt.launch is not None and self.pod is not None:
            try:
                self.pod = self.attempt.launch.run(self.pod, until_last=True)
            except (AirflowException, AirflowTaskTimeout, ApiException, HTTPError):
                self.cleanup(self.pod, self.pod, context=context)  # the stock operator does where it does not defer
                raise
        if self.pod is not None:
            limit = self.execution_timeout
            seconds = limit.total_seconds() + LEASE_SECONDS if limit else lease.DEFERRED_SECONDS
            lease.extend(self.client, self.pod.metadata.name, self.pod.metadata.namespace, seconds)
        super().invoke_defer_method(last_log_time=last_log_time, context=context)
        # Not deferred: the pod is over. The stock operator has concluded, and would go on without what that returned.
        raise _OverAlready(self._returned)

    def convert_config_file_to_dict(self) -> None:
        """For the triggerer, a file that the author named: the environment's would be one besides the connection's."""
        self._config_dict = None
        if self.config_file:
            super().convert_config_file_to_dict()  # type: ignore[no-untyped-call]  # the provider's

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
        self.attempt.begin(context)
        return self.conclusion.of(lambda: self._executed(context))

    def _executed(self, context: Any) -> Any:
        self.attempt.prepare()
        try:
            return super().execute(context)
        except _OverAlready as over:
            return over.returned

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Come back from the triggerer (deferrable=True) and conclude as `execute` does."""
        self.attempt.begin(context).remember()
        self.conclusion.hear(event)
        if LOG_READING in str(event.get("stack_trace")):
            # A machine that is lost hands on no log, and the pod's end must still be seen: the log is read then.
            self.logging_interval = None
        return self.conclusion.of(lambda: self._reentered(context, event))

    def _reentered(self, context: Any, event: dict[str, Any]) -> Any:
        """The stock operator's, which takes a pod that is gone for one that returned nothing."""
        try:
            self._returned = super().trigger_reentry(context, event)
        except _OverAlready:
            return self._returned
        if self.do_xcom_push and self.pod is None and self.remote_pod is None:
            found = Outcome(Cause.UNKNOWN, "the pod has succeeded, and was gone before its result was read")
            raise self.conclusion.failed(found)
        return self._returned

    def extract_xcom(self, pod: V1Pod, *, ignore_kill_failure: bool = True) -> Any:
        """What the job returns (do_xcom_push=True): the JSON that its program wrote to /dev/termination-log.

        Raises JobFailed where that is none.
        """
        if self.conclusion.is_given_up:
            return None  # the stock operator would wait for the end of a pod that has no machine
        istio = self.is_istio_enabled(pod)
        self.remote_pod = self.pod_manager.await_pod_completion(pod, istio, self.base_container_name, True)
        return self.conclusion.result(ApiClient().sanitize_for_serialization(self.remote_pod))

    def cleanup(self, pod: V1Pod, remote_pod: V1Pod, xcom_result: Any = None, context: Any = None) -> None:
        """Delete the pod. Where the task was stopped the stock operator returns and Airflow sees a success: raise."""
        self.conclusion.fix(remote_pod)
        super().cleanup(pod, remote_pod, xcom_result=xcom_result, context=context)
        self.conclusion.check_stopped()

    def process_pod_deletion(self, pod: V1Pod, *, reraise: bool = True) -> bool:
        """Delete the pod if it is to be. Where that fails, a later run must not take its success for its own."""
        is_deleted: bool = super().process_pod_deletion(pod, reraise=reraise)
        if not is_deleted and pod is not None:
            self.patch_already_checked(pod, reraise=False)
        return is_deleted

    def on_kill(self) -> None:
        """Delete the pod, unless a later attempt has taken it over: this one is a leftover of a lost scheduler."""
        if self.pod is not None and self.attempt.is_taken_over(self.pod):
            self._killed = True
            self.log.info("Leaving pod %s to the attempt that took it over", self.pod.metadata.name)
            return
        super().on_kill()
