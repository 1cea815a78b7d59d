"""The attempt that runs now: its size and its ladder, the pod that it makes or takes over, and who follows that."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.cncf.kubernetes.callbacks import ExecutionMode
from kubernetes.client import ApiClient, V1Pod
from kubernetes.client.exceptions import ApiException

from tidepool import capacity as capacity_document
from tidepool import explain, ladder, retries
from tidepool.breaker import Breaker, State
from tidepool.capacity import Market, Pool
from tidepool.explain import Part
from tidepool.ladder import Clocks, Rung
from tidepool.operators import budget_gate, ending, lease, reattach, size_overrides
from tidepool.operators.budget_gate import BudgetGate, OverBudgetError
from tidepool.operators.launch import Launch, Limits
from tidepool.operators.pod_manager import is_over_quota, outlast
from tidepool.operators.pod_watch import PodWatch
from tidepool.operators.retry_policy import CauseRetryPolicy, remembered
from tidepool.outcome import Cause, Outcome, Seen, conclude
from tidepool.sizing import Placement

if TYPE_CHECKING:
    from tidepool.operators.deadline_market import Known
    from tidepool.operators.job_pod import JobPodOperator

QUOTA_SECONDS = 10.0

WAIT_SECONDS = 60.0
"""How soon a task that waits for spot machines asks again."""


class Attempt:
    """One attempt of an operator's job while it runs; one that has ended is a `retries.Attempt`.

    number: Airflow's try number. earlier: the attempts before it. launch: what brings its pod to run; None in a task
    that comes back from the triggerer. watch: on its pod, where this task follows that itself.
    """

    def __init__(self, operator: JobPodOperator) -> None:
        self.operator = operator
        self.context: Any = None
        self.number = 0
        self.earlier: Sequence[retries.Attempt] = ()
        self.launch: Launch | None = None
        self.watch: PodWatch | None = None
        self._lease: lease.Lease | None = None
        self._gate: BudgetGate | None = None
        self._waits = False
        self._asks_deadline = False
        self._without: Mapping[str, Breaker] = MappingProxyType({})

    def begin(self, context: Any) -> Self:
        """It is the attempt of this context."""
        self.context = context
        self.number = context["ti"].try_number
        return self

    def remember(self) -> None:
        """Read which attempts were before it, since the task began, or began anew."""
        attempts, most = remembered(self.context) or [], self.context["ti"].max_tries
        if isinstance(most, int):
            attempts, _ = retries.since_cleared(attempts, self.number, most, self.operator.retries or 0)
        self.earlier = attempts

    def prepare(self) -> Launch:
        """Its size and ladder, after what ended those before it; the log says what is different."""
        operator = self.operator
        size_overrides.take(operator, self.context)
        capacity = size_overrides.offered(operator)
        self.remember()
        if words := retries.last_words(self.earlier, self.number):
            operator.log.info(words)
        main, *members = operator.parts()
        own = retries.of(self.earlier, members=False) if members else self.earlier
        placement = ladder.regrown(operator.job, capacity, operator.placement, own)
        if placement != main.placement:
            self._say_grown(main, placement)
            operator.resize(placement, self.context)
        for part in members:
            if (placement := self.regrown(part, self.earlier)) != part.placement:
                self._say_grown(part, placement)
                operator.resize_members(placement, self.context)
        self.launch = self._climb()
        return self.launch

    def regrown(self, part: Part, attempts: Sequence[retries.Attempt]) -> Placement:
        """The placement of the job's other pods, after these attempts."""
        capacity = ladder.offered(capacity_document.load(), part.market, self.operator.task_id)
        return ladder.regrown(part.job, capacity, part.placement, retries.of(attempts, members=True))

    def _say_grown(self, part: Part, placement: Placement) -> None:
        sizes = placement.memory_bytes >> 20, part.placement.memory_bytes >> 20
        whose = f", {part.name}" if len(self.operator.parts()) > 1 else ""
        self.operator.log.info("Now with %d MiB of memory instead of %d%s", *sizes, whose)

    def _climb(self) -> Launch:
        """The ladder as pools and deadline are now; where there is time to wait for spot machines, `_waits` says so."""
        operator = self.operator
        rungs = self._rungs_now()
        clocks = Clocks(pull=operator.startup_timeout_seconds)
        return Launch(
            operator.client,
            operator.pod_manager,
            operator.breakers,
            rungs,
            self._create,
            Limits(clocks, operator.schedule_timeout_seconds, operator.startup_check_interval_seconds),
            operator.log,
            operator.base_container_name,
            operator.log_events_on_startup,
            self._rungs_after if self._asks_deadline else None,
        )

    def _rungs_now(self) -> list[Rung]:
        """The rungs as pools and deadline are now. Where its deadline allows spot, on-demand is not the next best."""
        operator, market = self.operator, self._market_now()
        rungs = ladder.rungs(operator.placement.pools, self._pools_known(), self.earlier, time.time(), market)
        if self._asks_deadline and market == "spot":
            rungs = [rung for rung in rungs if rung.is_spot] or rungs
        if not self._waits:
            operator.log.info("Now on %s: %s", rungs[0].name, rungs[0].why)
            for line in explain.lines(operator.figures(rungs)):
                operator.log.info(line)
        operator.rung = rungs[0]
        return rungs

    def _market_now(self) -> Market | None:
        """The market that its deadline demands ("on-demand") or allows ("spot"); None: the ladder decides."""
        operator = self.operator
        waited, self._waits, self._asks_deadline = self._waits, False, False
        if operator.market is not None or not operator.has_deadline:
            return None
        from tidepool.operators import deadline_market  # which few DAG files need

        pools, dag = operator.placement.pools, operator.get_dag()
        found = deadline_market.choice(self.context, dag, pools, self._pools_known(), self.known(), WAIT_SECONDS)
        if found is None:
            return None
        self._asks_deadline = True
        self._waits = found.market is None
        if not (waited and self._waits):
            operator.log.info("Its deadline: %s", found.why)
        return found.market or "spot"

    def _pools_known(self) -> dict[str, Breaker]:
        """What the team's attempts found out about pools, and this one itself."""
        now = time.time()
        own = {pool: found for pool, found in self._without.items() if found.state(now) is State.OPEN}
        return {**self.operator.breakers.read(), **own}

    def known(self) -> Known:
        """What the deadline's choice goes by."""
        from tidepool.operators.deadline_market import Known  # which few DAG files need

        operator, policy = self.operator, self.operator.retry_policy
        platform = policy.platform if isinstance(policy, CauseRetryPolicy) else 0
        return Known(operator.deadline, operator.expected, operator.checkpoint_every, self.earlier, platform)

    def _rungs_after(self, pool: str) -> list[Rung]:
        """The rungs once a spot pool had no machine: the deadline is asked again, and the attempt may wait before."""
        self.unfollow()
        self._without = {**self._without, pool: self._without.get(pool, Breaker()).failed(time.time())}
        rungs = self._rungs_now()
        while self._waits:
            self.check_killed()
            time.sleep(WAIT_SECONDS)
            rungs = self._rungs_now()
        self.operator.pod_request_obj = None
        return rungs

    def pod(self, namespace: str) -> V1Pod:
        """The pod that an earlier attempt left running, else a new one; watched from here on."""
        operator = self.operator
        launch = self.launch or self.prepare()
        pod = None
        if operator.durable:
            selector = operator._build_find_pod_label_selector(self.context, exclude_checked=False)
            pod = reattach.takeover(
                operator.client, operator.pod_manager, namespace, selector, self._give_up, self._is_to_be_told
            )
        if pod is None or not launch.adopt(pod, job_pools()):
            while self._waits:
                self.check_killed()
                time.sleep(WAIT_SECONDS)
                self.launch = launch = self._climb()
                operator.pod_request_obj = None  # it was for where the attempt would have gone without the wait
            return launch.first()
        operator.log.info("Going on with pod %s of an earlier attempt", pod.metadata.name)
        operator.rung = launch.rung
        reattach.claim(operator.client, pod, self.number)
        return self._follow(pod)

    def _give_up(self, pod: V1Pod) -> None:
        self.operator.patch_already_checked(pod, reraise=False)
        self.operator.process_pod_deletion(pod, reraise=False)

    def _is_to_be_told(self, pod: V1Pod) -> bool:
        """Whether a pod has failed by its own doing in an attempt of this run of the task that died before it said so.

        A machine's end needs no telling: the job is run again at once.
        """
        seen = ApiClient().sanitize_for_serialization(pod)
        number = (pod.metadata.labels or {}).get("try_number", "")
        first = retries.first_since_cleared(self.number, self.context["ti"].max_tries, self.operator.retries or 0)
        cause = conclude(Seen(seen, self.operator.base_container_name)).cause
        is_own = cause in (Cause.APP_ERROR, Cause.OUT_OF_MEMORY)
        known = {attempt.number for attempt in self.earlier}
        return is_own and number.isdecimal() and int(number) >= first and int(number) not in known

    def _create(self, rung: Rung) -> V1Pod:
        """Its pod on a rung, watched. Nothing is left behind by a task that is stopped meanwhile."""
        operator = self.operator
        if operator.pod_request_obj is None or rung is not operator.rung:
            operator.rung = rung
            operator.pod_request_obj = operator.build_pod_request_obj(self.context)
            for callback in operator.callbacks:
                callback.on_pod_manifest_created(
                    pod_request=operator.pod_request_obj,
                    client=operator.client,
                    mode=ExecutionMode.SYNC,
                    context=self.context,
                    operator=operator,
                )
        request = operator.pod_request_obj
        self.check_killed()
        self._admit(request.metadata.name)
        operator.pod = request  # on_kill deletes it by its name, whether or not its creation was answered by then
        created = self._create_within_quota(request)
        if operator._killed:
            outlast(lambda: operator.pod_manager.delete_pod(created))
            self.check_killed()
        return self._follow(created)

    def _admit(self, pod: str) -> None:
        """Wait for the budgets that the job counts towards, or fail by them."""
        operator, context, rung = self.operator, self.context, self.operator.rung
        try:
            self.budgets().admit(pod, lambda: budget_gate.expected(operator, context, rung), self.check_killed)
        except OverBudgetError as error:
            raise operator.conclusion.failed(Outcome(Cause.UNSCHEDULABLE, f"over its budget: {error}")) from error

    def budgets(self) -> BudgetGate:
        """The gate of the budgets that the job counts towards."""
        if self._gate is None:
            self._gate = budget_gate.gate(self.operator, self.context)
        return self._gate

    def _create_within_quota(self, request: V1Pod) -> V1Pod:
        """Create it, waiting for the team's other jobs where its quota is used up."""
        operator = self.operator
        deadline = time.time() + operator.schedule_timeout_seconds
        while True:
            try:
                return reattach.create(operator.pod_manager, request)
            except reattach.NotOursError:
                operator.pod = None  # it is not this task's to delete
                raise
            except ApiException as error:
                if not is_over_quota(error):
                    raise
                if time.time() >= deadline:
                    found = Outcome(Cause.UNSCHEDULABLE, f"the team's quota is used up: {error.body}")
                    raise operator.conclusion.failed(found) from error
                operator.log.info("Waiting for the team's quota: %s", error.body)
            self.check_killed()
            time.sleep(QUOTA_SECONDS)

    def _follow(self, pod: V1Pod) -> V1Pod:
        """Watch the pod and renew its lease from here on."""
        self.unfollow()
        operator = self.operator
        operator.pod = pod
        name, namespace = pod.metadata.name, pod.metadata.namespace
        self.watch = PodWatch(operator.client, name, namespace, operator.pod_manager.stop_following)
        self.watch.start()
        self._lease = lease.Lease(operator.client, name, namespace)
        self._lease.start()
        return pod

    def unfollow(self) -> None:
        """Neither watch the pod nor renew its lease any more; what was seen of it stays."""
        for thread in (self.watch, self._lease):
            if thread is not None:
                thread.stop()

    def check_killed(self) -> None:
        """Raise JobFailed where the task was stopped."""
        if self.operator._killed:
            raise self.operator.conclusion.failed(Outcome(Cause.CANCELLED, ending.STOPPED))

    def is_taken_over(self, pod: V1Pod) -> bool:
        """Whether a later attempt holds the pod: this one is a leftover."""
        return reattach.is_held_by_later_attempt(self.operator.client, pod, self.number)

    def leaves(self, pod: V1Pod) -> bool:
        """Whether the pod is for the attempt after this one, which finds what it has done: this one is a leftover."""
        if self.operator._killed or self.context is None:
            return False
        is_taken = self.is_taken_over(pod)
        if is_taken or ending.is_given_up(self.context):
            self.operator.log.info("Leaving pod %s to the next attempt", pod.metadata.name)
            return True
        return False


def job_pools() -> tuple[Pool, ...]:
    """The pools that there are for jobs."""
    return tuple(pool for pool in capacity_document.load().pools.values() if pool.jobs)
