"""What the pages ask the books: every sum is made by the database, and every value is a parameter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal

import sqlalchemy as sa

from tidepool.keeper.page.period import Period
from tidepool.ledger import history, schema
from tidepool.ledger.attribution import SYSTEM_POOLS, Billing
from tidepool.ledger.books import MARK
from tidepool.outcome import Cause

Order = Literal["waste", "cost", "time"]
GROUPS = ("team", "dag", "pool")
TRENDS = 12
"""Points of a job's trend at most."""

_costs, _days, _jobs, _machines = schema.costs.c, schema.days.c, schema.jobs.c, schema.machines.c
_tasks = schema.task_days.c
_DOUBLE = sa.Float(53)


@dataclass(frozen=True, slots=True)
class Sum:
    """Machine time and its money. usd: None where no second of it has a price; unpriced: seconds without one."""

    seconds: float = 0.0
    usd: float | None = 0.0
    unpriced: float = 0.0

    def __add__(self, other: Sum) -> Sum:
        unpriced, seconds = self.unpriced + other.unpriced, self.seconds + other.seconds
        usd = (self.usd or 0.0) + (other.usd or 0.0)
        return Sum(seconds, None if _is_unknown(seconds, unpriced) else usd, unpriced)


@dataclass(frozen=True, slots=True)
class Task:
    """All pods of one task in the period. runs: a run counts on each of its days. longest and mean: seconds that pods
    ran, of those that are over.

    usd: None where no price is known. lost: of attempts that came to nothing. unused: of good ones, for what was
    measured and not used.
    """

    dag: str
    task: str
    team: str
    runs: int
    pods: int
    failed: int
    mean: float | None
    longest: float | None
    usd: float | None
    lost: float
    unused: float

    @property
    def waste(self) -> float:
        """What was paid for nothing."""
        return self.lost + self.unused


@dataclass(frozen=True, slots=True)
class Pod:
    """One attempt of a job, or one part of it: a row of tidepool_jobs."""

    pod_uid: str
    namespace: str
    pod: str
    dag: str
    task: str
    run: str
    attempt: int
    team: str
    pool: str
    machine: str
    market: str
    instance_type: str
    cause: str
    message: str
    queued: float | None
    asked: float | None
    placed: float | None
    started: float | None
    ended: float | None
    cpu_millis: int
    memory_bytes: int
    cpu_seconds_used: float | None
    memory_p99_bytes: int | None
    memory_peak_bytes: int | None
    held_seconds: float
    usd: float | None


@dataclass(frozen=True, slots=True)
class Machine:
    """A row of tidepool_machines with what it cost, all its life."""

    machine: str
    pool: str
    market: str
    instance_type: str
    zone: str
    started: float
    ready: float | None
    reclaimed: float | None
    gone: float | None
    cost: Sum
    jobs: int


