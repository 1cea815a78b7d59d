"""What the events say each job and each machine did, what was bought for it and what it cost. Pure.

Times are whole milliseconds since the epoch and money is exact fractions of USD, so that used + idle = bought holds to
the last digit. Only machines of pools for jobs count: the system machine would be there in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tidepool.capacity import Capacity
from tidepool.ledger.events import Event

MILLIS_PER_HOUR = 3_600_000
HOURS_PER_DAY = 24


@dataclass(frozen=True)
class Job:
    """One attempt of a job: its pod's times, and those of the machine that the pod ran on. None: has not happened."""

    dag: str
    task: str
    run: str
    attempt: int
    pod: str
    pod_uid: str
    pool: str
    machine: str
    queued: int | None
    machine_asked: int | None
    machine_ready: int | None
    running: int | None
    done: int | None
    machine_gone: int | None
    cause: str
    message: str

    @property
    def bought_for_it(self) -> bool:
        """True if its machine was asked for after it was queued, so that it waited for one to be bought."""
        return self.queued is not None and self.machine_asked is not None and self.machine_asked >= self.queued


@dataclass(frozen=True)
class Machine:
    """A machine; it counts from `start`, when it was asked for, to `until`, when it was gone or the report was made.

    bought, used and idle are milliseconds: bought = until - start; used = while at least one job ran on it.
    usd_per_hour: None where nobody knows it.
    `start` is later than `asked` only for a machine that was there before the report's period.
    """

    id: str
    pool: str
    market: str
    instance_type: str
    usd_per_hour: Fraction | None
    asked: int
    ready: int | None
    gone: int | None
    start: int
    until: int
    used: int

    @property
    def bought(self) -> int:
        """Milliseconds that it was there."""
        return self.until - self.start

    @property
    def idle(self) -> int:
        """Milliseconds that it was there without a job."""
        return self.bought - self.used

    def cost(self, milliseconds: int) -> Fraction | None:
        """What this much of it cost, in USD; None where nobody knows its price."""
        return None if self.usd_per_hour is None else self.usd_per_hour * milliseconds / MILLIS_PER_HOUR


@dataclass(frozen=True)
class Peak:
    """The most machines that there were at once: by pool, and what they cost an hour at on-demand prices, those without
    a known one left out."""

    machines: Mapping[str, int]
    usd_per_hour: Fraction

    @property
    def count(self) -> int:
        """Machines of all pools."""
        return sum(self.machines.values())


@dataclass(frozen=True)
class Comparison:
    """What was bought against a cluster of the peak's size that is always on, all in USD.

    period: milliseconds from the first job queued to the last machine gone.
    always_on: the peak's on-demand price an hour x the period. always_on_day: the same x 24 h, against one such run a
    day, which costs `bought`. unpriced: machines whose price nobody knows, and which are in no figure of money.
    """

    period: int
    bought: Fraction
    used: Fraction
    idle: Fraction
    always_on: Fraction
    always_on_day: Fraction
    unpriced: int = 0


@dataclass(frozen=True)
class Report:
    """Everything derived from one set of events."""

    jobs: tuple[Job, ...]
    machines: tuple[Machine, ...]
    peak: Peak
    comparison: Comparison

    @property
    def bought(self) -> int:
        """Machine-milliseconds bought; used + idle, exactly."""
        return sum(machine.bought for machine in self.machines)

    @property
    def used(self) -> int:
        """Machine-milliseconds with a job."""
        return sum(machine.used for machine in self.machines)

    @property
    def idle(self) -> int:
        """Machine-milliseconds without one."""
        return sum(machine.idle for machine in self.machines)


@dataclass(frozen=True)
class Bench:
    """Milliseconds from a machine asked for to Ready, and from a pod queued to running with a machine bought for it."""

    launch_to_ready: tuple[int, ...]
    queued_to_running: tuple[int, ...]


def report(events: Iterable[Event], capacity: Capacity, now: float, since: float = 0.0) -> Report:
    """The report of the time from `since` to `now` (Unix seconds): what is not over yet counts until then.

    Jobs queued and machines gone before `since` are left out.
    """
    told = sorted(events, key=lambda event: event.time)
    begin, until = _millis(since), _millis(now)
    of_machines = _by_subject(told, "machine.")
    of_pods = _by_subject(told, "pod.")
    of_jobs = (facts for facts in of_machines.values() if _for_jobs(facts.get("machine.asked"), capacity))
    bought = (_machine(facts, of_pods, capacity, begin, until) for facts in of_jobs)
    machines = tuple(machine for machine in bought if machine.until >= begin)
    jobs = tuple(_job(facts, of_machines) for facts in of_pods.values() if _first(facts).time >= since)
    peak = _peak(machines, capacity)
    return Report(jobs, machines, peak, _compare(jobs, machines, peak, until))


def bench(report: Report) -> Bench:
    """How long machines and jobs were waited for."""
    return Bench(
        tuple(machine.ready - machine.asked for machine in report.machines if machine.ready is not None),
        tuple(
            job.running - job.queued
            for job in report.jobs
            if job.bought_for_it and job.running is not None and job.queued is not None
        ),
    )


