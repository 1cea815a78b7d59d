"""The figures that Prometheus gets, asked of the books and events: counted and added up by the database."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tidepool.capacity import TEAM_LABEL, Capacity
from tidepool.keeper.ownership import stamp
from tidepool.keeper.reaper import RULES
from tidepool.labels import DEADLINE, OWNER_DAG, OWNER_TASK
from tidepool.ledger import history, schema
from tidepool.ledger.attribution import SYSTEM_POOLS
from tidepool.ledger.store import Store
from tidepool.objects import Object, is_over
from tidepool.outcome import Cause

PRICES_MARK = "prices"
"""When the prices were asked of the cloud last, in Unix seconds, as a mark of the store."""

RECOUNT_SECONDS = 600.0
_LAST_RUNS = 20
_DAY = 86_400.0
_PICO = 1e-12
_UNKNOWN = "none"
_COUNTED = ("machine.launched", "machine.reclaimed", "pod.ended", "reaper.found", "reaper.removed", "reaper.held")

_jobs, _machines, _costs, _events = schema.jobs.c, schema.machines.c, schema.costs.c, schema.events.c
Found = dict[str, dict[tuple[str, ...], float]]


class Figures:
    """Reads them; what only grows is counted on from where it was."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._last = 0
        self._recount_at = 0.0

    def read(self, now: float, document: Capacity | None, pods: Iterable[Object] = ()) -> Found:
        """All of them at one moment, by tidepool.keeper.metrics' names. now: Unix seconds. pods: as objects."""
        with self._store.reading() as connection:
            found = _of_machines(connection, now)
            found |= _of_costs(connection, now)
            found |= _of_jobs(connection, now)
            found |= self._counters(connection, now, _beginnings(document))
            found["tidepool_deadline_at_risk_jobs"] = _late(connection, pods, now)
            if document is not None:
                found["tidepool_schedule_timeout_seconds"] = {(): float(document.schedule_timeout_seconds)}
                found["tidepool_budget_used_ratio"] = _of_budgets(connection, document, now)
            running = sa.select(sa.func.min(_machines.counted_until)).where(~_machines.is_over)
            found["tidepool_books_timestamp_seconds"] = {(): float(connection.scalar(running) or now)}
            chosen = sa.select(schema.marks.c.value).where(schema.marks.c.name == PRICES_MARK)
            found["tidepool_prices_timestamp_seconds"] = {(): float(connection.scalar(chosen) or 0.0)}
        return found

    def _counters(self, connection: sa.Connection, now: float, found: Found) -> Found:
        """An event of a lower sequence may come late, where two keepers write: now and then all are counted again."""
        if now >= self._recount_at:
            self._counts, self._last, self._recount_at = Counter(), 0, now + RECOUNT_SECONDS
        chosen = (
            sa.select(_events.kind, _events.pool, _events.market, _events.team, _events.cause, sa.func.count())
            .where(_events.kind.in_(_COUNTED), _events.sequence > self._last)
            .group_by(_events.kind, _events.pool, _events.market, _events.team, _events.cause)
        )
        self._last = int(connection.scalar(sa.select(sa.func.max(_events.sequence))) or 0)
        for *key, count in connection.execute(chosen.where(_events.sequence <= self._last)):
            self._counts[tuple(key)] += count
        for (kind, pool, market, team, cause), count in self._counts.items():
            what, _, action = kind.partition(".")
            if kind == "machine.launched":
                _add(found["tidepool_machines_launched_total"], (pool, market), count)
            elif kind == "machine.reclaimed":
                _add(found["tidepool_reclaims_total"], (pool,), count)
            elif kind == "pod.ended":
                _add(found["tidepool_job_ends_total"], (team, cause), count)
            elif what == "reaper":
                _add(found["tidepool_reaper_total"], (cause, action), count)
        return found


def _beginnings(document: Capacity | None) -> Found:
    """0 of everything that may be counted one day: Prometheus takes no notice of a counter's first value."""
    pools = document.pools.values() if document is not None else ()
    teams = document.tenants if document is not None else ()
    return {
        "tidepool_machines_launched_total": {(pool.name, pool.market): 0.0 for pool in pools},
        "tidepool_reclaims_total": {(pool.name,): 0.0 for pool in pools if pool.market == "spot"},
        "tidepool_job_ends_total": {(team, str(cause)): 0.0 for team in teams for cause in Cause},
        "tidepool_reaper_total": {(rule, action): 0.0 for rule in RULES for action in ("found", "removed", "held")},
    }


def _of_machines(connection: sa.Connection, now: float) -> Found:
    busy = sa.func.sum(sa.case((sa.and_(_jobs.placed.is_not(None), _jobs.ended.is_(None)), 1), else_=0))
    held = (
        sa.select(_jobs.machine, busy.label("busy"), sa.func.max(_jobs.ended).label("ended"))
        .join(schema.machines, _machines.machine == _jobs.machine)
        .where(_machines.gone.is_(None))
        .group_by(_jobs.machine)
        .subquery()
    )
    chosen = (
        sa.select(
            *(_machines.pool, _machines.market, _machines.ready, _machines.reclaimed, _machines.usd_per_hour),
            *(held.c.busy, held.c.ended),
        )
        .outerjoin_from(schema.machines, held, held.c.machine == _machines.machine)
        .where(_machines.gone.is_(None))
    )
    states: dict[tuple[str, ...], float] = {}
    unpriced: dict[tuple[str, ...], float] = {}
    rates: dict[tuple[str, ...], float] = {}
    idle: dict[tuple[str, ...], float] = {}
    for row in connection.execute(chosen):
        state = _state(row)
        _add(states, (row.pool, row.market, state), 1)
        _add(unpriced, (row.pool, row.market), int(row.usd_per_hour is None))
        _add(rates, (row.pool, row.market), row.usd_per_hour or 0.0)
        if state not in ("system", "boot"):
            since = 0.0 if state != "idle" else now - max(row.ready or 0.0, row.ended or 0.0)
            idle[_names((row.pool,))] = max(idle.get(_names((row.pool,)), 0.0), since)
    return {
        "tidepool_machines": states,
        "tidepool_machines_unpriced": unpriced,
        "tidepool_usd_per_hour": rates,
        "tidepool_machine_idle_seconds": idle,
    }


