"""The ledger as a database: SQLite in a file, or PostgreSQL, by SQLAlchemy.

Every event is written in a transaction of its own and is on the disk when `record` returns; the same event written
again, by this process or another, changes nothing. Every value goes to the database as a parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from tidepool.ledger import schema
from tidepool.ledger.events import MACHINE_KINDS, POD_KINDS, REAPER_KINDS, Event
from tidepool.ledger.migrations import run as migrations
from tidepool.ledger.turns import Turns
from tidepool.prices.book import Price

_FIELDS = tuple(field.name for field in dataclasses.fields(Event))
COLUMNS = [schema.events.c[name] for name in _FIELDS]
_BATCH = 500
_BUSY_SECONDS = 30
_CONNECT_SECONDS = 5
_SILENT_SECONDS = 30
"""A server from whose machine nothing has come for so long is away; libpq alone would wait for hours."""

AWAY = (OperationalError, InterfaceError, InternalError, sa.exc.TimeoutError)
"""What is raised while the database is away, or has no connection left."""

_WRITES = "tidepool_writes"
_ENDS = ("pod.ended", "pod.gone")


class StoreError(Exception):
    """The database can't be used; the message says which (without its password), why and what to do."""


class Store:
    """The events of one ledger. Threads may share it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        is_sqlite = engine.dialect.name == "sqlite"
        self._insert = sqlite.insert if is_sqlite else postgresql.insert
        self._turn: Callable[[], AbstractContextManager[None]] = Turns().turn if is_sqlite else nullcontext

    @classmethod
    def open(cls, url: str, make: bool = True) -> Store:
        """The store of a URL, such as `sqlite:////var/lib/tidepool/ledger.db` or `postgresql+psycopg://…`; a path is a
        SQLite file. `make`: bring it to this version's schema, from nothing if need be; else it must be there.

        Raises StoreError.
        """
        engine = _engine(url)
        shown = engine.url.render_as_string(hide_password=True)
        if engine.dialect.name not in ("sqlite", "postgresql"):
            raise StoreError(f"{shown}: the ledger is in SQLite or PostgreSQL, not in {engine.dialect.name}")
        try:
            if make:
                with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
                    migrations.upgrade(connection)
            elif not _is_there(engine):
                raise StoreError(f"{shown}: there is no ledger; the keeper makes it when it starts")
        except (SQLAlchemyError, OSError) as error:
            engine.dispose()
            raise StoreError(f"{shown}: {reason(error)}") from error
        return cls(engine)

    def beside(self) -> Store:
        """The same database by connections of its own: whoever uses all of those leaves the others theirs."""
        return Store(_made(self._engine.url))

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for queries of one's own; all of them see the same moment."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection

    @contextmanager
    def writing(self, lock: int) -> Iterator[sa.Connection]:
        """A transaction; of those with the same lock there is one at a time, in all processes."""
        made = self._engine.connect().execution_options(**{_WRITES: True})
        with made as connection, self._turn(), connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
            yield connection

    def record(self, event: Event) -> bool:
        """Write the event unless the same fact is there; true if it was new."""
        return bool(self.record_all([event]))

    def record_all(self, events: Iterable[Event]) -> int:
        """Write these events in one transaction, all or none; how many were new."""
        rows = [_row(event) for event in events]
        insert = self._insert(schema.events).on_conflict_do_nothing(index_elements=["identity"])
        new = 0
        with self._turn(), self._engine.begin() as connection:
            for start in range(0, len(rows), _BATCH):
                batch = rows[start : start + _BATCH]
                new += len(connection.execute(insert.returning(schema.events.c.sequence), batch).all())
        return new

    def known(self, kind: str, subject: str) -> Event | None:
        """The first recorded event of this kind about this machine or pod UID, if there is one."""
        table = schema.events
        subject_of: sa.ColumnElement[str] = table.c.machine if kind in MACHINE_KINDS else table.c.pod_uid
        if kind in REAPER_KINDS:
            subject_of = sa.case((table.c.pod_uid == "", table.c.machine), else_=table.c.pod_uid)
        found = self._select(
            sa.select(*COLUMNS).where(table.c.kind == kind, subject_of == subject).order_by(table.c.sequence).limit(1)
        )
        return next(found, None)

    def about(self, subjects: Sequence[str]) -> list[Event]:
        """All events about these machines or pod UIDs, as they were written; at most some hundreds at once."""
        table = schema.events
        machines = sa.and_(table.c.kind.in_(MACHINE_KINDS), table.c.machine.in_(subjects))
        pods = sa.and_(table.c.kind.in_(POD_KINDS), table.c.pod_uid.in_(subjects))
        chosen = (sa.select(*COLUMNS, table.c.sequence).where(each) for each in (machines, pods))
        both = sa.union_all(*chosen).subquery()  # each half has an index of its own
        return list(self._select(sa.select(*(both.c[name] for name in _FIELDS)).order_by(both.c.sequence)))

    def events(self, kind: str) -> list[Event]:
        """All recorded events of this kind."""
        chosen = sa.select(*COLUMNS).where(schema.events.c.kind == kind)
        return list(self._select(chosen.order_by(schema.events.c.sequence)))

    def unfinished(self) -> list[Event]:
        """pod.queued of every pod that is not known to be gone."""
        table, gone = schema.events, schema.events.alias()
        over = sa.exists().where(gone.c.pod_uid == table.c.pod_uid, gone.c.kind == "pod.gone")
        return list(self._select(sa.select(*COLUMNS).where(table.c.kind == "pod.queued", ~over)))

    def not_gone(self, kind: str) -> list[Event]:
        """The events of this kind about machines that are not known to be gone."""
        table, gone = schema.events, schema.events.alias()
        over = sa.exists().where(gone.c.machine == table.c.machine, gone.c.kind == "machine.gone")
        chosen = sa.select(*COLUMNS).where(table.c.kind == kind, ~over).order_by(table.c.sequence)
        return list(self._select(chosen))

    def last_time(self, kinds: Sequence[str]) -> float:
        """The latest time of an event of these kinds; 0 where there is none."""
        latest = sa.select(sa.func.max(schema.events.c.time)).where(schema.events.c.kind.in_(kinds))
        with self._engine.connect() as connection:
            return float(connection.execute(latest).scalar() or 0.0)

    def read(self, since: float = 0.0, until: float | None = None) -> Iterator[Event]:
        """Everything about the machines and pods that were there between two times (Unix seconds), in time's order.

        What was over before `since` is left out, so that a report on a day does not read the year.
        """
        table = schema.events
        chosen = sa.select(*COLUMNS).order_by(table.c.time, table.c.sequence)
        if until is not None:
            chosen = chosen.where(table.c.time <= until)
        if since > 0:
            gone, pods = table.alias(), table.alias()
            machines_over = sa.select(gone.c.machine).where(gone.c.kind == "machine.gone", gone.c.time < since)
            # A pod is over with its machine, whether or not anybody wrote that down.
            pods_over = sa.select(pods.c.pod_uid).where(
                pods.c.kind.in_(POD_KINDS),
                sa.or_(
                    sa.and_(pods.c.kind.in_(_ENDS), pods.c.time < since),
                    pods.c.machine.in_(machines_over),
                ),
            )
            chosen = chosen.where(
                sa.case(
                    (table.c.kind.in_(MACHINE_KINDS), table.c.machine.not_in(machines_over)),
                    else_=table.c.pod_uid.not_in(pods_over),
                )
            )
        yield from self._select(chosen)

    def after(self, sequence: int, limit: int = 1000) -> list[tuple[int, Event]]:
        """(sequence, event) of the next events that were written after that sequence; 0 is before the first."""
        table = schema.events
        chosen = sa.select(table.c.sequence, *COLUMNS).where(table.c.sequence > sequence)
        with self._engine.connect() as connection:
            rows = connection.execute(chosen.order_by(table.c.sequence).limit(limit)).all()
        return [(row[0], event_of(row[1:])) for row in rows]

    def mark(self, name: str, value: str) -> None:
        """Keep a value under a name, in place of the one before."""
        insert = self._insert(schema.marks).values(name=name, value=value)
        with self._turn(), self._engine.begin() as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=["name"], set_={"value": insert.excluded.value})
            )

    def marked(self, name: str) -> str | None:
        """What was kept under the name last."""
        with self._engine.connect() as connection:
            return connection.execute(
                sa.select(schema.marks.c.value).where(schema.marks.c.name == name)
            ).scalar_one_or_none()

    def keep_prices(self, prices: Sequence[Price]) -> None:
        """Keep prices; of two for the same place and time the newer."""
        latest = {(each.instance_type, each.market, each.region, each.zone, each.since): each for each in prices}
        rows = [dataclasses.asdict(each) for each in latest.values()]
        insert = self._insert(schema.prices)
        changed = {"usd_per_hour": insert.excluded.usd_per_hour, "source": insert.excluded.source}
        keys = [column.name for column in schema.prices.primary_key]
        with self._turn(), self._engine.begin() as connection:
            for start in range(0, len(rows), _BATCH):
                batch = rows[start : start + _BATCH]
                connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed), batch)

    def prices(self) -> list[Price]:
        """All prices that were kept."""
        names = [field.name for field in dataclasses.fields(Price)]
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(*(schema.prices.c[name] for name in names))).all()
        return [Price(**dict(zip(names, row, strict=True))) for row in rows]

    def _select(self, chosen: sa.Select[Any]) -> Iterator[Event]:
        with self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=5000).execute(chosen):
                yield event_of(row)


def _engine(url: str) -> sa.Engine:
    if "://" not in url:
        url = f"sqlite:///{Path(url).absolute()}"
    # as Airflow's URL of the same database has it, and libpq's
    for others in ("postgresql://", "postgresql+psycopg2://", "postgres://"):
        if url.startswith(others):
            url = "postgresql+psycopg://" + url.removeprefix(others)
    try:
        return _made(sa.make_url(url))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            f"the ledger's database URL can't be used: {reason(error)}. It looks like sqlite:////path/ledger.db or "
            "postgresql+psycopg://user:password@host/database"
        ) from error


def _made(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() != "postgresql":
        engine = sa.create_engine(url)
    else:
        quiet = _SILENT_SECONDS // 3
        own = {
            "connect_timeout": _CONNECT_SECONDS,
            "keepalives_idle": quiet,
            "keepalives_interval": quiet // 2,
            "keepalives_count": 3,
            "tcp_user_timeout": _SILENT_SECONDS * 1000,
        }
        told = {name: value for name, value in own.items() if name not in url.query}
        engine = sa.create_engine(url, connect_args=told, pool_pre_ping=True, pool_timeout=_SILENT_SECONDS)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _durable)
        sa.event.listen(engine, "begin", _begin)
    return engine


def _is_there(engine: sa.Engine) -> bool:
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").is_file():
        return False  # connecting would make the file
    return sa.inspect(engine).has_table(schema.events.name)


def _durable(connection: Any, record: object) -> None:
    """Readers beside a writer, and what was committed is on the disk, whatever dies after it."""
    connection.isolation_level = None  # the driver would begin transactions by itself, and not for a change of schema
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # What reads first and writes then must lock first: SQLite does not wait where two would have to.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _row(event: Event) -> dict[str, Any]:
    row: dict[str, Any] = {"identity": storable(event.identity)}
    for name in _FIELDS:
        value = getattr(event, name)
        row[name] = storable(value) if isinstance(value, str) else value
    return row


def storable(value: str) -> str:
    """What any database takes as text: no half of a surrogate pair, and no NUL, which PostgreSQL refuses."""
    return value.encode(errors="replace").decode().replace("\0", "\ufffd")


def event_of(row: Sequence[Any]) -> Event:
    """The event of a row of COLUMNS."""
    return Event(*row)


def reason(error: Exception) -> str:
    """The driver's own words in one line; SQLAlchemy's add the statement with its parameters."""
    said = str(getattr(error, "orig", None) or error)
    return " ".join(said.split())
