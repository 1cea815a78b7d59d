"""Where commands read from what happened: a database, the local cloud's ledger, or a file of events."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from infra.cli.told import CommandError
from infra.local import cloud, paths
from infra.local.state import Cloud
from tidepool.ledger import journal
from tidepool.ledger.books import Books
from tidepool.ledger.events import Event, EventError
from tidepool.ledger.store import Store, StoreError
from tidepool.prices import table as price_table
from tidepool.prices.book import Price

EventsOption = Annotated[
    Path | None,
    typer.Option("--events", metavar="FILE", help="A file of events, as lines of JSON.", dir_okay=False),
]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        metavar="URL",
        help="The ledger: a SQLite file, sqlite:///… or postgresql://…; else the local cloud's.",
        envvar="TIDEPOOL_LEDGER",
    ),
]
_SQLITE = b"SQLite format 3\0"


class LedgerError(CommandError):
    """There is nothing to read from; the message says where it was looked for and what to do."""


@dataclass(frozen=True)
class Source:
    """Events and prices, and where they are from. written: somebody still writes there, so that it goes on until now.

    empty: that there is no event at all, and how that changes; empty where there are some, of whatever time.
    """

    events: list[Event]
    prices: list[Price]
    where: str
    written: bool
    empty: str


def local() -> Path:
    """The local cloud's ledger, which stays when that is taken down."""
    return Cloud(paths.state()).events


def events(file: Path | None, database: str, since: float, until: float) -> Source:
    """What tells of the time between two times (Unix seconds); of a file all of it. Raises LedgerError."""
    if file is not None:
        told = _read(file)
        return Source(told, [], str(file), written=False, empty="" if told else _empty(file, database))
    url = database or str(_there())
    with _mistakes(), closing(Store.open(url, make=False)) as store:
        where, written = ("the ledger", True) if database else (url, cloud.is_up())
        return Source(list(store.read(since, until)), store.prices(), where, written, why_empty(store, file, database))


@contextmanager
def opened(file: Path | None, database: str) -> Iterator[Store]:
    """The store with its books. Those of the local cloud and of a file are brought up to their events first; those of
    a database are the keeper's to keep. Raises LedgerError."""
    books = tempfile.TemporaryDirectory(prefix="tidepool-books-")
    with _mistakes(), books as folder, closing(_store(file, database, Path(folder))) as store:
        yield store


def why_empty(store: Store, file: Path | None, database: str) -> str:
    """That there is no event at all, and how that changes; empty where there are some."""
    return "" if store.after(0, 1) else _empty(file, database)


def _empty(file: Path | None, database: str) -> str:
    if file is not None:
        return f"{file} has no events: nothing has happened yet, or it is another file"
    if database:
        return "the ledger has no events yet: the keeper writes them as machines come and jobs run"
    return "the local cloud's ledger has no events yet: `tidepool local run flights_daily` makes some"


def _there() -> Path:
    path = local()
    if not path.exists():
        raise LedgerError(
            f"there is no ledger: {path} does not exist; `tidepool demo` makes one. Or name a ledger with "
            "--database, or a file of events with --events"
        )
    return path


def _read(file: Path) -> list[Event]:
    try:
        with file.open("rb") as opened:
            is_database = opened.read(len(_SQLITE)) == _SQLITE
        if is_database:
            raise LedgerError(f"{file} is a database and not a file of events: name it with --database")
        return journal.read(file)
    except FileNotFoundError as error:
        raise LedgerError(f"--events: {file} does not exist") from error
    except OSError as error:
        raise LedgerError(f"--events: {file}: {error.strerror}") from error
    except EventError as error:
        raise LedgerError(f"{error}. A file of events has one in every line; a database is for --database") from error


def _store(file: Path | None, database: str, folder: Path) -> Store:
    if file is None and database:
        return Store.open(database, make=False)
    if file is not None:
        told = _read(file)
        store = Store.open(str(folder / "ledger.db"))
        store.record_all(told)
    else:
        store = Store.open(str(_there()))
    Books(store, price_table.bundled()).update()
    return store


@contextmanager
def _mistakes() -> Iterator[None]:
    try:
        yield
    except (StoreError, EventError, OSError) as error:
        hint = "; a file of events goes with --events" if "file is not a database" in str(error) else ""
        raise LedgerError(f"{error}{hint}") from error
    except SQLAlchemyError as error:
        raise LedgerError(f"the ledger can't be read: {str(getattr(error, 'orig', error)).strip()}") from error
