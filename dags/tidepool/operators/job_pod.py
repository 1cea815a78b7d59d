"""One job, one pod, one machine: KubernetesPodOperator with the machine chosen and every end named."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.callbacks import ExecutionMode
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import RetryPolicy
from airflow.sdk.definitions.mappedoperator import OperatorPartial
from airflow.sdk.exceptions import AirflowException, AirflowSkipException, AirflowTaskTimeout, TaskDeferred
from kubernetes.client import ApiClient, CoreV1Api, V1EnvVar, V1Pod
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tidepool import capacity as capacity_document
from tidepool import explain, ladder, queues, retries
from tidepool import pod as pods
from tidepool.capacity import Capacity, Market, Pool
from tidepool.explain import Figures, Part
from tidepool.job import Job, quantity
from tidepool.labels import LEASE, LEASE_SECONDS
from tidepool.ladder import Breaker, Clocks, Rung, State
from tidepool.objects import is_over
from tidepool.operators import arguments, budget_gate, ending, evidence, lease, reattach, size_overrides
from tidepool.operators.arguments import NO_POOL, REFUSED, RETRIES
from tidepool.operators.breakers import Breakers
from tidepool.operators.budget_gate import BudgetGate, OverBudgetError
from tidepool.operators.launch import Launch, Limits
from tidepool.operators.pod_manager import GONE_STATUS, JobPodManager, delete_once, is_over_quota, outlast
from tidepool.operators.pod_watch import PodWatch
from tidepool.operators.problems import Problems
from tidepool.operators.retry_policy import CauseRetryPolicy, remembered
from tidepool.outcome import Cause, JobFailed, Outcome, Seen, conclude
from tidepool.overrides import Override
from tidepool.queues import Claim
from tidepool.result import result
from tidepool.retries import MEMORY_RETRIES, PLATFORM_RETRIES, Attempt
from tidepool.running import ran
from tidepool.sizing import Placement, named_pool, place, team_of

if TYPE_CHECKING:
    from tidepool.operators.deadline_market import Known

LAUNCH_FAILED = "PodLaunchFailedException"
"""What the trigger gives a pod up by that can't start; it hands on the words only."""

LOG_READING = "fetch_container_logs_before_current_sec"
"""In the stack trace of a trigger that gave up waiting because it could not read the log."""

QUOTA_SECONDS = 10.0

