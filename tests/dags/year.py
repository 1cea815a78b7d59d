"""A year of a company's jobs, made up: weekdays and nights, teams that grow, reclaims, leaks and a mistake mended."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from tidepool.ledger import books_days, books_tasks, schema
from tidepool.ledger.attribution import Billing, Window, attribute
from tidepool.ledger.books_rows import cost_rows, job_rows, machine_row
from tidepool.ledger.events import Event
from tidepool.ledger.lives import lives, millis
from tidepool.ledger.store import Store
from tidepool.prices import table

LAST = datetime(2026, 11, 20, 14, 20, tzinfo=UTC).timestamp()
DAYS = 365
DAY, HOUR = 86_400.0, 3600.0
GIB = 1 << 30
POOLS = {  # instance type, milli-CPUs and memory that pods can have
    "spot-small": ("m5.large", 1930, 7 * GIB),
    "spot-large": ("m5.2xlarge", 7910, 29 * GIB),
    "spot-memory": ("r5.xlarge", 3920, 29 * GIB),
    "on-demand-small": ("m5.large", 1930, 7 * GIB),
}
LARGER = {"spot-small": "spot-large", "spot-large": "spot-memory", "spot-memory": "spot-memory"}
FACTS = "cpu_seconds_used memory_p99_bytes memory_peak_bytes"


@dataclass(frozen=True)
class Task:
    dag: str
    task: str
    team: str
    pool: str
    minutes: float
    hours: tuple[int, ...]  # of the day at which it starts
    weekdays_only: bool = False
    after: tuple[float, float] = (0.0, 1.0)  # part of the year in which it exists
    grows: float = 1.0  # how much longer it takes at the year's end
    fails: float = 0.004
    cause: str = "app_error"
    uses: float = 0.75  # of the memory that it asks for
    busy: float = 0.8  # of the CPU


NIGHT, OFFICE, ALL_DAY = (1,), tuple(range(8, 18)), tuple(range(24))
TASKS = (
    Task("flights_daily", "clean", "analytics", "spot-small", 14, NIGHT, grows=1.3),
    Task("flights_daily", "delays", "analytics", "spot-small", 9, NIGHT),
    Task("flights_daily", "model", "analytics", "spot-large", 38, NIGHT, fails=0.03, cause="out_of_memory", grows=1.6),
    Task("orders_hourly", "ingest", "commerce", "spot-small", 4, ALL_DAY, uses=0.3, busy=0.25),
    Task("orders_hourly", "deduplicate", "commerce", "spot-small", 6, ALL_DAY, uses=0.6),
    Task("orders_hourly", "aggregate", "commerce", "spot-small", 3, ALL_DAY, uses=0.35, busy=0.4),
    Task("sessions", "parse", "web", "spot-small", 7, ALL_DAY, grows=1.7, uses=0.7),
    Task("sessions", "stitch", "web", "spot-large", 16, tuple(range(0, 24, 2)), grows=1.5, uses=0.4, busy=0.35),
    Task("attribution", "touchpoints", "marketing", "spot-large", 26, (3, 15), uses=0.5),
    Task("attribution", "shapley", "marketing", "spot-memory", 75, (4,), uses=0.9, fails=0.06, cause="out_of_memory"),
    Task("churn", "features", "research", "spot-large", 45, (5,), weekdays_only=True, uses=0.45, busy=0.5),
    Task("churn", "train", "research", "spot-memory", 110, (6,), weekdays_only=True, uses=0.85, after=(0.1, 1)),
    Task("churn", "score", "research", "spot-small", 12, (9,), weekdays_only=True),
    Task("fraud", "graph", "risk", "spot-memory", 52, (0, 6, 12, 18), uses=0.7, grows=1.4),
    Task("fraud", "rules", "risk", "on-demand-small", 5, ALL_DAY, uses=0.5, busy=0.6),
    Task("ledger_close", "reconcile", "finance", "on-demand-small", 22, (2,), fails=0.001),
    Task("ledger_close", "statements", "finance", "on-demand-small", 31, (3,), fails=0.001),
    Task("search_index", "crawl", "web", "spot-small", 18, tuple(range(0, 24, 3)), fails=0.02, cause="timed_out"),
    Task("search_index", "build", "web", "spot-large", 33, (2, 14), after=(0.0, 0.62), grows=2.2, uses=0.95),
    Task("search_index", "build_by_shard", "web", "spot-small", 11, (2, 3, 14, 15), after=(0.62, 1)),
    Task(
        "notebooks", "ad_hoc", "research", "spot-large", 20, OFFICE, weekdays_only=True, fails=0.14, uses=0.2, busy=0.15
    ),
    Task("weather", "download", "analytics", "spot-small", 2, ALL_DAY, uses=0.15, busy=0.1),
    Task("weather", "grid", "analytics", "spot-small", 8, tuple(range(0, 24, 6)), after=(0.3, 1)),
    Task("exports", "partners", "commerce", "spot-small", 5, OFFICE, weekdays_only=True),
)


def year(seed: int = 1, jobs: int = 100_000, last: float = LAST, days: int = DAYS) -> Iterator[Event]:
    """About so many pods' events, of `days` up to `last`; those of the last hour are not over yet."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable one is wanted
    first = last // DAY * DAY - (days - 1) * DAY
    for number in range(2):
        yield Event(first, "machine.asked", f"i-system{number}", "system", "on-demand", "m5.large", zone="us-east-1a")
        yield Event(first + 50, "machine.ready", f"i-system{number}", cpu_millis=1930, memory_bytes=7 * GIB)
    plan = list(_plan(chance, first, days))
    scale = jobs / len(plan)
    copies = ((each, int(scale) + (chance.random() < scale % 1)) for each in plan)
    starts = [(at + chance.uniform(0, 420) + 900 * copy, task) for (at, task), count in copies for copy in range(count)]
    machines = _Machines(chance, last)
    for number, (at, task) in enumerate(sorted(starts, key=lambda each: each[0])):
        if at < last:
            yield from machines.run(task, at, (at - first) / (days * DAY), number)
    yield from machines.give_back_all()


