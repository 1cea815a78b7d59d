"""Past runs, asked of the books: which tasks took and wasted most, the pods of some tasks, and what was spent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from tidepool.capacity import Budget
from tidepool.history import PodRecord, Sums
from tidepool.ledger import schema
from tidepool.ledger.attribution import BOOT, IDLE, JOB, PULL
from tidepool.ledger.books_tasks import unused
from tidepool.ledger.store import Store
from tidepool.outcome import Cause
from tidepool.report import now as report
from tidepool.report.now import JobNow, MachineNow, Now

MOST_PODS = 500
"""Of one task: its last ones say enough of how it is, and a year of them would not fit the screen's patience. What it
costs in all is summed up by the database."""

_PICODOLLARS = 10**12
_JOBS = schema.jobs
_COLUMNS = (
    *(_JOBS.c[name] for name in ("dag", "task", "run", "attempt", "team", "namespace", "pool", "market")),
    *(_JOBS.c[name] for name in ("instance_type", "queued", "started", "ended", "cause", "cpu_millis", "memory_bytes")),
    *(_JOBS.c[name] for name in ("cpu_seconds_used", "memory_p99_bytes", "memory_peak_bytes", "samples")),
    *(_JOBS.c[name] for name in ("held_seconds", "usd", "map_index")),
)

Order = Literal["seconds", "waste"]
Task = tuple[str, str]
"""DAG and task."""


@dataclass(frozen=True)
class Spent:
    """What the pods of a team's DAG cost in some time, whatever they did with the machine. unpriced_seconds: of
    machines, which are not in usd."""

    team: str
    dag: str
    usd: float
    unpriced_seconds: float

    def is_of(self, budget: Budget) -> bool:
        """Whether it counts against the budget."""
        return budget.team in ("", self.team) and budget.dag in ("", self.dag)


def heaviest(store: Store, order: Order, since: float, until: float, count: int, dag: str = "") -> list[Task]:
    """The tasks whose pods ran longest in all, or wasted most, of those that ended between two times."""
    weight = _ran() if order == "seconds" else _lost() + _unused()
    chosen = (
        sa.select(_JOBS.c.dag, _JOBS.c.task)
        .where(_ended(since, until), _JOBS.c.dag != "")
        .group_by(_JOBS.c.dag, _JOBS.c.task)
        .having(sa.func.count(_JOBS.c.started) > 0)
        .order_by(sa.func.sum(weight).desc(), _JOBS.c.dag, _JOBS.c.task)
        .limit(count)
    )
    if dag:
        chosen = chosen.where(_JOBS.c.dag == dag)
    with store.reading() as connection:
        return [(row.dag, row.task) for row in connection.execute(chosen)]


def sums(store: Store, task: Task, since: float, until: float) -> Sums:
    """Of all pods of a task that ended between two times, however many."""
    one = sa.and_(_ended(since, until), _JOBS.c.dag == task[0], _JOBS.c.task == task[1])
    is_bad = _JOBS.c.cause != Cause.OK.value
    attempt, good = sa.func.max(_JOBS.c.attempt), sa.func.max(sa.case((~is_bad, _JOBS.c.attempt)))
    of_runs = sa.select(sa.case((attempt == good, 0), else_=1).label("failed")).where(one).group_by(_JOBS.c.run)
    counted = of_runs.subquery()
    added = (sa.func.sum(each) for each in (_ran(), _JOBS.c.usd, _lost(), _unused()))
    ends = sa.select(_JOBS.c.cause, sa.func.count()).where(one, is_bad).group_by(_JOBS.c.cause)
    with store.reading() as connection:
        count, failed = connection.execute(sa.select(sa.func.count(), sa.func.sum(counted.c.failed))).one()
        pods, ran, usd, lost, left = connection.execute(sa.select(sa.func.count(), *added).where(one)).one()
        causes = {cause or "unknown": number for cause, number in connection.execute(ends)}
    return Sums(
        runs=int(count),
        failed=int(failed or 0),
        pods=int(pods),
        ran=float(ran or 0.0),
        usd=None if usd is None else float(usd),
        lost_usd=float(lost or 0.0),
        unused_usd=float(left or 0.0),
        lost=dict(sorted(causes.items(), key=lambda each: (-each[1], each[0]))),
    )


def pods(
    store: Store, task: Task, since: float = 0.0, until: float | None = None, most: int = MOST_PODS
) -> list[PodRecord]:
    """The last pods of a task that ended between two times, oldest first."""
    chosen = (
        sa.select(*_COLUMNS)
        .where(_ended(since, until), _JOBS.c.dag == task[0], _JOBS.c.task == task[1])
        .order_by(_JOBS.c.queued.desc())
        .limit(most)
    )
    with store.reading() as connection:
        return [PodRecord(*row) for row in reversed(connection.execute(chosen).all())]


def similar(
    store: Store, task: Task, team: str, since: float, most: int = 200
) -> tuple[Literal["dag", "team", ""], list[PodRecord]]:
    """The last good pods of other tasks: of the same DAG, or else of the team, or else of anybody; and of which."""
    base = (
        sa.select(*_COLUMNS)
        .where(
            _ended(since, None),
            _JOBS.c.cause == Cause.OK.value,
            _JOBS.c.started.is_not(None),
            _JOBS.c.dag != "",
            sa.or_(_JOBS.c.dag != task[0], _JOBS.c.task != task[1]),
        )
        .order_by(_JOBS.c.queued.desc())
        .limit(most)
    )
    with store.reading() as connection:
        of_dag, of_team = base.where(_JOBS.c.dag == task[0]), base.where(_JOBS.c.team == team)
        scopes: list[tuple[Literal["dag", "team", ""], sa.Select[Any]]] = [
            ("dag", of_dag),
            ("team", of_team),
            ("", base),
        ]
        for whose, chosen in scopes:
            if found := connection.execute(chosen).all():
                return whose, [PodRecord(*row) for row in found]
    return "", []


def overhead(store: Store, since_day: str) -> float | None:
    """What machines for jobs cost while they booted and idled, as a share of what their jobs cost; None without any."""
    costs = schema.costs
    chosen = (
        sa.select(costs.c.category, sa.func.sum(costs.c.picodollars))
        .where(costs.c.day >= since_day, costs.c.category.in_((JOB, PULL, BOOT, IDLE)))
        .group_by(costs.c.category)
    )
    with store.reading() as connection:
        found = {row[0]: float(row[1] or 0) for row in connection.execute(chosen)}
    held = found.get(JOB, 0.0) + found.get(PULL, 0.0)
    return (found.get(BOOT, 0.0) + found.get(IDLE, 0.0)) / held if held else None


def spent(store: Store, since_day: str) -> list[Spent]:
    """What pods cost on that day (UTC, YYYY-MM-DD) and after it, by team and DAG."""
    with store.reading() as connection:
        return spent_since(connection, since_day)


def spent_since(connection: sa.Connection, since_day: str) -> list[Spent]:
    """The same, on a connection."""
    costs = schema.costs
    sums = (sa.func.sum(sa.cast(costs.c.picodollars, sa.Float(53))), sa.func.sum(costs.c.unpriced_seconds))
    chosen = (
        sa.select(costs.c.team, costs.c.dag, *sums)
        .where(costs.c.day >= since_day, costs.c.pod_uid != "")
        .group_by(costs.c.team, costs.c.dag)
    )
    return [
        Spent(team, dag, float(money or 0) / _PICODOLLARS, float(unpriced or 0))
        for team, dag, money, unpriced in connection.execute(chosen)
    ]


def counted_until(store: Store, now: float) -> float:
    """Until when (Unix seconds) the costs of all machines that are there are known."""
    table = schema.machines
    chosen = sa.select(sa.func.min(table.c.counted_until)).where(~table.c.is_over)
    with store.reading() as connection:
        first = connection.execute(chosen).scalar()
    return now if first is None else min(now, float(first))


def _ended(since: float, until: float | None) -> sa.ColumnElement[bool]:
    is_after = _JOBS.c.ended >= since
    return is_after if until is None else sa.and_(is_after, _JOBS.c.ended <= until)


def _ran() -> sa.ColumnElement[Any]:
    """Seconds that a pod ran; null where it never started."""
    ran = _JOBS.c.ended - _JOBS.c.started
    return sa.case((ran > 0, ran), (ran.is_not(None), 0.0))


def _lost() -> sa.ColumnElement[Any]:
    """What a pod cost that came to nothing."""
    return sa.case((_JOBS.c.cause != Cause.OK.value, sa.func.coalesce(_JOBS.c.usd, 0.0)), else_=0.0)


def _unused() -> sa.ColumnElement[Any]:
    """What a good pod cost for the share of what it held that it did not use."""
    return sa.case((_JOBS.c.cause == Cause.OK.value, sa.func.coalesce(_JOBS.c.usd, 0.0) * unused()), else_=0.0)


def is_open() -> sa.ColumnElement[bool]:
    """Of tidepool_jobs: the pod has not ended. It is over with its machine, though nobody wrote that down."""
    machines = schema.machines.c
    gone = sa.select(machines.machine).where(machines.gone.is_not(None), machines.machine == _JOBS.c.machine)
    return sa.and_(_JOBS.c.ended.is_(None), _JOBS.c.queued.is_not(None), ~sa.exists(gone))


def present(store: Store, now: float) -> Now:
    """What is there: machines that are not gone, and pods that have not ended, each as far as the books are."""
    machines, jobs = schema.machines, schema.jobs
    pods = (
        *(jobs.c[name] for name in ("dag", "task", "run", "attempt", "team", "pod", "pool", "machine")),
        *(jobs.c[name] for name in ("queued", "placed", "started", "usd")),
    )
    own = (
        *(machines.c[name] for name in ("machine", "pool", "market", "instance_type", "asked", "started", "ready")),
        *(machines.c[name] for name in ("reclaimed", "usd_per_hour")),
    )
    with store.reading() as connection:
        there = [JobNow(*row) for row in connection.execute(sa.select(*pods).where(is_open()))]
        count = Counter(job.machine for job in there if job.placed is not None)
        rows = connection.execute(sa.select(*own).where(machines.c.gone.is_(None))).all()
    return report.now(now, [MachineNow(**row._mapping, jobs=count[row.machine]) for row in rows], there)