@dataclass(frozen=True, slots=True)
class Now:
    """What is there at this moment. usd_per_hour: of those whose price is known."""

    machines: int
    usd_per_hour: float
    unpriced: int
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that machines for jobs there were at once, by what they cost an hour on demand.

    since: when the first machine was there, or the period began. machines: by pool and type. unknown: how many
    machines of the period have no known on-demand price.
    """

    since: float
    moment: float
    usd_per_hour: float
    machines: tuple[tuple[str, str, int], ...]
    unknown: int


def daily(connection: sa.Connection, period: Period) -> dict[tuple[str, str, str], Sum]:
    """By day, market and category."""
    keys = (_days.day, _days.market, _days.category)
    rows = connection.execute(sa.select(*keys, *_sums(_days)).where(_in(period)).group_by(*keys)).all()
    return {(row[0], row[1], row[2]): _sum(row[3:]) for row in rows}


def daily_of(connection: sa.Connection, period: Period, dag: str, task: str) -> dict[tuple[str, str], Sum]:
    """By day and category, of one task."""
    keys = (_days.day, _days.category)
    chosen = sa.select(*keys, *_sums(_days)).where(_in(period), _days.dag == dag, _days.task == task).group_by(*keys)
    return {(row[0], row[1]): _sum(row[2:]) for row in connection.execute(chosen)}


def total(connection: sa.Connection, period: Period) -> Sum:
    """Of everything."""
    return _sum(connection.execute(sa.select(*_sums(_days)).where(_in(period))).one())


def shares(connection: sa.Connection, period: Period, by: str, limit: int) -> tuple[list[tuple[str, Sum]], int]:
    """The dearest teams, DAGs or pools, and how many there are. What no job held belongs to no team and no DAG."""
    column = {"team": _days.team, "dag": _days.dag, "pool": _days.pool}[by]
    chosen = sa.select(column, *_sums(_days)).where(_in(period)).group_by(column)
    if by != "pool":
        chosen = chosen.where(_days.pods > 0)
    ordered = chosen.order_by(sa.func.sum(_days.picodollars).desc(), column).limit(limit)
    count = sa.select(sa.func.count()).select_from(chosen.with_only_columns(column).subquery())
    rows = connection.execute(ordered).all()
    return [(row[0], _sum(row[1:])) for row in rows], int(connection.scalar(count) or 0)


def ends(connection: sa.Connection, period: Period) -> dict[str, int]:
    """How many pods that were queued in the period ended how; "" is not over yet."""
    chosen = sa.select(_jobs.cause, sa.func.count()).where(_queued(period)).group_by(_jobs.cause)
    return {row[0]: row[1] for row in connection.execute(chosen)}


def now(connection: sa.Connection) -> Now:
    """At this moment."""
    there = sa.and_(_machines.gone.is_(None), _machines.started.is_not(None))
    machines = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(_machines.usd_per_hour), 0.0),
            sa.func.count() - sa.func.count(_machines.usd_per_hour),
        ).where(there)
    ).one()
    running = sa.func.count(_jobs.placed)
    jobs = connection.execute(sa.select(running, sa.func.count() - running).where(history.is_open())).one()
    return Now(machines[0], float(machines[1]), machines[2], jobs[0], jobs[1])


def billing(connection: sa.Connection) -> Billing:
    """By which the costs were figured."""
    kept = connection.scalar(sa.select(schema.marks.c.value).where(schema.marks.c.name == MARK))
    return Billing(**(json.loads(kept or "{}").get("billing") or {}))


def tasks(
    connection: sa.Connection, period: Period, order: Order, search: str, limit: int, offset: int
) -> tuple[list[Task], int]:
    """A page of tasks, and how many there are. search: part of the DAG's, task's or team's name."""
    lost, unused, usd = (sa.func.sum(column) for column in (_tasks.lost_usd, _tasks.unused_usd, _tasks.usd))
    longest = sa.func.max(_tasks.longest_seconds)
    orders = {"waste": lost + unused, "cost": usd, "time": longest}
    mean = sa.func.sum(_tasks.ran_seconds) / sa.func.nullif(sa.func.sum(_tasks.ended), 0)
    counts = (sa.cast(sa.func.sum(column), sa.BigInteger) for column in (_tasks.runs, _tasks.pods, _tasks.failed))
    named = (_tasks.dag, _tasks.task)
    columns: tuple[Any, ...] = (*named, sa.func.max(_tasks.team), *counts, mean, longest, usd, lost, unused)
    grouped = sa.select(*columns).where(_in(period, _tasks), *_search(search)).group_by(*named)
    ordered = grouped.order_by(sa.func.coalesce(orders[order], 0).desc(), *named)
    rows = connection.execute(ordered.limit(limit).offset(offset)).all()
    count = connection.scalar(sa.select(sa.func.count()).select_from(grouped.with_only_columns(*named).subquery()))
    return [Task(*row) for row in rows], int(count or 0)