WAIT_SECONDS = 60.0
"""How soon a task that waits for spot machines asks again."""


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

    # What only an attempt knows. Here, as Airflow takes its time over each attribute that an operator sets, and a DAG
    # file with a thousand operators is parsed every half minute.
    _attempt = 0
    _landed = ""
    _waits = False
    _launch: Launch | None = None
    _rung: Rung | None = None
    _context: Any = None
    _watch: PodWatch | None = None
    _lease: lease.Lease | None = None
    _end: dict[str, Any] | None = None
    _about_pod = _is_given_up = _is_overtime = False
    _deferred_for: tuple[str, str] | None = None
    _asks_deadline = False
    _without: Mapping[str, Breaker] = MappingProxyType({})
    _gate: BudgetGate | None = None
    _returned: Any = None
    _attempts: Sequence[Attempt] = ()
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
        manager.leaves = self._leaves
        return manager

    @cached_property
    def breakers(self) -> Breakers:
        """What the team's attempts found out about pools."""
        return Breakers(self.client, self.placement.tenant.namespace)

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
        policy = self.retry_policy
        limits = policy.limits if isinstance(policy, CauseRetryPolicy) else None
        found = explain.figures(self.parts(), capacity_document.load(), rungs, limits, self.claim)
        budgets = budget_gate.of(self)
        return found | {
            "override": dataclasses.asdict(self.override) if self.override else None,
            "budgets": {name: dataclasses.asdict(each) for name, each in budgets.items()},
        }

    def market_now(self, context: Any) -> Market | None:
        """The market that its deadline demands ("on-demand") or allows ("spot"); None: the ladder decides."""
        waited, self._waits, self._asks_deadline = self._waits, False, False
        if self.market is not None or not self._has_deadline():
            return None
        from tidepool.operators import deadline_market  # which few DAG files need

        breakers, known = self._pools_known(), self._job_known()
        found = deadline_market.choice(context, self.get_dag(), self.placement.pools, breakers, known, WAIT_SECONDS)
        if found is None:
            return None
        self._asks_deadline = True
        self._waits = found.market is None
        if not (waited and self._waits):
            self.log.info("Its deadline: %s", found.why)
        return found.market or "spot"

    def _pools_known(self) -> dict[str, Breaker]:
        """What the team's attempts found out about pools, and this one itself."""
        now = time.time()
        own = {pool: found for pool, found in self._without.items() if found.state(now) is State.OPEN}
        return {**self.breakers.read(), **own}

    def _job_known(self) -> Known:
        """What the deadline's choice goes by."""
        from tidepool.operators.deadline_market import Known  # which few DAG files need

        policy = self.retry_policy
        platform = policy.platform if isinstance(policy, CauseRetryPolicy) else 0
        return Known(self.deadline, self.expected, self.checkpoint_every, self._attempts, platform)

    def _has_deadline(self) -> bool:
        return self.deadline is not None or bool(getattr(self.get_dag(), "deadline", None))

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """The pod, with its owner, its lease and the name that follows from its owner on it."""
        placement = self.placement
        if self._rung is not None:
            placement = dataclasses.replace(placement, pools=self._rung.pools)
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
            ti = context["ti"]
            labels, annotations = pods.owner(ti.dag_id, ti.task_id, context["run_id"], ti.try_number, self.team)
            pod.metadata.labels |= labels
            pod.metadata.annotations = {
                **pod.metadata.annotations,
                **annotations,
                LEASE: lease.until(LEASE_SECONDS),
            }
            if self._has_deadline():
                from tidepool.operators import deadline_market  # which few DAG files need

                pod.metadata.annotations |= deadline_market.annotation(context, self.get_dag(), self.deadline)
            self._add_checkpoint(pod, context)
            if self.random_name_suffix:
                base = pod.metadata.name.rpartition("-")[0]
                owner = (ti.dag_id, ti.task_id, context["run_id"], ti.map_index, ti.try_number)
                pod.metadata.name = reattach.pod_name(base, *owner)
        return pod

    def _add_checkpoint(self, pod: V1Pod, context: Any) -> None:
        """Tell the program where it finds what an earlier attempt has done, and leaves it for the next."""
        lake, ti = capacity_document.load().lake, context["ti"]
        if lake is None:
            return
        folder = pods.checkpoint_folder(lake.uri, ti.dag_id, ti.task_id, context["run_id"], ti.map_index)
        for container in pod.spec.containers:
            given = container.env or []
            if container.name == self.base_container_name and pods.CHECKPOINT_VARIABLE not in [e.name for e in given]:
                container.env = [*given, V1EnvVar(name=pods.CHECKPOINT_VARIABLE, value=folder)]

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Any) -> V1Pod:
        """The pod that an earlier attempt left running, else a new one; watched from here on."""
        if self._launch is None:
            self._launch = self._prepared(context)
        namespace = pod_request_obj.metadata.namespace
        pod = None
        if self.durable:
            selector = self._build_find_pod_label_selector(context, exclude_checked=False)
            pod = reattach.takeover(
                self.client, self.pod_manager, namespace, selector, self._give_up, self._is_to_be_told
            )
        if pod is None or not self._launch.adopt(pod, self._job_pools()):
            while self._waits:
                self._check_killed()
                time.sleep(WAIT_SECONDS)
                self._launch = self._climb(context)
                self.pod_request_obj = None  # it was for where the attempt would have gone without the wait
            return self._launch.first()
        self.log.info("Going on with pod %s of an earlier attempt", pod.metadata.name)
        self._rung = self._launch.rung
        reattach.claim(self.client, pod, context["ti"].try_number)
        return self._follow(pod)

    def await_pod_start(self, pod: V1Pod) -> None:
        """Wait until the pod has started, moving it up the ladder where it gets no machine."""
        if self._launch is not None:
            self.pod = self._launch.run(pod)
        else:
            super().await_pod_start(pod)

    def invoke_defer_method(self, last_log_time: Any = None, context: Any = None) -> None:
        """Defer once the pod has its machine or has come to the last rung; the trigger waits for the rest."""
        if self._launch is not None and self.pod is not None:
            try:
                self.pod = self._launch.run(self.pod, until_last=True)
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
        self._context = context
        self._attempt = context["ti"].try_number
        return self._concluded(lambda: self._executed(context), context)

    def _executed(self, context: Any) -> Any:
        self._launch = self._prepared(context)
        try:
            return super().execute(context)
        except _OverAlready as over:
            return over.returned

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Come back from the triggerer (deferrable=True) and conclude as `execute` does."""
        self._context = context
        self._attempt = context["ti"].try_number
        self._attempts = self._earlier_attempts(context)
        self._is_given_up = event.get("status") == "timeout" or LAUNCH_FAILED in str(event.get("stack_trace"))
        self._about_pod = event.get("status") == "failed" or self._is_given_up
        # The trigger's clocks are two: of the pod's start, and of the whole task.
        self._is_overtime = event.get("status") == "timeout" and "execution_timeout" in str(event.get("message"))
        self._deferred_for = (event["namespace"], event["name"])
        if LOG_READING in str(event.get("stack_trace")):
            # A machine that is lost hands on no log, and the pod's end must still be seen: the log is read then.
            self.logging_interval = None
        return self._concluded(lambda: self._reentered(context, event), context)

    def _reentered(self, context: Any, event: dict[str, Any]) -> Any:
        """The stock operator's, which takes a pod that is gone for one that returned nothing."""
        try:
            self._returned = super().trigger_reentry(context, event)
        except _OverAlready:
            return self._returned
        if self.do_xcom_push and self.pod is None and self.remote_pod is None:
            raise self._failed(Outcome(Cause.UNKNOWN, "the pod has succeeded, and was gone before its result was read"))
        return self._returned

    def extract_xcom(self, pod: V1Pod, *, ignore_kill_failure: bool = True) -> Any:
        """What the job returns (do_xcom_push=True): the JSON that its program wrote to /dev/termination-log.

        Raises JobFailed where that is none.
        """
        if self._is_given_up:
            return None  # the stock operator would wait for the end of a pod that has no machine
        istio = self.is_istio_enabled(pod)
        self.remote_pod = self.pod_manager.await_pod_completion(pod, istio, self.base_container_name, True)
        return self._result(ApiClient().sanitize_for_serialization(self.remote_pod))

    def _result(self, pod: dict[str, Any]) -> Any:
        try:
            return result(pod, self.base_container_name)
        except ValueError as error:
            raise self._failed(Outcome(Cause.APP_ERROR, str(error))) from error

    def cleanup(self, pod: V1Pod, remote_pod: V1Pod, xcom_result: Any = None, context: Any = None) -> None:
        """Delete the pod. Where the task was stopped the stock operator returns and Airflow sees a success: raise."""
        self._end = self._last_seen()  # what is seen from here on is this cleanup's own doing
        self._write_verdict(remote_pod)
        super().cleanup(pod, remote_pod, xcom_result=xcom_result, context=context)
        if self._killed:
            raise self._failed(ending.of_stop(context))

    def _write_verdict(self, pod: V1Pod | None) -> None:
        """Write on a pod that has not ended why it is given up."""
        error = sys.exception()
        if error is None or pod is None or self._killed or self._end is None or is_over(self._end):
            return
        if (found := self._outcome(error)) is not None:
            ending.write(self.client, pod, found.cause)

    def process_pod_deletion(self, pod: V1Pod, *, reraise: bool = True) -> bool:
        """Delete the pod if it is to be. Where that fails, a later run must not take its success for its own."""
        is_deleted: bool = super().process_pod_deletion(pod, reraise=reraise)
        if not is_deleted and pod is not None:
            self.patch_already_checked(pod, reraise=False)
        return is_deleted

    def _leaves(self, pod: V1Pod) -> bool:
        """Whether the pod is for the attempt after this one, which finds what it has done: this one is a leftover."""
        if self._killed or self._context is None:
            return False
        is_taken = reattach.is_held_by_later_attempt(self.client, pod, self._attempt)
        if is_taken or ending.is_given_up(self._context):
            self.log.info("Leaving pod %s to the next attempt", pod.metadata.name)
            return True
        return False

    def on_kill(self) -> None:
        """Delete the pod, unless a later attempt has taken it over: this one is a leftover of a lost scheduler."""
        if self.pod is not None and reattach.is_held_by_later_attempt(self.client, self.pod, self._attempt):
            self._killed = True
            self.log.info("Leaving pod %s to the attempt that took it over", self._pod_name())
            return
        super().on_kill()

    def _earlier_attempts(self, context: Any) -> list[Attempt]:
        """Those since the task began, or began anew."""
        attempts, most = remembered(context) or [], context["ti"].max_tries
        if isinstance(most, int):
            attempts, _ = retries.since_cleared(attempts, self._attempt, most, self.retries or 0)
        return attempts

    def _prepared(self, context: Any) -> Launch:
        """This attempt's size and ladder, after what ended those before it; the log says what is different."""
        size_overrides.take(self, context)
        capacity = size_overrides.offered(self)
        self._attempts = self._earlier_attempts(context)
        if words := retries.last_words(self._attempts, self._attempt):
            self.log.info(words)
        main, *members = self.parts()
        own = retries.of(self._attempts, members=False) if members else self._attempts
        placement = ladder.regrown(self.job, capacity, self.placement, own)
        if placement != main.placement:
            self._say_grown(main, placement)
            self.resize(placement, context)
        for part in members:
            if (placement := self._regrown(part, self._attempts)) != part.placement:
                self._say_grown(part, placement)
                self.resize_members(placement, context)
        return self._climb(context)

    def _regrown(self, part: Part, attempts: Sequence[Attempt]) -> Placement:
        """The placement of the job's other pods, after these attempts."""
        capacity = ladder.offered(capacity_document.load(), part.market, self.task_id)
        return ladder.regrown(part.job, capacity, part.placement, retries.of(attempts, members=True))

    def _say_grown(self, part: Part, placement: Placement) -> None:
        sizes = placement.memory_bytes >> 20, part.placement.memory_bytes >> 20
        whose = f", {part.name}" if len(self.parts()) > 1 else ""
        self.log.info("Now with %d MiB of memory instead of %d%s", *sizes, whose)

    def _climb(self, context: Any) -> Launch:
        """The ladder as pools and deadline are now; where there is time to wait for spot machines, `_waits` says so."""
        rungs = self._rungs_now(context)
        clocks = Clocks(pull=self.startup_timeout_seconds)
        return Launch(
            self.client,
            self.pod_manager,
            self.breakers,
            rungs,
            self._create,
            Limits(clocks, self.schedule_timeout_seconds, self.startup_check_interval_seconds),
            self.log,
            self.base_container_name,
            self.log_events_on_startup,
            self._rungs_after if self._asks_deadline else None,
        )

    def _rungs_now(self, context: Any) -> list[Rung]:
        """The rungs as pools and deadline are now. Where its deadline allows spot, on-demand is not the next best."""
        market = self.market_now(context)
        rungs = ladder.rungs(self.placement.pools, self._pools_known(), self._attempts, time.time(), market)
        if self._asks_deadline and market == "spot":
            rungs = [rung for rung in rungs if rung.is_spot] or rungs
        if not self._waits:
            self.log.info("Now on %s: %s", rungs[0].name, rungs[0].why)
            for line in explain.lines(self.figures(rungs)):
                self.log.info(line)
        self._rung = rungs[0]
        return rungs

    def _rungs_after(self, pool: str) -> list[Rung]:
        """The rungs once a spot pool had no machine: the deadline is asked again, and the attempt may wait before."""
        self._unfollow()
        self._without = {**self._without, pool: self._without.get(pool, Breaker()).failed(time.time())}
        rungs = self._rungs_now(self._context)
        while self._waits:
            self._check_killed()
            time.sleep(WAIT_SECONDS)
            rungs = self._rungs_now(self._context)
        self.pod_request_obj = None
        return rungs

    def _create(self, rung: Rung) -> V1Pod:
        """This attempt's pod on a rung, watched. Nothing is left behind by a task that is stopped meanwhile."""
        if self.pod_request_obj is None or rung is not self._rung:
            self._rung = rung
            self.pod_request_obj = self.build_pod_request_obj(self._context)
            for callback in self.callbacks:
                callback.on_pod_manifest_created(
                    pod_request=self.pod_request_obj,
                    client=self.client,
                    mode=ExecutionMode.SYNC,
                    context=self._context,
                    operator=self,
                )
        request = self.pod_request_obj
        self._check_killed()
        self._admit(request.metadata.name)
        self.pod = request  # on_kill deletes it by its name, whether or not its creation was answered by then
        created = self._create_within_quota(request)
        if self._killed:
            outlast(lambda: self.pod_manager.delete_pod(created))
            self._check_killed()
        return self._follow(created)

    def _admit(self, pod: str) -> None:
        """Wait for the budgets that the job counts towards, or fail by them."""
        context, rung = self._context, self._rung
        try:
            self._budgets().admit(pod, lambda: budget_gate.expected(self, context, rung), self._check_killed)
        except OverBudgetError as error:
            raise self._failed(Outcome(Cause.UNSCHEDULABLE, f"over its budget: {error}")) from error

    def _budgets(self) -> BudgetGate:
        if self._gate is None:
            self._gate = budget_gate.gate(self, self._context)
        return self._gate

    def _create_within_quota(self, request: V1Pod) -> V1Pod:
        """Create it, waiting for the team's other jobs where its quota is used up."""
        deadline = time.time() + self.schedule_timeout_seconds
        while True:
            try:
                return reattach.create(self.pod_manager, request)
            except reattach.NotOursError:
                self.pod = None  # it is not this task's to delete
                raise
            except ApiException as error:
                if not is_over_quota(error):
                    raise
                if time.time() >= deadline:
                    found = Outcome(Cause.UNSCHEDULABLE, f"the team's quota is used up: {error.body}")
                    raise self._failed(found) from error
                self.log.info("Waiting for the team's quota: %s", error.body)
            self._check_killed()
            time.sleep(QUOTA_SECONDS)

    def _follow(self, pod: V1Pod) -> V1Pod:
        """Watch the pod and renew its lease from here on."""
        self._unfollow()
        self.pod = pod
        name, namespace = pod.metadata.name, pod.metadata.namespace
        self._watch = PodWatch(self.client, name, namespace, self.pod_manager.stop_following)
        self._watch.start()
        self._lease = lease.Lease(self.client, name, namespace)
        self._lease.start()
        return pod

    def _unfollow(self) -> None:
        for thread in (self._watch, self._lease):
            if thread is not None:
                thread.stop()

    def _check_killed(self) -> None:
        if self._killed:
            raise self._failed(Outcome(Cause.CANCELLED, ending.STOPPED))

    def _give_up(self, pod: V1Pod) -> None:
        self.patch_already_checked(pod, reraise=False)
        self.process_pod_deletion(pod, reraise=False)

    def _is_to_be_told(self, pod: V1Pod) -> bool:
        """Whether a pod has failed by its own doing in an attempt of this run of the task that died before it said so.

        A machine's end needs no telling: the job is run again at once.
        """
        seen = ApiClient().sanitize_for_serialization(pod)
        number = (pod.metadata.labels or {}).get("try_number", "")
        first = retries.first_since_cleared(self._attempt, self._context["ti"].max_tries, self.retries or 0)
        is_own = conclude(Seen(seen, self.base_container_name)).cause in (Cause.APP_ERROR, Cause.OUT_OF_MEMORY)
        known = {attempt.number for attempt in self._attempts}
        return is_own and number.isdecimal() and int(number) >= first and int(number) not in known

    def _pod_name(self) -> str:
        return self.pod.metadata.name if self.pod is not None else "(none)"

    def _concluded(self, run: Callable[[], Any], context: Any) -> Any:
        """What `run` returns, or JobFailed with the cause where the pod's end is why it did not return well."""
        is_deferred = False
        try:
            returned = run()
        except TaskDeferred:
            is_deferred = not self._killed
            if is_deferred:
                raise
        except AirflowSkipException:
            raise
        except (AirflowException, AirflowTaskTimeout, ApiException, HTTPError) as error:
            if isinstance(error, AirflowTaskTimeout) and self.pod is not None:
                self._delete_unseen(self.pod)
            if not self._killed and (told := ending.told(error)) is not None:
                raise told from None
            found = ending.of_stop(context) if self._killed else self._outcome(error)
            if found is None:
                raise
            if found.cause is not Cause.OK:
                raise self._failed(found) from error
            self.log.warning("Pod %s has succeeded; what came after did not: %s", self._pod_name(), error)
            return self._result(self._end or self._last_seen() or {}) if self.do_xcom_push else None
        finally:
            self._unfollow()
            if self.pod is not None and not is_deferred:
                self._budgets().release(self._pod_name())
        if self._killed:
            raise self._failed(ending.of_stop(context))
        if (seconds := self._ran()) and self._has_deadline():
            from tidepool.operators import deadline_market  # which few DAG files need

            deadline_market.keep_runtime(context, self._job_known(), seconds)
        return returned

    def _delete_unseen(self, pod: V1Pod) -> None:
        """Delete a pod whose task's time was up before it was seen: the stock operator leaves it to `on_kill`, which
        Airflow calls only for a timeout that comes through to it.
        """
        try:
            self.pod_manager.delete_pod(pod)
        except (ApiException, HTTPError) as error:
            self.log.warning("Pod %s could not be deleted: %s", pod.metadata.name, error)

    def _failed(self, found: Outcome) -> JobFailed:
        """The exception for an end, with what the next attempt has to know of this one."""
        pool = self._pool()
        # A worker that has to go says nothing of the pool.
        where = {} if found is ending.WORKER_STOPPED else {"pool": pool.name, "market": pool.market}
        if where and found.cause in ladder.LOSSES and pool.market == "spot" and self.pod is not None:
            self.breakers.tell(pool.name, Breaker.lost)
        if found.cause is Cause.OUT_OF_MEMORY:
            size_overrides.roll_back(self, self._context, self._memory())
        memory, largest = self._memory_limits(found)
        # A pod that is left to the next attempt is that one's to account for.
        seconds = self._ran(found.cause in ladder.LOSSES) if where else 0.0
        return JobFailed(self._pod_name(), found, memory_bytes=memory, largest_bytes=largest, seconds=seconds, **where)

    def _ran(self, is_lost: bool = False) -> float:
        """Seconds for which the attempt ran. Its team learns of them if it was on a spot machine, and of its loss."""
        seconds = ran(self._end or self._last_seen(), self.base_container_name, time.time())
        pool = self._pool()
        if seconds and pool.market == "spot":
            self.breakers.tell(pool.name, lambda known, now: known.ran(now, seconds / 3600, int(is_lost)))
        return seconds

    def _memory_limits(self, found: Outcome) -> tuple[int, int]:
        """The memory limit of the pod, or of the job's other pods where it is they that ended so; and the most that
        they could have in another attempt.
        """
        for part in self.parts()[1:] if found.of_members else ():
            # After a deferral the operator is as its author made it.
            placement = self._regrown(part, self._attempts or remembered(self._context) or [])
            capacity = ladder.offered(capacity_document.load(), part.market, self.task_id)
            return placement.memory_bytes, ladder.largest(part.job, capacity, placement.cores)
        return self._memory(), ladder.largest(self.job, size_overrides.offered(self), self.placement.cores)

    def _memory(self) -> int:
        """The memory limit that the pod had: after a deferral only the pod itself knows."""
        spec = self.pod.spec if self.pod is not None else None
        for container in (spec.containers if spec is not None else None) or []:
            limits = (container.resources.limits if container.resources is not None else None) or {}
            if container.name == self.base_container_name and "memory" in limits:
                return quantity(limits["memory"])
        return self.placement.memory_bytes

    def _pool(self) -> Pool:
        """Where the pod is or was, as far as is known: by its launch, else by its machine, else where it was to go."""
        pools = self._rung.pools if self._rung is not None else self.placement.pools
        if not self._landed:
            self._landed = self._launch.landed if self._launch is not None else self._landed_deferred()
        labels = self.pod.metadata.labels if self.pod is not None else None
        name = self._landed or (labels or {}).get(capacity_document.POOL_LABEL)
        return next((pool for pool in (*pools, *self._job_pools()) if pool.name == name), pools[0])

    def _landed_deferred(self) -> str:
        """The pool whose machine a pod got while its task was deferred."""
        pod, pools = self._last_seen(), self._job_pools()
        if pod is None:
            return ""
        return evidence.pool(self.client, pod, pods.may_land_on(pod, pools) or pools)

    def _job_pools(self) -> tuple[Pool, ...]:
        return tuple(pool for pool in capacity_document.load().pools.values() if pool.jobs)

    def _outcome(self, error: BaseException) -> Outcome | None:
        """How the pod ended, if that is what the error is about."""
        gone = self._watch is not None and self._watch.is_gone and self._end is None
        seen = Seen(self._end or self._last_seen(), self.base_container_name, gone, market=self._pool().market)
        limit = self.execution_timeout
        return ending.of_error(self.client, error, seen, limit, self._about_pod, self._is_overtime)

    def _last_seen(self) -> dict[str, Any] | None:
        """The pod as the watch saw it last, else as the stock operator did.

        Deferrable tasks have no watch, and one that was broken off may be behind.
        """
        watched = self._watch.last if self._watch is not None else None
        seen = self.remote_pod or self.pod
        if seen is None and watched is None and self._deferred_for is not None:
            return evidence.gone_pod(self.client, *self._deferred_for)
        if seen is None or seen.status is None or (watched is not None and is_over(watched)):
            return watched
        found: dict[str, Any] = ApiClient().sanitize_for_serialization(seen)
        if watched is None or (is_over(found) and found["metadata"].get("uid") == watched["metadata"].get("uid")):
            return found
        return watched
