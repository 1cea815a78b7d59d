"""A ledger in a file is read as it grows, whichever kind of file it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidepool.ledger import tail
from tidepool.ledger.events import Event, EventError
from tidepool.ledger.journal import Recorder
from tidepool.ledger.store import Store, StoreError
from tidepool.ledger.tail import Tail

ASKED, GONE = Event(1.0, "machine.asked", machine="i-1"), Event(9.0, "machine.gone", machine="i-1")

KINDS: dict[str, Callable[[Path], Recorder | Store]] = {
    "lines": Recorder,
    "database": lambda path: Store.open(str(path)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_look_gives_what_was_written_since_the_last_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ledger"
    looking = Tail(path)
    assert looking.new() == []
    ledger = KINDS[kind](path)
    assert looking.new() == []
    ledger.record(ASKED)
    assert looking.new() == [ASKED]
    ledger.record(ASKED)
    ledger.record(GONE)
    assert (looking.new(), looking.new()) == ([GONE], [])
    looking.close()
    assert tail.read(path) == [ASKED, GONE]
    assert list(tail.follow(path, stop=lambda: True)) == [ASKED, GONE]


def test_more_than_a_batch_is_read_in_the_order_in_which_it_was_written(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "ledger.db"))
    written = [Event(float(2500 - number), "machine.asked", machine=f"i-{number}") for number in range(2500)]
    store.record_all(written)
    assert tail.read(tmp_path / "ledger.db") == written


def test_what_is_no_ledger_is_said(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("no event\n")
    with pytest.raises(EventError, match="line 1"):
        tail.read(tmp_path / "lines")
    (tmp_path / "database").write_bytes(b"SQLite format 3\0" + b"x" * 100)
    with pytest.raises(StoreError):
        tail.read(tmp_path / "database")
