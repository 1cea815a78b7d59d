"""The rows of the books, from lives and the parts of the attribution. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from tidepool.ledger.attribution import Amount, Billing, Part
from tidepool.ledger.lives import Lives, MachineLife, PodLife, millis
from tidepool.prices.book import PriceBook

_NAMES = ("namespace", "pod", "dag", "task", "run", "map_index", "team", "cause")
_JOB_FACTS = ("attempt", "machine", "message", "cpu_millis", "memory_bytes")

LONGEST_NAME = 250
"""Of what is looked for by an index, which takes no text of any length; Airflow's own names are no longer."""


def cost_rows(parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
    """Rows of tidepool_costs. Money is rounded so that a machine's rows add up to its bill, to the picodollar."""
    summed: dict[tuple[str, int, str, str], tuple[Part, Amount]] = {}
    for part in parts:
        key = (part.machine.id, part.day, part.category, part.pod.uid if part.pod else "")
        summed.setdefault(key, (part, Amount()))[1].add(part.amount)
    machine, exact, given = "", Fraction(0), 0
    for key in sorted(summed):
        part, amount = summed[key]
        if key[0] != machine:
            machine, exact, given = key[0], Fraction(0), 0
        exact += amount.picodollars
        money = int(exact + Fraction(1, 2)) - given
        given += money
        pod = part.pod or PodLife("")
        yield {
            "machine": machine,
            "day": day(part.day),
            "category": part.category,
            "pod_uid": pod.uid,
            **{name: _name(getattr(pod, name)) for name in ("dag", "task", "team")},
            "pool": _name(part.machine.pool),
            "market": _name(part.machine.market),
            "seconds": amount.seconds,
            "unpriced_seconds": amount.unpriced_seconds,
            "picodollars": money,
        }


def job_rows(pods: Iterable[PodLife], told: Lives, parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
    """Rows of tidepool_jobs, without what was used. usd is null where a pod ran and nobody knows its price."""
    held: dict[str, Amount] = {}
    for part in parts:
        if part.pod is not None:
            held.setdefault(part.pod.uid, Amount()).add(part.amount)
    for pod in pods:
        machine, amount = told.machines.get(pod.machine), held.get(pod.uid, Amount())
        is_astray = machine is None and pod.placed is not None
        yield {
            "pod_uid": pod.uid,
            **{name: _name(getattr(pod, name)) for name in _NAMES},
            **{name: getattr(pod, name) for name in _JOB_FACTS},
            "pool": _name(pod.pool or (machine.pool if machine else "")),
            "market": _name(machine.market if machine else ""),
            "instance_type": _name(machine.instance_type if machine else ""),
            "queued": _seconds(pod.queued),
            "asked": _seconds(machine.asked) if machine else None,
            "placed": _seconds(pod.placed),
            "started": _seconds(pod.running),
            "ended": _seconds(pod.over),
            "held_seconds": amount.seconds,
            "usd": None if is_astray else amount.usd,
        }


def day(midnight: int) -> str:
    """The day of a time in milliseconds, in UTC: YYYY-MM-DD."""
    return datetime.fromtimestamp(midnight / 1000, UTC).date().isoformat()


def machine_row(machine: MachineLife, book: PriceBook, billing: Billing, now: float) -> dict[str, Any]:
    """A row of tidepool_machines at a time (Unix seconds)."""
    start, end = machine.start, machine.gone
    if start is not None and end is not None:
        end = max(end, start + billing.minimum_seconds * 1000)
    is_over = end is not None and end <= millis(now)
    at, kind, zone = (start or 0) / 1000, machine.instance_type, machine.zone
    prices = book.series(kind, machine.market, zone, at, at, machine.usd_per_hour)
    on_demand = book.at(kind, "on-demand", zone, at)
    if on_demand is None and machine.market == "on-demand":
        on_demand = prices[0][1]  # of a cluster whose prices no book has
    times = {name: _seconds(getattr(machine, name)) for name in ("asked", "launched", "ready", "reclaimed", "gone")}
    return {
        "machine": machine.id,
        **{name: _name(getattr(machine, name)) for name in ("pool", "market", "instance_type", "zone")},
        **times,
        "started": _seconds(start),
        "counted_until": _seconds(end) if is_over else now,
        "is_over": is_over,
        "usd_per_hour": prices[0][1],
        "on_demand_usd_per_hour": on_demand,
    }


def _name(text: str) -> str:
    return text[:LONGEST_NAME]


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
