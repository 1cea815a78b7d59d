import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.dags.histories import BOOK, HOSTILE, changing_prices, history, machine, pod
from tidepool.ledger import schema
from tidepool.ledger.attribution import DAY, Billing, Window, attribute, bill
from tidepool.ledger.books import MARK, Books
from tidepool.ledger.books_rows import day
from tidepool.ledger.events import Event
from tidepool.ledger.lives import lives
from tidepool.ledger.migrations import run as migrations
from tidepool.ledger.store import Store
from tidepool.prices.book import Price, PriceBook

DAGS = Path(__file__).resolve().parents[2] / "dags"
NOW = 4 * DAY / 1000


def books(store: Store, now: float = NOW, book: PriceBook = BOOK, **options: object) -> Books:
    return Books(store, book, clock=lambda: now, **options)  # type: ignore[arg-type]


def rows(store: Store, table: sa.Table) -> list[dict[str, object]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def check(store: Store, book: PriceBook, now: float, billing: Billing) -> None:
    """The books against one attribution of everything."""
    told = lives(store.read())
    window = Window(0, round(now * 1000))
    held: dict[tuple[str, str, str, str], list[float]] = {}
    for part in attribute(told, book, window, billing):
        key = (part.machine.id, day(part.day), part.category, part.pod.uid if part.pod else "")
        sums = held.setdefault(key, [0, 0, 0])
        sums[0] += part.amount.held
        sums[1] += part.amount.unpriced
        sums[2] += part.amount.picodollars
    unit = 10**21
    found = {(row["machine"], row["day"], row["category"], row["pod_uid"]): row for row in rows(store, schema.costs)}
    assert set(found) == set(held)
    for key, row in found.items():
        assert row["seconds"] == pytest.approx(held[key][0] / unit, rel=1e-12)
        assert row["unpriced_seconds"] == pytest.approx(held[key][1] / unit, rel=1e-12)
        assert abs(row["picodollars"] - held[key][2]) <= 1  # type: ignore[operator]
        assert row["picodollars"] >= 0  # type: ignore[operator]
    for each in told.machines.values():
        alone = type(told)({each.id: each}, {})
        exact = bill(alone, book, window, billing).picodollars
        booked = sum(row["picodollars"] for key, row in found.items() if key[0] == each.id)  # type: ignore[misc]
        assert booked == int(exact + Fraction(1, 2)), "a machine's rows are its bill, to the picodollar"
    jobs = {row["pod_uid"]: row for row in rows(store, schema.jobs)}
    assert set(jobs) == set(told.pods)
    for uid, row in jobs.items():
        own = [sums for key, sums in held.items() if key[3] == uid]
        assert row["held_seconds"] == pytest.approx(sum(sums[0] for sums in own) / unit, rel=1e-12)
        assert (row["dag"], row["cause"]) == (told.pods[uid].dag, told.pods[uid].cause)
    assert {row["machine"] for row in rows(store, schema.machines)} == set(told.machines)
    by_day: dict[object, list[int]] = {}
    for row in found.values():
        key = tuple(row[name] for name in ("day", "market", "category", "pool", "team", "dag", "task"))
        by_day.setdefault(key, []).append(row["picodollars"])  # type: ignore[arg-type]
    days = rows(store, schema.days)
    assert {tuple(row.values())[:7]: row["picodollars"] for row in days} == {key: sum(by_day[key]) for key in by_day}
    assert sum(row["seconds"] for row in days) == pytest.approx(sum(row["seconds"] for row in found.values()))  # type: ignore[misc]
    check_tasks(rows(store, schema.task_days), jobs.values())


def check_tasks(found: list[dict[str, Any]], jobs: Iterable[dict[str, Any]]) -> None:
    """What tasks did by day against their pods."""
    held: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in jobs:
        if row["queued"] is not None:
            key = (day(int(row["queued"] * 1000)), row["dag"], row["task"], row["team"])
            held.setdefault(key, []).append(row)
    by_key = {tuple(row[name] for name in ("day", "dag", "task", "team")): row for row in found}
    assert set(by_key) == set(held)
    assert len(by_key) == len(found)
    for key, pods in held.items():
        row, bad = by_key[key], [pod for pod in pods if pod["cause"] != "ok" and pod["ended"] is not None]
        ran = [pod["ended"] - pod["started"] for pod in pods if None not in (pod["ended"], pod["started"])]
        known = [pod["usd"] for pod in pods if pod["usd"] is not None]
        assert (row["runs"], row["pods"]) == (len({pod["run"] for pod in pods}), len(pods))
        assert (row["failed"], row["ended"]) == (len(bad), len(ran))
        assert row["ran_seconds"] == (pytest.approx(sum(ran)) if ran else None)
        assert row["longest_seconds"] == max(ran, default=None)
        assert row["usd"] == (pytest.approx(sum(known)) if known else None)
        assert row["lost_usd"] == pytest.approx(sum(pod["usd"] or 0.0 for pod in bad))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_written_and_in_whatever_order_the_books_are_the_attribution(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable one is wanted
    store = Store.open(str(tmp_path / "ledger.db"))
    told, book = history(chance), changing_prices(chance)
    billing = Billing(chance.choice([0, 60]), chance.choice([0, 20]))
    kept = books(store, book=book, billing=billing)
    while told:
        store.record_all(told.pop() for _ in range(min(len(told), chance.randint(1, 40))))
        if chance.random() < 0.3:  # the next keeper
            kept = books(store, book=book, billing=billing)
        kept.update()
    check(store, book, NOW, billing)
    assert kept.update() == 0, "nothing is left to do"
    store.close()


def test_both_databases_have_the_same_books(store: Store) -> None:
    chance = random.Random(11)  # noqa: S311 - a repeatable one is wanted
    kept = books(store)
    for _ in range(4):
        store.record_all(history(chance))
        kept.update()
    check(store, BOOK, NOW, Billing())


def test_books_that_an_older_version_kept_are_made_anew_with_what_tasks_did(url: str) -> None:
    store = Store.open(url)
    store.record_all(history(random.Random(11)))  # noqa: S311 - a repeatable one is wanted
    books(store).update()
    with store.writing(1) as connection:
        migrations.downgrade(connection, "0004")
    store.close()
    again = Store.open(url)
    assert rows(again, schema.task_days) == []
    books(again).update()
    check(again, BOOK, NOW, Billing())
    again.close()


def test_what_is_still_there_costs_more_as_time_goes_by(store: Store) -> None:
    store.record_all(machine("i-1", 0, 10, None) + pod("a", "i-1", 20, 20, None))
    now = 0.0
    kept = Books(store, BOOK, clock=lambda: now)
    for moment, expected in ((100.0, 80), (140.0, 120)):
        now = moment
        kept.update()
        (row,) = (row for row in rows(store, schema.costs) if row["category"] == "job")
        assert row["seconds"] == expected
    store.record(Event(150, "machine.gone", "i-1"))
    now = 151.0
    kept.update()
    (found,) = rows(store, schema.machines)
    assert (found["is_over"], found["counted_until"]) == (True, 150)
    now = 500.0
    assert kept.update() == 0


def test_an_event_that_is_committed_after_later_ones_is_not_missed(store: Store) -> None:
    store.record_all(machine("i-1", 0, 10, 100))
    kept = books(store)
    kept.update()
    with store.writing(1) as connection:  # as PostgreSQL does it: a lower sequence, seen later
        connection.execute(sa.update(schema.events).values(sequence=schema.events.c.sequence + 10))
    again = books(store)
    again.update()
    with store.writing(1) as connection:
        late = {"sequence": 5, "identity": "pod.running/a", "time": 20.0, "kind": "pod.running", "pod_uid": "a"}
        connection.execute(sa.insert(schema.events), [{**late, "machine": "i-1", "pod": "job-a"}])
    again.update()
    check(store, BOOK, NOW, Billing())
    assert [row["pod_uid"] for row in rows(store, schema.jobs)] == ["a"]


def test_a_price_that_comes_later_is_in_the_books_of_machines_that_were_over(store: Store) -> None:
    store.record_all(machine("i-1", 0, 0, 3600) + machine("i-2", 0, 0, 3600, market="on-demand"))
    now = NOW
    kept = Books(store, BOOK, clock=lambda: now)
    kept.update()
    price = Price("us-east-1", "m5.large", "spot", 0.05, "us-east-1a", 1800)
    store.keep_prices([price])
    now += 61
    assert kept.update() == 1
    check(store, BOOK.merged([price]), now, Billing())
    cheaper = BOOK.merged([Price("us-east-1", "m5.large", "on-demand", 0.01)])
    books(store, now, cheaper).update()
    check(store, cheaper.merged([price]), now, Billing())


def test_a_pod_that_has_no_machine_yet_or_one_that_nobody_knows_is_in_the_books(store: Store) -> None:
    store.record_all([Event(1, "pod.queued", pod_uid="waits", dag="d"), *pod("lost", "i-9", 0, 0, 60)])
    books(store).update()
    found = {row["pod_uid"]: (row["machine"], row["usd"]) for row in rows(store, schema.jobs)}
    assert found == {"waits": ("", 0.0), "lost": ("i-9", None)}
    store.record_all(machine("i-9", 0, 0, 3600))
    books(store).update()
    (row,) = (row for row in rows(store, schema.jobs) if row["pod_uid"] == "lost")
    assert row["usd"] == pytest.approx(60 * 0.036 / 3600)


def test_names_that_no_index_takes_do_not_stop_the_books(store: Store) -> None:
    chance = random.Random(1)  # noqa: S311 - a repeatable one is wanted
    name = "".join(chance.choice("äöüabc0123456789") for _ in range(30_000))
    owner = {"pod": name, "dag": name, "task": name, "run": name, "team": name, "namespace": name}
    store.record_all([*machine("i-1", 0, 1, 9, pool=name), Event(3, "pod.running", "i-1", pod_uid="u", **owner)])  # type: ignore[arg-type]
    books(store).update()
    assert [row["dag"] for row in rows(store, schema.jobs)] == [name[:250]]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_only_ever_values(store: Store, name: str) -> None:
    kind = {"machine": name, "pool": name, "market": name, "instance_type": name, "zone": name}
    owner = {"pod": name, "pod_uid": name, "namespace": name, "dag": name, "task": name, "run": name, "team": name}
    told = [Event(1, "machine.asked", **kind), Event(2, "machine.ready", machine=name)]  # type: ignore[arg-type]
    told += [Event(3, "pod.running", machine=name, **owner), Event(9, "pod.ended", machine=name, cause=name, **owner)]  # type: ignore[arg-type]
    store.record_all(told)
    books(store).update()
    kept = name.replace("\0", "\ufffd").replace("\ud800", "?")
    (job,) = rows(store, schema.jobs)
    assert {job[each] for each in ("pod_uid", "machine")} == {kept}
    assert {job[each] for each in ("dag", "task", "run", "team", "cause", "pool", "market")} == {kept[:250]}
    assert sum(row["seconds"] for row in rows(store, schema.costs)) == pytest.approx(NOW - 1)  # type: ignore[misc]


KEEPER = """
import sys
from tidepool.ledger.books import Books
from tidepool.ledger.store import Store
from tidepool.prices.book import Price, PriceBook
book = PriceBook([Price("us-east-1", "m5.large", "spot", 0.036), Price("us-east-1", "m5.large", "on-demand", 0.096)])
store = Store.open(sys.argv[1])
books = Books(store, book, clock=lambda: float(sys.argv[2]))
print("open", flush=True)
while True:
    books.update()
    print("done", flush=True)
"""


def test_killed_in_the_middle_the_next_keeper_has_the_whole_books(url: str) -> None:
    chance = random.Random(5)  # noqa: S311 - a repeatable one is wanted
    store = Store.open(url)
    for number in range(4):
        told = itertools.chain.from_iterable(
            machine(f"i-{number}-{each}", each, each + 5, each + 900)
            + pod(f"u-{number}-{each}", f"i-{number}-{each}", each + 6, each + 7, each + 800)
            for each in range(120)
        )
        store.record_all(told)
        child = start(url)
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        try:
            child.wait(chance.uniform(0.02, 0.4))
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
    books(store).update()
    check(store, BOOK, NOW, Billing())
    store.close()


def test_two_keepers_beside_each_other_keep_one_set_of_books(url: str) -> None:
    store = Store.open(url)
    store.record_all(
        itertools.chain.from_iterable(
            machine(f"i-{each}", each, each + 5, each + 900) + pod(f"u-{each}", f"i-{each}", each + 6, each + 7, None)
            for each in range(240)
        )
    )
    children = [start(url) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        assert [child.stdout.readline(), child.stdout.readline()] == ["open\n", "done\n"], child.communicate()[0]
    for child in children:
        child.kill()
        child.communicate()
    check(store, BOOK, NOW, Billing())
    store.close()


def start(address: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(DAGS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-c", KEEPER, address, str(NOW)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def test_the_mark_moves_on_once_nothing_older_can_come(store: Store) -> None:
    store.record_all(machine("i-1", 0, 10, 100))
    now = NOW
    clock: Callable[[], float] = lambda: now  # noqa: E731
    kept = Books(store, BOOK, clock=clock)
    kept.update()
    assert '"sequence": 0' in (store.marked(MARK) or "")
    now += 61
    store.record_all(machine("i-2", 0, 10, 100))
    kept.update()
    assert '"sequence": 3' in (store.marked(MARK) or "")


@pytest.mark.parametrize(
    "error", [sa.exc.OperationalError("", {}, Exception("it is away")), sa.exc.TimeoutError("QueuePool limit reached")]
)
def test_the_books_wait_for_a_database_that_is_away_or_has_no_connection_left(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    kept, left = books(store), [error]

    def update() -> int:
        if not left:
            raise KeyboardInterrupt
        raise left.pop()

    monkeypatch.setattr(kept, "update", update)
    monkeypatch.setattr("tidepool.ledger.books.time.sleep", lambda seconds: None)
    with pytest.raises(KeyboardInterrupt):
        kept.run()
