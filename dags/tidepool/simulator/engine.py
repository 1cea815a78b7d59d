"""One policy over one workload, from event to event. The same seed gives the same history.

What is simulated: pods wait for the first machine with room; the autoscaler scans, lets machines that are on their way
take pods first, asks for more in the order of the pools' priorities, passes over pools that got none, and gives back
machines that stayed empty; spot pools have machines or not, and machines are reclaimed. With the ladder a pod goes from
rung to rung, breakers remember what it met there, and a reclaimed job is retried at once; without, whichever pool gives
a machine is taken, and a reclaimed machine is noticed as stock Kubernetes and Airflow do.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from tidepool import ladder, retries
from tidepool.breaker import Breaker
from tidepool.ladder import Clocks, Rung
from tidepool.ledger.events import Event
from tidepool.outcome import Cause
from tidepool.retries import Attempt, Limits
from tidepool.simulator import machines
from tidepool.simulator.assumptions import Assumptions
from tidepool.simulator.machines import EPOCH, Machine, Pod, Progress, Record
from tidepool.simulator.policies import MachinePool, Policy
from tidepool.simulator.scaler import Scaler
from tidepool.simulator.spot import Market
from tidepool.simulator.workloads import DAY, Workload
from tidepool.sizing import Placement

AROUND = 1 / 3
"""Launch and boot take so much more or less than their mean."""

LIMITS = Limits(author=0)
"""Nothing that ends a job here is its own doing; without the ladder it is retried as often as with it."""


@dataclass(frozen=True)
class History:
    """What happened. jobs: in the workload's order. until: when the last machine had gone, in Unix seconds."""

    policy: Policy
    events: list[Event]
    jobs: list[Progress]
    until: float
    machines: int
    peak: int
    reclaims: int


def run(policy: Policy, workload: Workload, market: Market, assumptions: Assumptions, seed: int) -> History:
    """The whole history of a policy. Raises PoolError where a job fits no machine."""
    return _Engine(policy, workload, market, assumptions, seed).run()


