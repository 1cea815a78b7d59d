"""Five hours of a made-up company's jobs as Prometheus would have collected them from two keepers, once a minute."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.dags import year
from tests.dags.conftest import make_capacity, make_pool
from tests.dags.year import GIB, HOUR
from tidepool.capacity import Budget, Capacity, Tenant
from tidepool.keeper.figures import PRICES_MARK
from tidepool.keeper.metrics import Metrics
from tidepool.keeper.pace import Pace
from tidepool.labels import DEADLINE, OWNER_DAG, OWNER_TASK, utc
from tidepool.ledger.books import Books
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store
from tidepool.objects import Object
from tidepool.prices import table

MINUTE = 60.0
UNTIL = year.LAST
SINCE = UNTIL - 5 * HOUR
KEEPERS = ("keeper-a", "keeper-b")
WATCHES = ("nodes", "pods", "image pulls")


def capacity() -> Capacity:
    """The pools and teams of the year, with two budgets."""
    made = make_capacity(
        make_pool("system", "on-demand", jobs=False),
        *(make_pool(name, "on-demand" if name.startswith("on") else "spot") for name in year.POOLS),
    )
    teams = {task.team: Tenant(f"tidepool-{task.team}", "job") for task in year.TASKS}
    budgets = {
        "web-daily": Budget("web", "", "day", soft_usd=2.5, hard_usd=6.0, at_limit="wait"),
        "research-daily": Budget("research", "", "day", soft_usd=4.0, hard_usd=8.0, at_limit="fail"),
    }
    return dataclasses.replace(made, tenants=teams, default_tenant="web", budgets=budgets)


def events() -> list[Event]:
    """Three days' jobs, and in the last hours whatever a keeper has a figure for."""
    return sorted([*year.year(jobs=1350, days=3), *_storm(), *_of_note()], key=lambda event: event.time)


