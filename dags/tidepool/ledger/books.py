"""The books: what follows from the events, kept in tables that SQL can add up (tidepool.ledger.schema).

The events stay the only truth. Whatever a new event touches is figured anew from all events about it, and replaced in
one transaction: a machine with all its pods. So an update may be repeated or killed at any point, and a year's books
are those of its machines, each as tidepool.ledger.attribution has it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from tidepool.ledger import books_days, books_tasks, schema
from tidepool.ledger.attribution import SYSTEM_POOLS, Billing, Window, attribute
from tidepool.ledger.books_cursor import Cursor
from tidepool.ledger.books_rows import cost_rows, job_rows, machine_row
from tidepool.ledger.events import MACHINE_KINDS, POD_KINDS, Event
from tidepool.ledger.lives import Lives, lives, millis
from tidepool.ledger.store import AWAY, COLUMNS, Store, event_of, reason
from tidepool.prices.book import Price, PriceBook

EVERY_SECONDS = 3.0
RUNNING_EVERY_SECONDS = 30.0
"""How far the costs of a machine that is still there may lag."""

PRICES_EVERY_SECONDS = 60.0
MARK = "books"
_LOCK = 0x71DE9002
_FORM = 3  # raise it where the same events give other rows
_BATCH, _CHUNK = 20_000, 25
_BUSY = 4  # of its time it spends one part in so many at most

_log = logging.getLogger("tidepool.books")


class Books:
    """Keeps the tables up to the events of a store. Several may run on one database, as when keepers change."""

    def __init__(
        self,
        store: Store,
        prices: PriceBook,
        billing: Billing = Billing(),  # noqa: B008 - frozen
        system_pools: frozenset[str] = SYSTEM_POOLS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """prices: those that the store has none newer of. clock: Unix seconds."""
        self._store = store
        self._bundled = prices
        self._billing = billing
        self._system_pools = system_pools
        self._clock = clock
        self._book = prices
        self._priced: set[Price] | None = None
        self._basis = ""
        self._prices_due = self._running_due = 0.0
        self._cursor = Cursor()

    def run(self) -> None:
        """Update every few seconds, forever."""
        while True:
            begun = time.monotonic()
            try:
                self.update()
            except AWAY as error:
                _log.warning("the books wait for the database: %s", reason(error))
            time.sleep(max(EVERY_SECONDS, (_BUSY - 1) * (time.monotonic() - begun)))

    def update(self) -> int:
        """Take in what is new. Returns how many machines and machineless pods were written anew."""
        now = self._clock()
        written = 0
        if now >= self._prices_due:
            written += self._write(self._repriced(), set(), now)
            self._prices_due = now + PRICES_EVERY_SECONDS
        while told := self._new(now):
            written += self._write(*self._touched(told), now)
            self._mark(now)
            if len(told) < _BATCH:
                break
        if now >= self._running_due:
            begun = time.monotonic()
            written += self._write(self._running(now), set(), now)
            self._running_due = now + max(RUNNING_EVERY_SECONDS, 10 * (time.monotonic() - begun))
        return written

    def _new(self, now: float) -> list[tuple[int, Event]]:
        """Events that were not taken in yet, of the lowest sequences."""
        cursor = self._cursor
        if not cursor.is_set:
            kept = json.loads(self._store.marked(MARK) or "{}")
            cursor.start(int(kept.get("sequence", 0)) if kept.get("basis") == self._basis else 0)
        late = cursor.missed(self._store)
        told = late or self._store.after(cursor.last, _BATCH)
        cursor.took((sequence for sequence, _ in told), now)
        return told

    def _mark(self, now: float) -> None:
        kept = {"sequence": self._cursor.settle(now), "basis": self._basis, "billing": asdict(self._billing)}
        self._store.mark(MARK, json.dumps(kept))

    def _repriced(self) -> set[str]:
        """Take in the store's prices; the machines of which they say something new."""
        kept = set(self._store.prices())
        if kept == self._priced:
            return set()
        before, self._priced = self._priced, kept
        self._book = self._bundled.merged(kept)
        self._basis = _digest(self._book, self._billing, self._system_pools)
        if before is None:
            return set()  # the mark says what the rows are made with
        changed: dict[tuple[str, str], float] = {}
        for price in kept ^ before:
            key = (price.instance_type, price.market)
            changed[key] = min(price.since, changed.get(key, price.since))
        table = schema.machines
        with self._store.reading() as connection:
            return {
                str(found)
                for (kind, market), since in changed.items()
                for found in connection.scalars(
                    sa.select(table.c.machine).where(
                        table.c.instance_type == kind, table.c.market == market, table.c.counted_until > since
                    )
                )
            }

    def _running(self, now: float) -> set[str]:
        table = schema.machines
        due = sa.or_(table.c.counted_until.is_(None), table.c.counted_until < now)
        with self._store.reading() as connection:
            return set(connection.scalars(sa.select(table.c.machine).where(~table.c.is_over, due)))

    def _touched(self, told: Iterable[tuple[int, Event]]) -> tuple[set[str], set[str]]:
        """Machines that events say something of, also by a pod that an event ever placed there; and pods."""
        events = [event for _, event in told]
        machines = {event.machine for event in events if event.kind in MACHINE_KINDS}
        pods = {event.pod_uid for event in events if event.kind in POD_KINDS}
        table = schema.events
        with self._store.reading() as connection:
            for some in _chunks(pods, 1000):
                placed = (
                    sa.select(table.c.machine)
                    .distinct()
                    .where(table.c.pod_uid.in_(some), table.c.kind.in_(POD_KINDS), table.c.machine != "")
                )
                machines |= set(connection.scalars(placed))
        return machines, pods

    def _write(self, machines: set[str], pods: set[str], now: float) -> int:
        """Write the rows of these machines with their pods, and of these pods where they have no machine."""
        for some in _chunks(machines, _CHUNK):
            self._replace(some, [], now)
        lonely = 0
        for some in _chunks(pods, 10 * _CHUNK):
            lonely += self._replace([], some, now)
        return len(machines) + lonely

    def _replace(self, machines: list[str], pods: list[str], now: float) -> int:
        with self._store.writing(_LOCK) as connection:
            told = lives(_about(connection, machines, pods))
            chosen = set(machines)
            own = Lives({key: life for key, life in told.machines.items() if key in chosen}, told.pods)
            parts = list(attribute(own, self._book, Window(0, millis(now)), self._billing, self._system_pools))
            jobs = [pod for pod in told.pods.values() if (pod.machine in chosen if chosen else not pod.machine)]
            rows = [machine_row(each, self._book, self._billing, now) for each in own.machines.values()]
            booked = list(cost_rows(parts))
            changed = books_days.changed(connection, machines, booked, rows)
            uids = [pod.uid for pod in jobs]
            used = _used(connection, uids)
            pod_rows = [{**row, **used.get(row["pod_uid"], _UNUSED)} for row in job_rows(jobs, own, parts)]
            changed_tasks = books_tasks.changed(connection, uids, pod_rows)
            for table, column, subjects in (
                (schema.costs, schema.costs.c.machine, machines),
                (schema.machines, schema.machines.c.machine, machines),
                (schema.jobs, schema.jobs.c.pod_uid, uids),
            ):
                for some in _chunks(subjects, 1000):
                    connection.execute(sa.delete(table).where(column.in_(some)))
            for table, new in (
                (schema.costs, booked),
                (schema.machines, rows),
                (schema.jobs, pod_rows),
            ):
                if new:
                    connection.execute(sa.insert(table), new)
            books_days.add_up(connection, changed)
            books_tasks.add_up(connection, changed_tasks)
        return len(jobs)


