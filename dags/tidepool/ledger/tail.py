"""Events as they are written, from a ledger that lies in a file: SQLite's database, or lines of JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tidepool.ledger import journal
from tidepool.ledger.events import Event

if TYPE_CHECKING:
    from tidepool.ledger.store import Store

_SQLITE = b"SQLite format 3\0"
_BATCH = 1000


class Tail:
    """Every call of `new` gives what was written since the last one, in the order in which it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = journal.Tail(path)
        self._store: Store | None = None
        self._sequence = 0

    def new(self) -> list[Event]:
        """None while the file does not exist. Raises EventError for a line that is no event, StoreError for a database
        without a ledger."""
        if not is_database(self._path):
            return self._lines.new()
        if self._store is None:
            from tidepool.ledger.store import Store  # a file of lines needs no SQLAlchemy

            self._store = Store.open(str(self._path), make=False)
        found: list[Event] = []
        while rows := self._store.after(self._sequence, _BATCH):
            self._sequence = rows[-1][0]
            found += [event for _, event in rows]
        return found

    def close(self) -> None:
        """Close the database, where it is one."""
        if self._store is not None:
            self._store.close()
            self._store = None


def read(path: Path) -> list[Event]:
    """All events of the file; a missing one has none. Raises as Tail.new does."""
    tail = Tail(path)
    try:
        return tail.new()
    finally:
        tail.close()


def follow(path: Path, stop: Callable[[], bool], interval: float = 0.2) -> Iterator[Event]:
    """Events from the file's start on, and then as they come, until `stop` is true; looks every `interval` seconds."""
    tail = Tail(path)
    try:
        while True:
            last = stop()
            yield from tail.new()
            if last:
                return
            time.sleep(interval)
    finally:
        tail.close()


def is_database(path: Path) -> bool:
    """Whether a SQLite database is there."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except FileNotFoundError:
        return False