def _plan(chance: random.Random, first: float, days: int) -> Iterator[tuple[float, Task]]:
    for day in range(days):
        midnight = first + day * DAY
        weekend = datetime.fromtimestamp(midnight, UTC).weekday() >= 5
        for number, task in enumerate(TASKS):
            is_there = task.after[0] <= day / days < task.after[1] and not (weekend and task.weekdays_only)
            for hour in task.hours if is_there else ():
                if not (weekend and chance.random() < 0.35):
                    yield midnight + hour * HOUR + number * 140, task


class _Machines:
    """Buys a machine for a job where none of its pool is free, and gives it back after the pool's idle time."""

    def __init__(self, chance: random.Random, last: float) -> None:
        self._chance = chance
        self._last = last
        self._free: dict[str, list[tuple[float, str, str]]] = {}
        self._bought = 0
        self._pods = 0

    def run(self, task: Task, at: float, part: float, number: int) -> Iterator[Event]:
        pool, now = task.pool, at
        run = f"scheduled__{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}+00:00-{number}"
        for attempt in range(1, 5):
            if now > self._last:
                return
            cause, told, now = self._attempt(task, pool, now, part, run, attempt)
            yield from told
            if cause in ("ok", "app_error", "timed_out"):
                return
            pool = LARGER[pool] if cause == "out_of_memory" else pool
            now += 20

    def _attempt(
        self, task: Task, pool: str, at: float, part: float, run: str, attempt: int
    ) -> tuple[str, list[Event], float]:
        chance = self._chance
        machine, ready, told = self._machine(pool, at, part)
        kind, cpu, memory = POOLS[pool]
        self._pods += 1
        owner = {
            "pod": f"{task.dag}-{task.task}-{self._pods:x}".replace("_", "-"), "pod_uid": f"u-{self._pods}",
            "namespace": f"tidepool-{task.team}", "dag": task.dag, "task": task.task, "run": run, "attempt": attempt,
            "team": task.team, "pool": pool, "cpu_millis": cpu, "memory_bytes": memory,
        }  # fmt: skip
        scheduled = max(at + 0.5, ready + 0.2)
        pulled = scheduled + (chance.uniform(9, 22) if ready > at else 0.6)
        length = task.minutes * 60 * (1 + (task.grows - 1) * part) * chance.lognormvariate(0, 0.22)
        cause = "ok"
        leak = 3.0 if task.cause == "out_of_memory" and 0.7 < part < 0.78 else 1.0
        if chance.random() < task.fails * leak and not (attempt > 1 and task.cause == "out_of_memory"):
            cause, length = task.cause, length * chance.uniform(0.2, 0.95)
        elif pool.startswith("spot") and chance.random() < length / HOUR * 0.02:
            cause, length = "spot_reclaim", length * chance.random()
        ended = pulled + length
        told.append(Event(at, "pod.queued", **owner))
        told.append(Event(scheduled, "pod.scheduled", machine, **owner))
        told.append(Event(scheduled + 0.3, "pod.pulling", machine, **owner))
        for time, event in ((pulled, "pod.running"), (ended, "pod.ended")):
            if time <= self._last:
                said = {"cause": cause, "message": MESSAGES.get(cause, "")} if event == "pod.ended" else {}
                told.append(Event(time, event, machine, **owner, **said))  # type: ignore[arg-type]
        if cause == "spot_reclaim":
            told.append(Event(ended - 100, "machine.reclaimed", machine, pool, "spot", kind))
            told.append(Event(ended + 5, "machine.gone", machine))
        elif ended > self._last:
            pass  # it runs on, and so does its machine
        else:
            self._free.setdefault(pool, []).append((ended, machine, kind))
        return cause, [each for each in told if each.time <= self._last], ended

    def _machine(self, pool: str, at: float, part: float) -> tuple[str, float, list[Event]]:
        """A machine that idles, or else a new one; those that idled too long are gone."""
        tail = 600.0 if part < 0.55 else 20.0  # somebody found the setting
        told, kept, found = [], [], ""
        for ended, machine, kind in self._free.get(pool, []):
            if ended + tail < at:
                told.append(Event(ended + tail + 12, "machine.gone", machine))
            elif ended < at and not found:
                found = machine
            else:
                kept.append((ended, machine, kind))
        self._free[pool] = kept
        if found:
            return found, at, told
        self._bought += 1
        kind, cpu, memory = POOLS[pool]
        machine, ready = f"i-{self._bought:017x}", at + self._chance.uniform(38, 75)
        zone = self._chance.choice(["us-east-1a", "us-east-1b", "us-east-1c"])
        market = "spot" if pool.startswith("spot") else "on-demand"
        told.append(Event(at + 4, "machine.asked", machine, pool, market, kind, zone=zone))
        told.append(Event(at + 6, "machine.launched", machine, pool, market, kind, zone=zone))
        told.append(Event(ready, "machine.ready", machine, cpu_millis=cpu, memory_bytes=memory))
        return machine, ready, told

    def give_back_all(self) -> Iterator[Event]:
        for pool in self._free.values():
            for ended, machine, _ in pool:
                if ended + 32 <= self._last:
                    yield Event(ended + 32, "machine.gone", machine)


