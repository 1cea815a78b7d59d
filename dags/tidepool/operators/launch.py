"""From a pod that was asked for to one that runs: up the ladder, one pod at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import PodLaunchFailedException
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from kubernetes.client import ApiClient, CoreV1Api, V1Pod

from tidepool import ladder
from tidepool.breaker import Breaker
from tidepool.capacity import Pool
from tidepool.ladder import Clocks, Journey, Rung, Stage, Stuck
from tidepool.objects import Object
from tidepool.operators import ending, evidence
from tidepool.operators.breakers import Breakers
from tidepool.operators.pod_manager import JobPodManager
from tidepool.operators.reattach import await_gone
from tidepool.outcome import Cause, JobFailed, outcome
from tidepool.pod import may_land_on

MOST_REFUSALS = 5
"""So often machines may refuse the pod before it ran, as where the scheduler is faster than a kubelet's accounts."""

EVENT_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """clocks: of each pod. schedule_seconds: for a machine, all rungs together. interval: between two looks.

    What a pod waits for before it is made, such as a budget or its team's quota, has clocks of its own.
    """

    clocks: Clocks
    schedule_seconds: float
    interval: float


class Launch:
    """Brings one attempt's pod to run. create: makes the pod of a rung, once the one before it is gone.

    again: the rungs after the last one, if that was of spot machines, by the name of a pool that had none; it may take
    its time. landed: the pool whose machine the pod has, once it has one.
    """

    def __init__(
        self,
        api: CoreV1Api,
        manager: JobPodManager,
        breakers: Breakers,
        rungs: Sequence[Rung],
        create: Callable[[Rung], V1Pod],
        limits: Limits,
        log: Any,
        container: str = "base",
        log_events: bool = True,
        again: Callable[[str], Sequence[Rung]] | None = None,
    ) -> None:
        self._api = api
        self._manager = manager
        self._breakers = breakers
        self._rungs = list(rungs)
        self._create = create
        self._limits = limits
        self._log = log
        self._container = container
        self._log_events = log_events
        self._again = again
        self.landed = ""
        self._began = 0.0
        self._step = 0
        self._refusals = 0
        self._told: set[str] = set()
        self._found: V1Pod | None = None

    @property
    def rung(self) -> Rung:
        """Where the pod is now, or is to be."""
        return self._rungs[self._step]

    @property
    def is_last(self) -> bool:
        """No further rung: the pod waits here as long as it may."""
        return not self._has_next and (self._again is None or not self.rung.is_spot)

    @property
    def _has_next(self) -> bool:
        return self._step + 1 < len(self._rungs)

    def first(self) -> V1Pod:
        """Make the first pod."""
        self._began = time.time()
        return self._enter()

    def adopt(self, pod: V1Pod, pools: Sequence[Pool]) -> bool:
        """Go on from the rung of a pod that an earlier attempt made. pools: that there are.

        False where it waits for a machine where this attempt would not go: then it is deleted.
        """
        self._began = time.time()
        seen: Object = ApiClient().sanitize_for_serialization(pod)
        allowed = may_land_on(seen, pools)
        names = {pool.name for pool in allowed}
        for step, rung in enumerate(self._rungs):
            if {pool.name for pool in rung.pools} == names:
                self._step = step
                return True
        if not seen["spec"].get("nodeName") and ladder.stage(seen, ()) is not Stage.STARTED and self._remove(pod):
            return False
        self._rungs.insert(0, Rung(allowed or self._rungs[-1].pools, "an earlier attempt's pod is there"))
        return True

    def run(self, pod: V1Pod, until_last: bool = False) -> V1Pod:
        """Wait until the pod has started; where it is stuck, go on with one on the next rung. Returns the last one.

        until_last: return also from a pod that waits on the last rung, for somebody else to wait for.
        Raises PodLaunchTimeoutException where a clock ran out, PodLaunchFailedException where it can't start.
        """
        while True:
            problem = self._wait(pod, until_last)
            if problem is None:
                return pod
            pod = self._next(pod, problem)

    def _enter(self) -> V1Pod:
        asked = time.time()
        while self.rung.is_probe and not self._breakers.probe(self.rung.pools[0].name) and not self.is_last:
            self._log.info("Another attempt tries %s", self.rung.name)
            self._climb()
        pod = self._create(self.rung)
        self._began += time.time() - asked
        return pod

    def _wait(self, pod: V1Pod, until_last: bool) -> Stuck | None:
        """Why the pod is not to be waited for any longer; None once it has started."""
        journey = Journey(self._began)
        made, has_machine = time.time(), False
        events: list[Object] = []
        looked = 0.0
        while True:
            self._found = found = self._manager.read_pod(pod)
            seen: Object = ApiClient().sanitize_for_serialization(found)
            now = time.time()
            if now - looked >= EVENT_SECONDS:
                events, looked = evidence.events(self._api, seen), now
                self._tell(events)
            reached = ladder.stage(seen, events)
            if line := journey.at(reached, now):
                self._log.info("Pod %s on %s: %s", pod.metadata.name, self.rung.name, line)
            if reached not in (Stage.ASKED, Stage.BUYING) and not has_machine:
                has_machine = True
                self.landed = self._pool(seen)
                self._breakers.tell(self.landed, Breaker.started)
            if reached is Stage.STARTED:
                return self._refused(seen)
            if reached in (Stage.ASKED, Stage.BUYING):
                problem = ladder.stuck(seen, events, now - made, self._limits.clocks)
                if problem is not None and not self.is_last:
                    return problem
                if until_last and self.is_last:
                    return None
                self._check_schedule(now)
            else:
                self._check_start(seen, reached, journey.inside(reached, now))
            time.sleep(self._limits.interval)

    def _next(self, pod: V1Pod, problem: Stuck) -> V1Pod:
        """Delete the pod, be sure that it is gone, make one on the next rung. The same pod if it got on meanwhile."""
        if not self._remove(self._found or pod):
            return pod
        self._log.info("No machine on %s: %s", self.rung.name, problem.why)
        if not problem.is_full and len(self.rung.pools) == 1:
            self._breakers.tell(self.rung.pools[0].name, Breaker.failed)
        if not self.is_last:
            self._climb()
        self._log.info("Next: %s: %s", self.rung.name, self.rung.why)
        return self._enter()

    def _climb(self) -> None:
        """To the next rung; where the ladder ends with spot machines, to what comes instead, with a new clock."""
        if self._has_next or self._again is None:
            self._step += 1
        else:
            self._rungs, self._step = list(self._again(self.rung.pools[0].name)), 0
            self._began = time.time()

    def _remove(self, stuck: V1Pod) -> bool:
        """Delete a pod as it was read, and wait until it is gone; false where it has got on meanwhile.

        One that a later attempt took over is that one's, and this attempt a leftover: it ends.
        """
        name = stuck.metadata.name
        if self._manager.leaves(stuck):
            raise JobFailed(name, ending.WORKER_STOPPED)
        if not self._manager.delete_unchanged(stuck):
            return False
        if not await_gone(self._manager, stuck):
            raise PodLaunchTimeoutException(f"pod {name} was deleted, and does not go away")
        return True

    def _refused(self, seen: Object) -> Stuck | None:
        """A pod that left Pending runs, or was refused by its machine: that one never ran, and is asked for again."""
        status = seen.get("status") or {}
        if status.get("phase") != "Failed" or status.get("containerStatuses"):
            return None
        end = outcome(seen, self._container)
        self._refusals += 1
        if end.cause is not Cause.UNSCHEDULABLE or self._refusals > MOST_REFUSALS:
            raise PodLaunchFailedException(end.message)
        return Stuck(end.message, is_full=True)

    def _check_schedule(self, now: float) -> None:
        if now - self._began < self._limits.schedule_seconds:
            return
        if len(self.rung.pools) == 1:
            self._breakers.tell(self.rung.pools[0].name, Breaker.failed)
        tried = ", ".join(dict.fromkeys(pool.name for rung in self._rungs for pool in rung.pools))
        raise PodLaunchTimeoutException(
            f"no machine of {tried} within schedule_timeout_seconds={self._limits.schedule_seconds:g}"
        )

    def _check_start(self, seen: Object, reached: Stage, seconds: float) -> None:
        if why := ladder.hopeless(seen, self._container):
            raise PodLaunchFailedException(why)
        clocks = self._limits.clocks
        if reached is Stage.PULLING and seconds >= clocks.pull:
            raise PodLaunchTimeoutException(f"the image is not there within startup_timeout_seconds={clocks.pull:g}")
        if reached is Stage.STARTING and seconds >= clocks.start:
            raise PodLaunchTimeoutException(f"the container does not start within {clocks.start:g} s")

    def _pool(self, seen: Object) -> str:
        """The pool whose machine the pod got: known, or read from the machine."""
        return evidence.pool(self._api, seen, self.rung.pools) or self.rung.pools[0].name

    def _tell(self, events: Sequence[Object]) -> None:
        for event in events:
            line = f"{event.get('reason')}: {event.get('message')}"
            if self._log_events and line not in self._told:
                self._told.add(line)
                self._log.info("Pod event: %s", line)
