"""What each task did on each day: a year's list of tasks is a few thousand rows of them, however many pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tidepool.history import FEW_SAMPLES
from tidepool.ledger import schema
from tidepool.ledger.books_rows import day
from tidepool.outcome import Cause

_FACTS = ("cpu_millis", "memory_bytes", "cpu_seconds_used", "memory_p99_bytes", "samples")
_ROW = ("pod_uid", "queued", "dag", "task", "team", "run", "cause", "started", "ended", "usd", *_FACTS)
_DAY_SECONDS = 86_400
_CHUNK = 1000
_jobs = schema.jobs.c


def changed(connection: sa.Connection, pods: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """The days on which what is kept of these pods is not what is to be kept: rows of tidepool_jobs."""
    uids = list(pods)
    kept: set[tuple[Any, ...]] = set()
    for start in range(0, len(uids), _CHUNK):
        kept |= {tuple(row) for row in connection.execute(_KEPT, {"uids": uids[start : start + _CHUNK]})}
    new = {tuple(row[name] for name in _ROW) for row in rows}
    return {day(row[1] * 1000) for row in kept ^ new if row[1] is not None}


def add_up(connection: sa.Connection, days: Iterable[str]) -> None:
    """Make these days' rows anew."""
    for each in sorted(days):
        since = datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp()
        connection.execute(_FORGET, {"that_day": each})
        connection.execute(_ADD_UP, {"that_day": each, "since": since, "until": since + _DAY_SECONDS})


def unused() -> sa.ColumnElement[Any]:
    """The share of what a pod asked for and did not use, by CPU or memory, whichever it used more of; 0 where that
    was not measured often enough."""
    asked = sa.cast(_jobs.cpu_millis, sa.Float(53)) / 1000 * (_jobs.ended - _jobs.started)
    cpu = _jobs.cpu_seconds_used / sa.func.nullif(asked, 0.0)
    memory = sa.cast(_jobs.memory_p99_bytes, sa.Float(53)) / sa.func.nullif(_jobs.memory_bytes, 0)
    return sa.case(
        (sa.or_(_jobs.samples < FEW_SAMPLES, cpu.is_(None), memory.is_(None), cpu >= 1, memory >= 1), 0.0),
        (cpu > memory, 1 - cpu),
        else_=1 - memory,
    )


def _added_up() -> sa.Insert:
    keys = (_jobs.dag, _jobs.task, _jobs.team)
    is_good = _jobs.cause == Cause.OK.value
    is_bad = sa.and_(~is_good, _jobs.ended.is_not(None))
    ran, usd = _jobs.ended - _jobs.started, sa.func.coalesce(_jobs.usd, 0.0)
    sums = {
        "runs": sa.func.count(_jobs.run.distinct()),
        "pods": sa.func.count(),
        "failed": sa.func.sum(sa.case((is_bad, 1), else_=0)),
        "ended": sa.func.count(ran),
        "ran_seconds": sa.func.sum(ran),
        "longest_seconds": sa.func.max(ran),
        "usd": sa.func.sum(_jobs.usd),
        "lost_usd": sa.func.sum(sa.case((is_bad, usd), else_=0.0)),
        "unused_usd": sa.func.sum(sa.case((is_good, usd * unused()), else_=0.0)),
    }
    that_day = sa.and_(_jobs.queued >= sa.bindparam("since"), _jobs.queued < sa.bindparam("until"))
    chosen = sa.select(sa.bindparam("that_day", type_=sa.Text), *keys, *sums.values()).where(that_day).group_by(*keys)
    return sa.insert(schema.task_days).from_select(["day", "dag", "task", "team", *sums], chosen)


_KEPT = sa.select(*(_jobs[name] for name in _ROW)).where(_jobs.pod_uid.in_(sa.bindparam("uids", expanding=True)))
_FORGET = sa.delete(schema.task_days).where(schema.task_days.c.day == sa.bindparam("that_day"))
_ADD_UP = _added_up()