class _Engine:
    def __init__(self, policy: Policy, workload: Workload, market: Market, assumptions: Assumptions, seed: int) -> None:
        self._policy = policy
        self._workload = workload
        self._market = market
        self._assumed = assumptions
        self._rng = random.Random(f"{policy.name} {workload.name} {seed}")  # noqa: S311
        self._record = Record()
        self._now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._numbers = itertools.count(1)
        self._jobs = [Progress() for _ in workload.jobs]
        self._next: dict[int, list[int]] = {}
        self._placements: dict[tuple[int, int], Placement] = {}
        self._ready: dict[str, dict[str, Machine]] = {name: {} for name in policy.pools}  # with room
        self._coming: dict[str, dict[str, Machine]] = {name: {} for name in policy.pools}  # with room
        self._count = dict.fromkeys(policy.pools, 0)
        self._idle: dict[str, Machine] = {}
        self._pending: dict[str, Pod] = {}
        self._breakers: dict[str, Breaker] = {}
        self._scaler = Scaler(policy)
        self._scan_at = math.inf
        self._there = self._peak = self._reclaims = 0
        self._bought: list[Machine] = []

    def run(self) -> History:
        for index, job in enumerate(self._workload.jobs):
            if job.after is None:
                self._at(job.submit, lambda index=index: self._submit(index))  # type: ignore[misc]
            else:
                self._next.setdefault(job.after, []).append(index)
        while self._heap:
            self._now, _, action = heapq.heappop(self._heap)
            action()
        until = max((event.time for event in self._record.events), default=EPOCH) - EPOCH
        if self._policy.is_fixed:
            until = max(self._workload.days * DAY, until)
            for machine in self._bought:
                self._record.machine("machine.gone", until, machine, machine.pool.pool.market)
        return History(
            policy=self._policy,
            events=self._record.events,
            jobs=self._jobs,
            until=EPOCH + until,
            machines=len(self._bought),
            peak=self._peak,
            reclaims=self._reclaims,
        )

    def _at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(time, self._now), next(self._order), action))

    # Jobs.

    def _submit(self, index: int) -> None:
        """The next attempt of a job."""
        job, progress = self._workload.jobs[index], self._jobs[index]
        if progress.submitted is None:
            progress.submitted = self._now
        key = (job.cores, job.memory_bytes)
        placed = self._placements.get(key)
        if placed is None:
            placed = self._placements[key] = self._policy.place(job)
        number = len(progress.attempts) + 1
        pod = Pod(
            job=index,
            attempt=number,
            uid=f"{index}-{number}",
            cpu=placed.cpu_millis,
            memory=placed.memory_bytes,
            rungs=self._rungs(placed, progress.attempts),
            made=self._now,
            stepped=self._now,
        )
        self._record.queued(self._now, pod, job)
        self._enter(pod)

    def _rungs(self, placed: Placement, attempts: list[Attempt]) -> list[Rung]:
        if not self._policy.has_ladder:
            return [Rung(placed.pools, "")]
        return ladder.rungs(placed.pools, self._breakers, attempts, EPOCH + self._now)

    def _enter(self, pod: Pod) -> None:
        """The pod is on its rung: it gets a machine that is there, or waits."""
        if pod.rung.is_probe and len(pod.rung.pools) == 1:
            self._tell(pod.pools[0], Breaker.probed)
        for name in pod.pools:
            for machine in self._ready[name].values():
                if machine.has_room(pod):
                    self._start(pod, machine)
                    return
        if self._policy.is_fixed:
            self._start(pod, self._always_there(pod))
            return
        self._pending[pod.uid] = pod
        self._scan_soon()

    def _start(self, pod: Pod, machine: Machine) -> None:
        self._denominate(pod)
        self._pending.pop(pod.uid, None)
        self._idle.pop(machine.id, None)
        machine.idle_since = None
        machine.take(pod)
        machine.pods[pod.uid] = pod
        machine.last_pod = pod.uid
        if machine.is_full:
            self._ready[machine.pool.pool.name].pop(machine.id, None)
        self._record.pod("pod.scheduled", self._now, pod, machine)
        if self._policy.has_ladder:
            self._tell(machine.pool.pool.name, Breaker.started)
        pull = 0.0 if machine.has_image else self._assumed.pull_seconds
        machine.has_image = True  # a second pod of the same moment waits for the same layers, and hardly longer
        if pull:
            self._record.pod("pod.pulling", self._now, pod, machine)
        begin = self._now + pull + self._assumed.start_seconds
        self._at(begin, lambda: None if pod.is_over else self._record.pod("pod.running", self._now, pod, machine))
        self._at(begin + self._workload.jobs[pod.job].seconds, lambda: self._done(pod, machine))

    def _done(self, pod: Pod, machine: Machine) -> None:
        if pod.is_over:
            return
        self._leave(pod, machine, Cause.OK)
        self._jobs[pod.job].done = self._now
        for index in self._next.get(pod.job, ()):
            job = self._workload.jobs[index]
            self._at(self._now + job.submit, lambda index=index: self._submit(index))  # type: ignore[misc]

    def _lost(self, pod: Pod, machine: Machine, cause: Cause) -> None:
        """The pod's machine was taken away."""
        pool = machine.pool.pool
        self._leave(pod, machine, cause)
        progress = self._jobs[pod.job]
        progress.attempts.append(Attempt(pod.attempt, cause, "", pool.name, pool.market, pod.memory))
        decision = retries.decide(progress.attempts, LIMITS)
        wait = decision.delay_seconds or 0.0
        if self._policy.has_ladder:
            self._tell(pool.name, Breaker.lost)
        else:
            wait = self._assumed.default_notice_seconds + self._assumed.default_retry_seconds
        if decision.retry:
            self._at(self._now + wait, lambda: self._submit(pod.job))
        else:
            progress.failed = decision.reason

    def _leave(self, pod: Pod, machine: Machine, cause: Cause) -> None:
        pod.is_over = True
        self._record.pod("pod.ended", self._now, pod, machine, cause.value)
        del machine.pods[pod.uid]
        machine.give(pod)
        if machine.is_cordoned or machine.is_gone:
            return
        self._offer(machine)

    def _offer(self, machine: Machine) -> None:
        """A ready machine with room: to the pods that wait, longest first; else it idles."""
        name = machine.pool.pool.name
        self._ready[name][machine.id] = machine
        for pod in list(self._pending.values()) if self._pending else ():
            if machine.is_full:
                break
            if name in pod.pools and machine.has_room(pod):
                self._start(pod, machine)
        if not machine.pods and not self._policy.is_fixed:
            self._record.machine("machine.idle", self._now, machine, "", machine.last_pod)
            machine.idle_since = self._now
            self._idle[machine.id] = machine
            self._scan_by(self._scaler.due(machine))

    # The autoscaler.

    def _scan_soon(self) -> None:
        self._scan_by(self._scaler.next_scan(self._now))

    def _scan_by(self, time: float) -> None:
        if time < self._scan_at:
            self._scan_at = time
            self._at(time, lambda: self._scan(time))

    def _scan(self, time: float) -> None:
        if time != self._scan_at:
            return  # an earlier one was asked for after this one
        self._scan_at = math.inf
        for pod in list(self._pending.values()):
            if pod.uid in self._pending and pod.nominated is None:
                self._grow(pod)
        if self._policy.has_ladder:
            self._climb()
        self._shrink()
        if self._pending:
            self._scan_soon()

    def _grow(self, pod: Pod) -> None:
        """A machine for the pod: one that comes and has room, else a new one."""
        for name in pod.pools:
            for machine in self._coming[name].values():
                if machine.has_room(pod):
                    self._nominate(pod, machine)
                    return
        chosen = self._scaler.choose(pod, self._count, self._now)
        if chosen is not None:
            self._nominate(pod, self._ask(chosen))

    def _ask(self, pool: MachinePool) -> Machine:
        """The group is raised by one: EC2 launches a machine, or has none."""
        name, market = pool.pool.name, pool.pool.market
        # EC2's allocation strategies: lowest-price on-demand; price-capacity-optimized, so not by price alone, on spot.
        kind, _ = pool.cheapest if market == "on-demand" else self._rng.choice(pool.types)
        machine = machines.new(next(self._numbers), pool, kind)
        self._coming[name][machine.id] = machine
        self._count[name] += 1
        self._scaler.asked(self._now)
        if market == "spot" and not self._market.at(name, self._now)[0]:
            self._at(self._now + self._assumed.failure_seconds, lambda: self._none_there(machine))
        else:
            self._at(self._now + self._about(self._assumed.launch_seconds), lambda: self._launched(machine))
        return machine

    def _about(self, seconds: float) -> float:
        return round(seconds * self._rng.uniform(1 - AROUND, 1 + AROUND), 3)

    def _launched(self, machine: Machine) -> None:
        market = machine.pool.pool.market
        self._bought.append(machine)
        self._there += 1
        self._peak = max(self._peak, self._there)
        self._record.machine("machine.launched", self._now, machine, market)
        self._at(self._now + self._about(self._assumed.boot_seconds), lambda: self._is_ready(machine))
        if market == "spot":
            lasts = self._market.lasts(machine.pool.pool.name, machine.instance_type, self._now, self._rng)
            if lasts < math.inf:
                self._at(max(self._now, lasts - self._assumed.notice_seconds), lambda: self._reclaimed(machine))

    def _is_ready(self, machine: Machine) -> None:
        name = machine.pool.pool.name
        self._coming[name].pop(machine.id, None)
        if machine.is_gone or machine.is_cordoned:
            return
        self._record.machine("machine.ready", self._now, machine, "")
        machine.is_ready = True
        self._scaler.got_one(name)
        self._empty(machine)
        self._offer(machine)

    def _none_there(self, machine: Machine) -> None:
        """The group got no machine: it is passed over for a while, and its pods look elsewhere at the next scan."""
        name = machine.pool.pool.name
        self._coming[name].pop(machine.id, None)
        self._count[name] -= 1
        machine.is_gone = True
        self._empty(machine)
        self._scaler.got_none(name, self._now)
        self._scan_soon()

    def _climb(self) -> None:
        """To the next rung with the pods whose pool is full, passed over, or late."""
        clocks = Clocks()
        for pod in list(self._pending.values()):
            if pod.uid not in self._pending:
                continue
            waited = self._now - pod.stepped
            is_last = pod.step + 1 == len(pod.rungs)
            if is_last:
                if self._now - pod.made >= self._policy.capacity.schedule_timeout_seconds:
                    self._give_up(pod)
                continue
            is_refused = pod.nominated is None and waited >= ladder.SETTLE_SECONDS
            if not is_refused and waited < clocks.buy:
                continue
            is_full = all(self._count[name] >= self._policy.pools[name].pool.max_machines for name in pod.pools)
            if not is_full and len(pod.pools) == 1:
                self._tell(pod.pools[0], Breaker.failed)
            del self._pending[pod.uid]
            self._denominate(pod)
            pod.step, pod.stepped = pod.step + 1, self._now
            self._enter(pod)

    def _give_up(self, pod: Pod) -> None:
        del self._pending[pod.uid]
        self._denominate(pod)
        pod.is_over = True
        self._jobs[pod.job].failed = retries.FINAL[Cause.UNSCHEDULABLE]

    def _shrink(self) -> None:
        left = self._policy.autoscaler.at_once
        for machine in list(self._idle.values()):
            due = self._scaler.removable(machine)
            if due <= self._now and left:
                left -= 1
                self._gone(machine)
            else:
                self._scan_by(self._scaler.scan_after(due, self._now))

    # Machines.

    def _nominate(self, pod: Pod, machine: Machine) -> None:
        machine.take(pod)
        machine.pods[pod.uid] = pod
        pod.nominated = machine
        if machine.is_full:
            self._coming[machine.pool.pool.name].pop(machine.id, None)

    def _denominate(self, pod: Pod) -> None:
        """It goes elsewhere: the machine that comes for it has room for others."""
        machine, pod.nominated = pod.nominated, None
        if machine is None:
            return
        machine.give(pod)
        del machine.pods[pod.uid]
        if not machine.is_ready and not machine.is_gone and not machine.is_cordoned:
            self._coming[machine.pool.pool.name][machine.id] = machine

    def _empty(self, machine: Machine) -> None:
        """Forget for which pods it was meant."""
        for pod in list(machine.pods.values()):
            pod.nominated = None
            machine.give(pod)
        machine.pods.clear()

    def _reclaimed(self, machine: Machine) -> None:
        """EC2 gives notice. With the ladder the job stops at once, and the next attempt begins."""
        if machine.is_gone:
            return
        self._reclaims += 1
        self._record.machine("machine.reclaimed", self._now, machine, "")
        self._at(self._now + self._assumed.notice_seconds, lambda: self._taken(machine))
        if self._policy.has_ladder:
            self._cordon(machine)
            for pod in list(machine.pods.values()):
                self._lost(pod, machine, Cause.SPOT_RECLAIM)

    def _cordon(self, machine: Machine) -> None:
        name = machine.pool.pool.name
        machine.is_cordoned = True
        self._ready[name].pop(machine.id, None)
        self._coming[name].pop(machine.id, None)
        self._idle.pop(machine.id, None)
        if not machine.is_ready:
            self._empty(machine)
            self._scan_soon()

    def _taken(self, machine: Machine) -> None:
        """The notice is over. The group still wants as many machines, and launches another one if it can."""
        if machine.is_gone:
            return
        self._cordon(machine)
        pods = list(machine.pods.values())
        self._gone(machine)
        for pod in pods:
            self._lost(pod, machine, Cause.NODE_LOST)
        pool = machine.pool
        if self._market.at(pool.pool.name, self._now)[0]:
            self._ask(pool)

    def _gone(self, machine: Machine) -> None:
        name = machine.pool.pool.name
        machine.is_gone = True
        self._idle.pop(machine.id, None)
        self._ready[name].pop(machine.id, None)
        self._count[name] -= 1
        self._there -= 1
        self._record.machine("machine.gone", self._now, machine, "")

    def _always_there(self, pod: Pod) -> Machine:
        """One more machine of a cluster whose machines have been there from the start, with the image."""
        (pool,) = self._policy.pools.values()
        machine = machines.new(next(self._numbers), pool, pool.cheapest[0])
        machine.is_ready = machine.has_image = True
        self._record.machine("machine.launched", 0.0, machine, pool.pool.market)
        self._record.machine("machine.ready", 0.0, machine, "")
        self._ready[pool.pool.name][machine.id] = machine
        self._bought.append(machine)
        self._peak = len(self._bought)
        return machine

    def _tell(self, pool: str, change: Callable[[Breaker, float], Breaker]) -> None:
        self._breakers[pool] = change(self._breakers.get(pool, Breaker()), EPOCH + self._now)
