import contextlib
import dataclasses
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import SQLAlchemyError

from tests.dags.histories import HOSTILE
from tidepool.ledger import journal, schema
from tidepool.ledger.events import Event, Ledger
from tidepool.ledger.journal import Recorder
from tidepool.ledger.migrations import run as migrations
from tidepool.ledger.store import Store, StoreError
from tidepool.prices.book import Price

DAGS = Path(__file__).resolve().parents[2] / "dags"
ASKED = Event(1.5, "machine.asked", "i-1", "spot", "spot", "m5.large", 0.04, zone="us-east-1a", volume_gib=20)
ENDED = Event(9.5, "pod.ended", "i-1", pod="a", pod_uid="u-1", dag="d", attempt=2, cause="ok", cpu_millis=500)


def test_an_event_reads_back_as_it_was_written(store: Store) -> None:
    assert store.record_all([ENDED, ASKED]) == 2
    assert list(store.read()) == [ASKED, ENDED]
    assert store.known("pod.ended", "u-1") == ENDED
    assert store.events("machine.asked") == [ASKED]
    assert store.known("pod.ended", "u-2") is None


def test_the_same_fact_counts_once_whoever_writes_it_and_when(url: str, store: Store) -> None:
    assert store.record(ASKED)
    again = Store.open(url)
    assert not again.record(dataclasses.replace(ASKED, time=99.0))
    assert again.record_all([ASKED, ENDED, ENDED]) == 1
    assert list(again.read()) == [ASKED, ENDED]
    again.close()


def test_what_may_happen_again_is_another_fact_each_time(store: Store) -> None:
    idle = [Event(each, "machine.idle", "i-1", occurrence=f"u-{each}") for each in (1, 2)]
    assert store.record_all(idle) == 2
    assert store.record_all(idle) == 0
    assert store.known("machine.idle", "i-1") == idle[0]


@pytest.mark.parametrize(
    "make", [lambda path: Recorder(path / "events.jsonl"), lambda path: Store.open(str(path / "l"))]
)
def test_file_and_database_are_the_same_to_who_records(make: Callable[[Path], Ledger], tmp_path: Path) -> None:
    ledger = make(tmp_path)
    assert [ledger.record(each) for each in (ASKED, ENDED, ASKED)] == [True, True, False]
    assert ledger.known("machine.asked", "i-1") == ASKED
    assert ledger.events("pod.ended") == [ENDED]
    assert ledger.last_time(["machine.asked", "pod.ended"]) == 9.5
    assert ledger.last_time(["pod.queued"]) == 0
    here, gone = (Event(each, "pod.queued", pod_uid=f"u-{each}") for each in (1, 2))
    for event in (here, gone, Event(3, "pod.gone", pod_uid="u-2")):
        ledger.record(event)
    assert ledger.unfinished() == [here]
    other = dataclasses.replace(ASKED, machine="i-2")
    for each in (other, Event(12.0, "machine.gone", "i-1")):
        ledger.record(each)
    assert ledger.not_gone("machine.asked") == [other]


def test_a_batch_is_written_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(SQLAlchemyError):
        store.record_all([ASKED, dataclasses.replace(ENDED, dag=object())])  # type: ignore[arg-type]
    assert list(store.read()) == []


def test_followers_get_every_event_in_the_order_of_writing(store: Store) -> None:
    store.record_all([ENDED, ASKED])
    first = store.after(0, limit=1)
    assert [event for _, event in first] == [ENDED]
    assert [event for _, event in store.after(first[0][0])] == [ASKED]


def test_a_report_on_a_day_reads_what_was_there_and_not_the_year(store: Store) -> None:
    store.record_all(
        [
            Event(10, "machine.asked", "old"),
            Event(20, "machine.gone", "old"),
            Event(15, "pod.queued", pod_uid="old"),
            Event(16, "pod.ended", pod_uid="old", machine="old"),
            Event(17, "pod.queued", pod_uid="lost"),
            Event(18, "pod.running", pod_uid="lost", machine="old"),
            Event(30, "machine.asked", "there"),
            Event(31, "pod.queued", pod_uid="there"),
            Event(60, "machine.gone", "there"),
            Event(99, "machine.asked", "later"),
        ]
    )
    found = list(store.read(since=50, until=70))
    assert [(event.kind, event.key[1]) for event in found] == [
        ("machine.asked", "there"),
        ("pod.queued", "there"),
        ("machine.gone", "there"),
    ]


def test_marks_keep_the_last_value(store: Store) -> None:
    assert store.marked("pods") is None
    store.mark("pods", "1")
    store.mark("pods", "2'; --")
    assert store.marked("pods") == "2'; --"


def test_kept_prices_read_back_and_newer_ones_win(store: Store) -> None:
    old, new = (Price("us-east-1", "m5.large", "spot", usd, "us-east-1a", 100.5, "t") for usd in (0.04, 0.05))
    store.keep_prices([old, new])
    store.keep_prices([new])
    assert store.prices() == [new]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_only_ever_values(store: Store, name: str) -> None:
    """What no database takes as text is replaced, and the rest reads back letter by letter."""
    event = Event(1, "pod.queued", pod=name, pod_uid=name, namespace=name, dag=name, task=name, run=name, team=name)
    assert store.record(event)
    assert not store.record(event)
    (found,) = store.read(since=0.5)
    kept = name.replace("\0", "\ufffd").replace("\ud800", "?")
    assert (found.dag, found.pod_uid, found.team) == (kept, kept, kept)
    assert store.known("pod.queued", kept) == found
    store.mark(kept, kept)
    assert store.marked(kept) == kept