_UNUSED: dict[str, Any] = {
    "cpu_seconds_used": None,
    "memory_p99_bytes": None,
    "memory_peak_bytes": None,
    "samples": 0,
}


def _about(connection: sa.Connection, machines: list[str], pods: list[str]) -> Iterator[Event]:
    """All events about machines and their pods, and about pods, as Store.read orders them."""
    table = schema.events
    wanted = set(pods)
    if machines:
        placed = sa.select(table.c.pod_uid).distinct().where(table.c.machine.in_(machines), table.c.kind.in_(POD_KINDS))
        wanted |= set(connection.scalars(placed))
    rows: list[Any] = []
    chosen = sa.select(table.c.sequence, *COLUMNS)
    if machines:
        is_one = sa.and_(table.c.machine.in_(machines), table.c.kind.in_(MACHINE_KINDS))
        rows += connection.execute(chosen.where(is_one)).all()
    for some in _chunks(wanted, 1000):
        rows += connection.execute(chosen.where(table.c.pod_uid.in_(some), table.c.kind.in_(POD_KINDS))).all()
    yield from (event_of(row[1:]) for row in sorted(rows, key=lambda row: row.sequence))


def _used(connection: sa.Connection, pods: list[str]) -> dict[str, dict[str, Any]]:
    """What the keeper measured of these pods, by UID."""
    table = schema.events
    figures = (table.c.cpu_seconds, table.c.memory_p99_bytes, table.c.memory_peak_bytes, table.c.samples)
    found: dict[str, dict[str, Any]] = {}
    for some in _chunks(pods, 1000):
        chosen = sa.select(table.c.pod_uid, *figures).where(table.c.pod_uid.in_(some), table.c.kind == "pod.used")
        found |= {uid: dict(zip(_UNUSED, row, strict=True)) for uid, *row in connection.execute(chosen)}
    return found


def _digest(book: PriceBook, billing: Billing, system_pools: frozenset[str]) -> str:
    """What rows are made with, beside events."""
    basis = repr((_FORM, billing, sorted(system_pools), sorted(map(repr, book.prices()))))
    return hashlib.sha256(basis.encode()).hexdigest()


def _chunks(things: Iterable[str], size: int) -> Iterator[list[str]]:
    ordered = sorted(things)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
