"""Where commands read the books from: a database, the local cloud's ledger, or a file of events."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from infra.local import paths
from infra.local.state import Cloud
from tidepool.ledger import journal
from tidepool.ledger.books import Books
from tidepool.ledger.events import EventError
from tidepool.ledger.store import Store, StoreError
from tidepool.prices import table as price_table

LEDGER_VARIABLE = "TIDEPOOL_LEDGER"

EventsOption = Annotated[
    Path | None,
    typer.Option("--events", metavar="FILE", help="A file of events, as lines of JSON.", dir_okay=False),
]
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        metavar="URL",
        help="The ledger: a SQLite file, sqlite:///… or postgresql+psycopg://…; else the local cloud's.",
        envvar=LEDGER_VARIABLE,
    ),
]


class LedgerError(Exception):
    """There are no books to read; the message says where they were looked for and what to do."""


def local() -> Path:
    """The local cloud's ledger, which stays when that is taken down."""
    return Cloud(paths.state()).events


@contextmanager
def opened(file: Path | None, database: str) -> Iterator[Store]:
    """The store with its books. Those of the local cloud and of a file are brought up to their events first; those of
    a database are the keeper's to keep. Raises LedgerError."""
    try:
        with tempfile.TemporaryDirectory(prefix="tidepool-books-") as folder:
            store = _store(file, database, Path(folder))
            try:
                yield store
            finally:
                store.close()
    except (StoreError, EventError, OSError) as error:
        raise LedgerError(str(error)) from error
    except SQLAlchemyError as error:
        raise LedgerError(f"the ledger can't be read: {str(getattr(error, 'orig', error)).strip()}") from error


def _store(file: Path | None, database: str, folder: Path) -> Store:
    if file is None and database:
        return Store.open(database, make=False)
    if file is not None:
        told = journal.read(file)
        if not told:
            raise LedgerError(f"{file} {'has no events' if file.exists() else 'does not exist'}")
        store = Store.open(str(folder / "ledger.db"))
        store.record_all(told)
    else:
        path = local()
        if not path.exists():
            raise LedgerError(
                f"there is no ledger: {path} does not exist; `tidepool demo` makes one. Or name a ledger with "
                "--database, or a file of events with --events"
            )
        store = Store.open(str(path))
    Books(store, price_table.bundled()).update()
    return store