MESSAGES = {
    "out_of_memory": "container 'base' was killed: it needed more memory than its limit",
    "app_error": "exit code 1: pyspark.errors.AnalysisException: [UNRESOLVED_COLUMN] country",
    "timed_out": "the task's execution_timeout of 0:40:00 was over",
    "spot_reclaim": "AWS took the machine back with two minutes' notice",
}


def fill(store: Store, events: Iterator[Event], now: float = LAST) -> None:
    """The books of these events, without the events: what Books would write, in one go."""
    told, book, billing = lives(events), table.bundled(), Billing()
    measures = {task.dag + "." + task.task: task for task in TASKS}
    chance = random.Random(2)  # noqa: S311 - a repeatable one is wanted
    parts = list(attribute(told, book, Window(0, millis(now)), billing))
    jobs = []
    for row in job_rows(told.pods.values(), told, parts):
        task = measures.get(f"{row['dag']}.{row['task']}")
        used = dict.fromkeys(FACTS.split())
        if task and row["ended"] and row["started"] and chance.random() < 0.9:
            ran = row["ended"] - row["started"]
            peak = row["memory_bytes"] * min(1.0, task.uses * chance.uniform(0.9, 1.1))
            busy = min(1.0, task.busy * chance.uniform(0.85, 1.15))
            cpu = row["cpu_millis"] / 1000 * ran * busy
            used = dict(zip(FACTS.split(), (cpu, int(peak * 0.97), int(peak)), strict=True))
        jobs.append({**row, **used})
    with store.writing(1) as connection:
        for table_, rows in (
            (schema.costs, list(cost_rows(parts))),
            (schema.machines, [machine_row(each, book, billing, now) for each in told.machines.values()]),
            (schema.jobs, jobs),
        ):
            for start in range(0, len(rows), 5000):
                connection.execute(sa.insert(table_), rows[start : start + 5000])
        days = connection.scalars(sa.select(schema.costs.c.day).distinct()).all()
        books_days.add_up(connection, days)
        books_tasks.add_up(connection, days)
        connection.exec_driver_sql("ANALYZE")