def samples(folder: Path) -> Iterator[str]:
    """OpenMetrics of two keepers, as the text of their metrics is at each minute."""
    now, told = SINCE, events()
    store = Store.open(str(folder / "ledger.db"))
    store.mark(PRICES_MARK, repr(SINCE - 9 * HOUR))
    pace, books, document = (
        Pace(),
        Books(store, table.bundled(), clock=lambda: now - now // MINUTE * 7 % 30),
        capacity(),
    )
    metrics = Metrics(store, lambda: document, pace, lambda: _pods(now), lambda: _orphans(now), lambda: now)
    seen = 0
    while now <= UNTIL:
        count = next((number for number, event in enumerate(told[seen:]) if event.time > now), len(told) - seen)
        store.record_all(told[seen : seen + count])
        seen += count
        books.update()
        _keep_pace(pace, now)
        for line in metrics.render().splitlines():
            if not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name, _, labels = series.rstrip("}").partition("{")
                for keeper in KEEPERS:
                    yield f'{name}{{pod="{keeper}"{"," if labels else ""}{labels}}} {value} {now:.0f}\n'
        now += MINUTE
    store.close()
    yield "# EOF\n"


def _keep_pace(pace: Pace, now: float) -> None:
    """The database is slow for six minutes, four hours ago; the watch of pods hears nothing at the time."""
    is_slow = 0 <= now - (UNTIL - 4 * HOUR) < 6 * MINUTE
    for number, watch in enumerate(WATCHES):
        if not (is_slow and watch == "pods"):
            lag = 0.05 + 0.07 * number + (now // MINUTE * 37 % 11) / 50 + 4 * is_slow
            pace.wrote(watch, now - 4 - lag, now - 4)


def _orphans(now: float) -> Mapping[str, tuple[int, float]]:
    """Pods whose owner ended: a few are found twice, and the last are still there."""
    for ago, count, long in ((170, 2, 4), (75, 1, 3), (4, 3, 9)):
        found = UNTIL - ago * MINUTE
        if 0 <= now - found < long * MINUTE:
            return {"ownerless": (count, found)}
    return {}


def _pods(now: float) -> list[Object]:
    """Jobs with a deadline, for the last forty minutes: one will be late."""
    if now < UNTIL - 40 * MINUTE:
        return []
    return [_pod("notebooks", "ad_hoc", "research", 90), _pod("sessions", "stitch", "web", -5)]


def _pod(dag: str, task: str, team: str, minutes_left: float) -> Object:
    said = {DEADLINE: utc(UNTIL + minutes_left * MINUTE), OWNER_DAG: dag, OWNER_TASK: task}
    stamps = {"creationTimestamp": utc(UNTIL - 41 * MINUTE), "labels": {"tidepool.dev/team": team}}
    return {"metadata": {"uid": f"{dag}-{task}", "annotations": said, **stamps}, "status": {"phase": "Running"}}


def _storm() -> Iterator[Event]:
    """Five machines of a pool are taken back at once, with the jobs on them."""
    for number in range(5):
        begun, taken = UNTIL - 165 * MINUTE + number, UNTIL - 140 * MINUTE + 9 * number
        where: dict[str, Any] = {"machine": f"i-storm{number}", "pool": "spot-large"}
        machine = {**where, "market": "spot", "instance_type": "m5.2xlarge", "zone": "us-east-1a"}
        yield from (Event(begun + 9 * each, f"machine.{kind}", **machine) for each, kind in enumerate(_BOUGHT))
        yield from _job(f"storm{number}", where, begun, begun + 70, taken + 110, "spot_reclaim")
        yield Event(taken, "machine.reclaimed", **machine)
        yield Event(taken + 120, "machine.gone", **machine)


def _of_note() -> Iterator[Event]:
    """One machine without a price, one that nobody gives back, jobs that wait, fail and are removed."""
    for name, pool, kind, ago in (("odd", "on-demand-small", "x9.odd", 200), ("idle", "spot-large", "m5.2xlarge", 60)):
        begun, where = UNTIL - ago * MINUTE, {"machine": f"i-{name}", "pool": pool}
        market = "spot" if pool.startswith("spot") else "on-demand"
        machine: dict[str, Any] = {**where, "market": market, "instance_type": kind, "zone": "us-east-1b"}
        yield from (Event(begun + 9 * each, f"machine.{what}", **machine) for each, what in enumerate(_BOUGHT))
        yield from _job(name, where, begun, begun + 60, begun + 15 * MINUTE, "out_of_memory")
        if name == "odd":
            yield Event(begun + 75 * MINUTE, "machine.gone", **machine)
    for number, ago in enumerate((95, 90, 8, 3)):
        begun = UNTIL - ago * MINUTE
        times = (begun + 17 * MINUTE, begun + 30 * MINUTE) if ago > 60 else (0.0, 0.0)
        yield from _job(f"waits{number}", {"pool": "spot-memory", "machine": "i-late"}, begun, *times)
    for action, agos in (("found", (170, 169, 75, 4)), ("removed", (166, 165)), ("held", (72,))):
        for ago in agos:
            about: dict[str, Any] = {"pod": "left", "pod_uid": f"u-left{ago}", "cause": "ownerless"}
            yield Event(UNTIL - ago * MINUTE, f"reaper.{action}", **about)


_BOUGHT = ("asked", "launched", "ready")


def _job(
    name: str, where: dict[str, Any], queued: float, running: float = 0.0, ended: float = 0.0, cause: str = "ok"
) -> Iterator[Event]:
    """Times of 0: not yet."""
    about: dict[str, Any] = {"pool": where["pool"], "pod": name, "pod_uid": f"u-{name}", "team": "research"}
    about |= {"namespace": "tidepool-research", "dag": "notebooks", "task": name, "run": "r", "attempt": 1}
    about |= {"cpu_millis": 1500, "memory_bytes": 5 * GIB}
    yield Event(queued, "pod.queued", **about)
    if running:
        about["machine"] = where["machine"]
        yield from (Event(running, kind, **about) for kind in ("pod.scheduled", "pod.running"))
        yield Event(ended, "pod.ended", cause=cause, **about)