def _by_subject(told: list[Event], prefix: str) -> dict[str, dict[str, Event]]:
    """Events by whom they happened to and kind; of a fact that was recorded twice, the first."""
    found: dict[str, dict[str, Event]] = {}
    for event in told:
        if event.kind.startswith(prefix):
            found.setdefault(event.key[1], {}).setdefault(event.kind, event)
    return found


def _for_jobs(asked: Event | None, capacity: Capacity) -> bool:
    return asked is not None and (asked.pool not in capacity.pools or capacity.pools[asked.pool].jobs)


def _machine(
    facts: dict[str, Event], of_pods: dict[str, dict[str, Event]], capacity: Capacity, since: int, now: int
) -> Machine:
    asked, gone = facts["machine.asked"], _time(facts, "machine.gone")
    until = max(_millis(asked.time), now if gone is None else gone)
    start = min(max(_millis(asked.time), since), until)
    pool = capacity.pools.get(asked.pool)
    spans = []
    for pod in of_pods.values():
        running, ended = pod.get("pod.running"), _time(pod, "pod.ended")
        if running is not None and running.machine == asked.machine:
            spans.append((_millis(running.time), until if ended is None else ended))
    return Machine(
        id=asked.machine,
        pool=asked.pool,
        market=asked.market,
        instance_type=asked.instance_type,
        usd_per_hour=_price(asked.usd_per_hour or (pool.usd_per_hour if pool else None)),
        asked=_millis(asked.time),
        ready=_time(facts, "machine.ready"),
        gone=gone,
        start=start,
        until=until,
        used=_covered(spans, start, until),
    )


def _covered(spans: list[tuple[int, int]], start: int, end: int) -> int:
    """How much of start…end the spans cover together; what overlaps counts once."""
    total, reached = 0, start
    for begin, stop in sorted(spans):
        begin, stop = max(begin, reached), min(stop, end)
        if stop > begin:
            total += stop - begin
            reached = stop
    return total


def _job(facts: dict[str, Event], of_machines: dict[str, dict[str, Event]]) -> Job:
    some = _first(facts)
    machine = next((event.machine for event in facts.values() if event.machine), "")
    of_machine = of_machines.get(machine, {})
    end = facts.get("pod.ended")
    return Job(
        dag=some.dag,
        task=some.task,
        run=some.run,
        attempt=some.attempt,
        pod=some.pod,
        pod_uid=some.pod_uid,
        pool=some.pool,
        machine=machine,
        queued=_time(facts, "pod.queued"),
        machine_asked=_time(of_machine, "machine.asked"),
        machine_ready=_time(of_machine, "machine.ready"),
        running=_time(facts, "pod.running"),
        done=_time(facts, "pod.ended"),
        machine_gone=_time(of_machine, "machine.gone"),
        cause=end.cause if end else "",
        message=end.message if end else "",
    )


def _peak(machines: tuple[Machine, ...], capacity: Capacity) -> Peak:
    """The largest number of machines at one time; among equals, the dearest."""
    peak = Peak({}, Fraction(0))
    for moment in sorted({machine.start for machine in machines}):
        there = [machine for machine in machines if machine.start <= moment < machine.until]
        counts: dict[str, int] = {}
        for machine in there:
            counts[machine.pool] = counts.get(machine.pool, 0) + 1
        candidate = Peak(counts, sum((_on_demand(machine, capacity) for machine in there), Fraction(0)))
        peak = max(peak, candidate, key=lambda one: (one.count, one.usd_per_hour))
    return peak


def _on_demand(machine: Machine, capacity: Capacity) -> Fraction:
    pool = capacity.pools.get(machine.pool)
    return (_price(pool.on_demand_usd_per_hour) if pool else machine.usd_per_hour) or Fraction(0)


def _compare(jobs: tuple[Job, ...], machines: tuple[Machine, ...], peak: Peak, now: int) -> Comparison:
    starts = [job.queued for job in jobs if job.queued is not None] + [machine.start for machine in machines]
    ends = [machine.until for machine in machines] or [now]
    period = max(0, max(ends) - min(starts)) if starts else 0
    bought = sum((machine.cost(machine.bought) or Fraction(0) for machine in machines), Fraction(0))
    used = sum((machine.cost(machine.used) or Fraction(0) for machine in machines), Fraction(0))
    return Comparison(
        period=period,
        bought=bought,
        used=used,
        idle=bought - used,
        always_on=peak.usd_per_hour * period / MILLIS_PER_HOUR,
        always_on_day=peak.usd_per_hour * HOURS_PER_DAY,
        unpriced=sum(machine.usd_per_hour is None for machine in machines),
    )


def _price(usd_per_hour: float | None) -> Fraction | None:
    """None for what is unknown, which 0 is too."""
    return Fraction(str(usd_per_hour)) if usd_per_hour else None


def _first(facts: dict[str, Event]) -> Event:
    return next(iter(facts.values()))


def _time(facts: Mapping[str, Event], kind: str) -> int | None:
    return _millis(facts[kind].time) if kind in facts else None


def _millis(seconds: float) -> int:
    return round(seconds * 1000)
