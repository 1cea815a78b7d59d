"""The costs of whole days: a year is a few thousand rows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from tidepool.ledger import schema

_KEYS = ("day", "market", "category", "pool", "team", "dag", "task")
_ROW = (*_KEYS, "machine", "pod_uid", "seconds", "unpriced_seconds", "picodollars")


def changed(
    connection: sa.Connection,
    machines: Iterable[str],
    costs: Iterable[Mapping[str, Any]],
    rows: Iterable[Mapping[str, Any]],
) -> set[str]:
    """The days on which these machines' costs are not what is kept of them. costs, rows: what is to be kept of them in
    tidepool_costs and tidepool_machines."""
    columns = (schema.costs.c[name] for name in _ROW)
    price = schema.machines.c.on_demand_usd_per_hour
    joined = schema.costs.join(schema.machines, schema.machines.c.machine == schema.costs.c.machine)
    chosen = sa.select(*columns, price).select_from(joined).where(schema.costs.c.machine.in_(list(machines)))
    kept = {tuple(row) for row in connection.execute(chosen)}
    prices = {row["machine"]: row["on_demand_usd_per_hour"] for row in rows}
    new = {(*(row[name] for name in _ROW), prices[row["machine"]]) for row in costs}
    return {row[0] for row in kept ^ new}


def add_up(connection: sa.Connection, days: Iterable[str]) -> None:
    """Make these days' rows anew."""
    costs, machines = schema.costs.c, schema.machines.c
    keys = [costs[name] for name in _KEYS]
    on_demand = sa.func.sum(costs.seconds * sa.func.coalesce(machines.on_demand_usd_per_hour, 0.0)) / 3600
    sums = {
        "seconds": sa.func.sum(costs.seconds),
        "unpriced_seconds": sa.func.sum(costs.unpriced_seconds),
        "on_demand_usd": on_demand,
        "picodollars": sa.cast(sa.func.sum(costs.picodollars), sa.BigInteger),
        "pods": sa.func.count(sa.func.nullif(costs.pod_uid, "").distinct()),
    }
    joined = schema.costs.join(schema.machines, machines.machine == costs.machine)
    for day in sorted(days):
        connection.execute(sa.delete(schema.days).where(schema.days.c.day == day))
        chosen = sa.select(*keys, *sums.values()).select_from(joined).where(costs.day == day).group_by(*keys)
        connection.execute(sa.insert(schema.days).from_select([*_KEYS, *sums], chosen))