def trends(
    connection: sa.Connection, period: Period, names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[float | None]]:
    """What each run of these tasks cost on average, in TRENDS parts of the period (a day at least); None where none
    ran."""
    if not names:
        return {}
    parts = min(TRENDS, period.days)
    ends = [period.first + timedelta(period.days * (number + 1) // parts) for number in range(parts)]
    part = sa.case(*((_tasks.day < end.isoformat(), number) for number, end in enumerate(ends)))
    chosen = (
        sa.select(_tasks.dag, _tasks.task, part, sa.func.sum(_tasks.usd) / sa.func.sum(_tasks.runs))
        .where(_in(period, _tasks), sa.tuple_(_tasks.dag, _tasks.task).in_(list(names)))
        .group_by(_tasks.dag, _tasks.task, part)
    )
    found = {(dag, task, number): float(usd or 0.0) for dag, task, number, usd in connection.execute(chosen)}
    return {name: [found.get((*name, number)) for number in range(parts)] for name in names}


def runs(
    connection: sa.Connection, period: Period, dag: str, task: str, limit: int, offset: int
) -> tuple[list[tuple[str, float, float | None, int, int, float | None]], int]:
    """A page of a task's runs, the newest first: run, queued, seconds until its last pod ended (None: not over),
    attempts, failed ones, USD; and how many there are."""
    one = sa.and_(_queued(period), _jobs.dag == dag, _jobs.task == task)
    begun = sa.func.min(_jobs.queued)
    failed = sa.case((sa.and_(_jobs.cause != Cause.OK.value, _jobs.ended.is_not(None)), 1), else_=0)
    over = sa.case((sa.func.count(_jobs.ended) == sa.func.count(), sa.func.max(_jobs.ended) - begun))
    attempts = sa.func.count(_jobs.attempt.distinct())
    chosen = sa.select(_jobs.run, begun, over, attempts, sa.func.sum(failed), sa.func.sum(_jobs.usd)).where(one)
    paged = chosen.group_by(_jobs.run).order_by(begun.desc(), _jobs.run).limit(limit).offset(offset)
    count = connection.scalar(sa.select(sa.func.count(_jobs.run.distinct())).where(one))
    return [(row[0], row[1], row[2], row[3], row[4], row[5]) for row in connection.execute(paged)], int(count or 0)


def pods(connection: sa.Connection, dag: str, task: str, run: str, limit: int) -> list[Pod]:
    """A job's pods in the order in which they came."""
    one = sa.and_(_jobs.dag == dag, _jobs.task == task, _jobs.run == run)
    return _pods(connection, sa.select(*_POD).where(one).order_by(_jobs.attempt, _jobs.queued).limit(limit))


def machines(
    connection: sa.Connection, since: float, until: float, limit: int, offset: int
) -> tuple[list[Machine], int]:
    """A page of the machines that were there between two times, the first that came first; and how many there are."""
    there = sa.and_(_machines.started < until, sa.or_(_machines.gone.is_(None), _machines.gone > since))
    columns = (
        *(_machines.machine, _machines.pool, _machines.market, _machines.instance_type, _machines.zone),
        *(_machines.started, _machines.ready, _machines.reclaimed, _machines.gone),
    )
    chosen = sa.select(*columns).where(there).order_by(_machines.started, _machines.machine)
    rows = connection.execute(chosen.limit(limit).offset(offset)).all()
    names = [row[0] for row in rows]
    summed = sa.select(_costs.machine, *_sums(_costs)).where(_costs.machine.in_(names)).group_by(_costs.machine)
    cost = {row[0]: _sum(row[1:]) for row in connection.execute(summed)}
    counted = sa.select(_jobs.machine, sa.func.count()).where(_jobs.machine.in_(names)).group_by(_jobs.machine)
    jobs = {row[0]: row[1] for row in connection.execute(counted)}
    count = connection.scalar(sa.select(sa.func.count()).select_from(schema.machines).where(there))
    found = [Machine(*row, cost=cost.get(row[0], Sum()), jobs=jobs.get(row[0], 0)) for row in rows]
    return found, int(count or 0)


def pods_on(connection: sa.Connection, names: Iterable[str], since: float, until: float, limit: int) -> list[Pod]:
    """Pods that were on these machines between two times, in their order."""
    there = sa.and_(
        _jobs.machine.in_(list(names)),
        _jobs.placed < until,
        sa.or_(_jobs.ended.is_(None), _jobs.ended > since),
    )
    return _pods(connection, sa.select(*_POD).where(there).order_by(_jobs.placed, _jobs.pod_uid).limit(limit))


def last_moment(connection: sa.Connection) -> float | None:
    """Up to when the books have machines."""
    found = connection.scalar(sa.select(sa.func.max(_machines.counted_until)))
    return None if found is None else float(found)


def peak(connection: sa.Connection, period: Period, now: float) -> Peak | None:
    """The dearest moment of the machines for jobs, at on-demand prices; None where there was no such machine."""
    until = min(period.until, now)
    there = sa.and_(
        _machines.started < until,
        sa.or_(_machines.gone.is_(None), _machines.gone > period.since),
        _machines.pool.not_in(SYSTEM_POOLS),
    )
    price = sa.func.coalesce(_machines.on_demand_usd_per_hour, 0.0)
    came = sa.select(_machines.started.label("moment"), price.label("usd"), sa.literal(1).label("one")).where(there)
    went = sa.select(_machines.gone, -price, sa.literal(-1)).where(there, _machines.gone.is_not(None))
    moves = sa.union_all(came, went).subquery()
    # Of one moment those that go come first: a machine is not there twice.
    order = (moves.c.moment, moves.c.one)
    window: dict[str, Any] = {"order_by": order, "rows": (None, 0)}
    summed = sa.select(
        moves.c.moment,
        sa.func.sum(moves.c.usd).over(**window).label("usd"),
        sa.func.sum(moves.c.one).over(**window).label("count"),
    ).subquery()
    first = connection.execute(
        sa.select(summed.c.moment, summed.c.usd).order_by(summed.c.usd.desc(), summed.c.count.desc()).limit(1)
    ).one_or_none()
    if first is None:
        return None
    moment = float(first[0])
    at = sa.and_(there, _machines.started <= moment, sa.or_(_machines.gone.is_(None), _machines.gone > moment))
    keys = (_machines.pool, _machines.instance_type)
    kinds = connection.execute(sa.select(*keys, sa.func.count()).where(at).group_by(*keys).order_by(*keys)).all()
    unknown = connection.scalar(
        sa.select(sa.func.count()).select_from(schema.machines).where(there, _machines.on_demand_usd_per_hour.is_(None))
    )
    begun = connection.scalar(sa.select(sa.func.min(_machines.started)).where(there))
    return Peak(
        max(period.since, float(begun or 0)),
        moment,
        float(first[1]),
        tuple((row[0], row[1], row[2]) for row in kinds),
        int(unknown or 0),
    )


def bought(connection: sa.Connection, period: Period) -> tuple[Sum, float]:
    """What the machines for jobs cost in the period, and what the same hours had cost on demand."""
    on_demand = sa.func.coalesce(sa.func.sum(_days.on_demand_usd), 0.0)
    chosen = sa.select(*_sums(_days), on_demand).where(_in(period), _days.pool.not_in(SYSTEM_POOLS))
    row = connection.execute(chosen).one()
    return _sum(row[:3]), float(row[3])


_POD = tuple(_jobs[field.name] for field in fields(Pod))


def _pods(connection: sa.Connection, chosen: sa.Select[Any]) -> list[Pod]:
    return [Pod(*row) for row in connection.execute(chosen)]


def _sums(of: Any) -> tuple[sa.ColumnElement[Any], ...]:
    """Of the columns of a table: seconds, USD and unpriced seconds."""
    dollars = sa.func.sum(sa.cast(of.picodollars, _DOUBLE)) / 1e12
    return sa.func.sum(of.seconds), dollars, sa.func.sum(of.unpriced_seconds)


def _sum(row: Sequence[Any]) -> Sum:
    seconds, usd, unpriced = (float(each or 0.0) for each in row)
    return Sum(seconds, None if _is_unknown(seconds, unpriced) else usd, unpriced)


def _is_unknown(seconds: float, unpriced: float) -> bool:
    return seconds > 0 and unpriced >= seconds * (1 - 1e-12)


def _in(period: Period, of: Any = _days) -> sa.ColumnElement[bool]:
    """Of the rows by day of a table."""
    is_in: sa.ColumnElement[bool] = of.day.between(period.first.isoformat(), period.last.isoformat())
    return is_in


def _queued(period: Period) -> sa.ColumnElement[bool]:
    return sa.and_(_jobs.queued >= period.since, _jobs.queued < period.until)


def _search(text: str) -> list[sa.ColumnElement[bool]]:
    if not text:
        return []
    return [sa.or_(*(column.icontains(text, autoescape=True) for column in (_tasks.dag, _tasks.task, _tasks.team)))]