def _state(row: Any) -> str:
    if row.pool in SYSTEM_POOLS:
        return "system"
    if row.reclaimed is not None:
        return "reclaimed"
    if row.busy:
        return "busy"
    return "boot" if row.ready is None else "idle"


def _of_costs(connection: sa.Connection, now: float) -> Found:
    today, month = _today(now), _today(now)[:8] + "01"
    chosen = (
        sa.select(
            (_costs.day == today).label("is_today"),
            *(_costs.category, _costs.market, _costs.team),
            sa.func.sum(sa.cast(_costs.picodollars, sa.Float(53))).label("picodollars"),
            sa.func.sum(_costs.unpriced_seconds).label("unpriced"),
        )
        .where(_costs.day >= month, _costs.day <= today)
        .group_by("is_today", _costs.category, _costs.market, _costs.team)  # by name: PostgreSQL tells values apart
    )
    day: dict[tuple[str, ...], float] = {}
    whole: dict[tuple[str, ...], float] = {}
    unpriced: dict[tuple[str, ...], float] = {}
    for row in connection.execute(chosen):
        key = (row.category, row.market, row.team)
        _add(whole, key, row.picodollars * _PICO)
        if row.is_today:
            _add(day, key, row.picodollars * _PICO)
            _add(unpriced, (row.market,), row.unpriced)
    return {
        "tidepool_cost_today_usd": day,
        "tidepool_cost_month_usd": whole,
        "tidepool_unpriced_today_seconds": unpriced,
    }


def _of_jobs(connection: sa.Connection, now: float) -> Found:
    placed = sa.case((_jobs.placed.is_not(None), "placed"), else_="queued")
    state = sa.case((_jobs.started.is_not(None), "running"), else_=placed).label("state")
    chosen = (
        sa.select(_jobs.team, _jobs.pool, state, sa.func.count(), sa.func.min(_jobs.queued))
        .where(history.is_open())
        .group_by(_jobs.team, _jobs.pool, "state")
    )
    jobs: dict[tuple[str, ...], float] = {}
    waiting: dict[tuple[str, ...], float] = {}
    for team, pool, said, count, oldest in connection.execute(chosen):
        _add(jobs, (team, pool, said), count)
        waits = now - oldest if said == "queued" else 0.0
        waiting[_names((pool,))] = max(waiting.get(_names((pool,)), 0.0), waits)
    return {"tidepool_jobs": jobs, "tidepool_job_waiting_seconds": waiting}


def _late(connection: sa.Connection, pods: Iterable[Object], now: float) -> dict[tuple[str, ...], float]:
    """Jobs with a deadline that have not ended: if such a job takes as long as half of the last ones, it is late."""
    found: dict[tuple[str, ...], float] = {}
    typical: dict[tuple[str, str], float] = {}
    for pod in pods:
        said = pod["metadata"].get("annotations") or {}
        deadline, begun = stamp(said.get(DEADLINE)), stamp(pod["metadata"].get("creationTimestamp"))
        if deadline is None or begun is None or is_over(pod):
            continue
        job = (said.get(OWNER_DAG, ""), said.get(OWNER_TASK, ""))
        if job not in typical:
            typical[job] = _typical(connection, *job)
        team = (pod["metadata"].get("labels") or {}).get(TEAM_LABEL, "")
        _add(found, (team,), int(max(now, begun + typical[job]) > deadline))
    return found


def _typical(connection: sa.Connection, dag: str, task: str) -> float:
    """The median of the last runs that ended well, from being queued; 0 where there is none."""
    chosen = (
        sa.select(_jobs.ended - _jobs.queued)
        .where(_jobs.dag == dag, _jobs.task == task, _jobs.cause == "ok", _jobs.ended.is_not(None))
        .order_by(_jobs.queued.desc())
        .limit(_LAST_RUNS)
    )
    return statistics.median([float(each) for each in connection.scalars(chosen)] or [0.0])


def _of_budgets(connection: sa.Connection, document: Capacity, now: float) -> dict[tuple[str, ...], float]:
    """By what jobs look at before they start (tidepool.keeper.spending)."""
    found: dict[tuple[str, ...], float] = {}
    first = {"day": _today(now), "month": _today(now)[:8] + "01"}
    spent = {
        per: history.spent_since(connection, first[per]) for per in {each.per for each in document.budgets.values()}
    }
    for name, budget in document.budgets.items():
        usd = sum(one.usd for one in spent[budget.per] if one.is_of(budget))
        for limit, most in (("soft", budget.soft_usd), ("hard", budget.hard_usd)):
            if most:
                found[name, limit] = usd / most
    return found


def _add(found: dict[tuple[str, ...], float], key: tuple[str, ...], value: float) -> None:
    found[_names(key)] = found.get(_names(key), 0.0) + float(value)


def _names(key: tuple[str, ...]) -> tuple[str, ...]:
    """Prometheus takes an empty label for none at all."""
    return tuple(each or _UNKNOWN for each in key)


def _today(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()