def test_names_do_no_harm_in_a_file_either(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for number, name in enumerate(HOSTILE):
        journal.append(path, Event(number, "pod.queued", pod_uid="u", dag=name))
    assert [event.dag for event in journal.read(path)] == [each.replace("\ud800", "?") for each in HOSTILE]


def test_opening_again_keeps_what_was_written_and_the_schema_is_what_the_code_says(url: str, store: Store) -> None:
    store.record(ASKED)
    again = Store.open(url)
    assert list(again.read()) == [ASKED]
    again.close()
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        options = {"version_table": migrations.VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def test_every_migration_can_be_taken_back(url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    for _ in range(2):
        with engine.begin() as connection:
            migrations.upgrade(connection)
        with engine.begin() as connection:
            migrations.downgrade(connection, "base")
            assert not sqlalchemy.inspect(connection).has_table("tidepool_events")
    engine.dispose()


def test_several_processes_may_open_a_new_database_at_once(url: str) -> None:
    code = "import sys; from tidepool.ledger.store import Store; Store.open(sys.argv[1]).mark(sys.argv[2], 'x')"
    children = [start(code, url, str(number)) for number in range(3)]
    assert [(child.wait(60), read_all(child)) for child in children] == [(0, "")] * 3


def test_threads_beside_each_other_lose_nothing_and_double_nothing(store: Store) -> None:
    def write(writer: int) -> None:
        for number in range(30):
            store.record(Event(number, "machine.asked", f"i-{number}", message=str(writer)))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.machine for event in store.read()) == sorted(f"i-{number}" for number in range(30))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://secret:word@host/x", "database URL can't be used|not in mysql"),
        ("nonsense://", "database URL can't be used"),
        ("sqlite:////nowhere/at/all/ledger.db", "unable to open"),
        *(
            (f"{scheme}://someone:secret@localhost:1/x", "refused|failed")
            for scheme in ("postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg")
        ),
    ],
)
def test_a_database_that_cannot_be_used_says_why_and_not_its_password(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)
    assert "word" not in str(caught.value).replace("user:password@host", "")


def test_who_only_reads_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no ledger"):
        Store.open(str(tmp_path / "typo.db"), make=False)
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from tidepool.ledger.events import Event
from tidepool.ledger.journal import Recorder
target, first = sys.argv[1], int(sys.argv[2])
if target.endswith(".jsonl"):
    ledger = Recorder(Path(target))
else:
    from tidepool.ledger.store import Store
    print("opening", flush=True)
    ledger = Store.open(target)
print("open", flush=True)
for number in range(first, first + 10_000):
    ledger.record(Event(number, "pod.queued", pod_uid=f"u-{number}", dag="d" * (number % 2000)))
    print(number, flush=True)
"""


@pytest.mark.parametrize("target", ["events.jsonl", "ledger.db"])
def test_killed_at_any_point_nothing_that_was_recorded_is_lost_or_doubled(tmp_path: Path, target: str) -> None:
    chance = random.Random(7)  # noqa: S311 - a repeatable one is wanted
    path = tmp_path / target
    recorded: set[int] = set()
    for _ in range(8):
        child = start(WRITER, str(path), str(max(recorded, default=0)))
        wanted = chance.randint(1, 60)
        assert child.stdout
        for line in child.stdout:
            if line.strip().isdecimal():
                recorded.add(int(line))
                wanted -= 1
            if not wanted:
                break
        child.kill()
        recorded |= {int(line) for line in child.stdout if line.strip().isdecimal()}
        assert child.wait(30) == -9
        there = read(path)
        assert len(there) == len({event.identity for event in there})
        numbers = {int(event.pod_uid.removeprefix("u-")) for event in there}
        assert recorded <= numbers
        assert len(numbers - recorded) <= 1, "only the one that was being written may be there without a word of it"
        recorded = numbers


def test_killed_while_it_makes_the_database_the_next_one_finishes_it(tmp_path: Path) -> None:
    chance = random.Random(3)  # noqa: S311 - a repeatable one is wanted
    for number in range(5):
        path = tmp_path / f"{number}.db"
        child = start(WRITER, str(path), "0")
        assert child.stdout
        assert child.stdout.readline() == "opening\n"
        try:
            child.wait(chance.uniform(0, 0.3))
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        opened = Store.open(str(path))
        opened.record(ASKED)
        assert ASKED in list(opened.read())
        opened.close()


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(DAGS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def read_all(child: subprocess.Popen[str]) -> str:
    return child.communicate()[0]


def read(path: Path) -> list[Event]:
    if path.suffix == ".jsonl":
        return journal.read(path)
    opened = Store.open(str(path))
    found = list(opened.read())
    opened.close()
    return found


def test_a_database_that_takes_connections_and_says_nothing_is_away_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidepool.ledger.store._CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        with pytest.raises(StoreError, match="timeout"):
            Store.open(f"postgresql+psycopg://u@127.0.0.1:{mute.getsockname()[1]}/d")
        assert time.monotonic() - began < 20


def test_a_connection_that_the_database_closed_is_made_anew(url: str, store: Store) -> None:
    if not url.startswith("postgresql"):
        pytest.skip("a file closes nothing")
    store.record(ASKED)
    other = Store.open(url)
    with other.writing(1) as connection:
        connection.execute(
            sqlalchemy.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        )
    assert store.events("machine.asked") == [ASKED]
    other.close()


def test_the_page_has_connections_of_its_own(store: Store) -> None:
    beside = store.beside()
    store.record(ASKED)
    with contextlib.ExitStack() as held:
        for _ in range(15):  # as many as there are
            held.enter_context(store.reading()).execute(sqlalchemy.text("SELECT 1"))
        assert beside.events("machine.asked") == [ASKED]
    beside.close()
