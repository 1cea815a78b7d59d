"""What lets the keeper follow thousands of nodes and pods: few writes, small objects, lists by pages."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError, TimeoutError

from tests.dags.watched import CREATED, ApiServer, kinds, node, pod, pull
from tests.waiting import wait_until
from tidepool.keeper import watch
from tidepool.keeper.facts import node_events, pod_events
from tidepool.keeper.observers import Nodes, Pods
from tidepool.keeper.paring import pare
from tidepool.keeper.snapshot import slim
from tidepool.ledger.buffer import Buffer
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store
from tidepool.ledger.turns import Turns

LONG = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 200000) SELECT count(*) FROM n"
READY = Event(2.0, "machine.ready", "i-1", cpu_millis=1930)


class Counting(Store):
    """Counts its transactions."""

    writes = 0
    reads = 0

    def record_all(self, events: Iterable[Event]) -> int:
        self.writes += 1
        return super().record_all(events)

    def about(self, subjects: Any) -> list[Event]:
        self.reads += 1
        return super().about(subjects)


@pytest.fixture
def store(url: str) -> Iterator[Counting]:
    made = Counting.open(url)
    assert isinstance(made, Counting)
    yield made
    made.close()


def test_what_is_buffered_is_in_the_ledger_after_the_flush_and_once(store: Counting) -> None:
    store.record(READY)
    before = store.writes
    buffer = Buffer(store)
    assert not buffer.record(READY)
    assert all(buffer.record(Event(each, "machine.idle", "i-1", occurrence=f"u-{each}")) for each in (3, 4))
    assert buffer.known("machine.idle", "i-1") == Event(3, "machine.idle", "i-1", occurrence="u-3")
    assert store.events("machine.idle") == []
    buffer.flush()
    buffer.flush()
    assert [event.time for event in store.events("machine.idle")] == [3, 4]
    assert store.writes == before + 1


def test_what_could_not_be_written_is_written_the_next_time(store: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = Buffer(store)
    buffer.record(READY)
    with monkeypatch.context() as broken:
        broken.setattr(store, "record_all", lambda events: pytest.fail("no room left"))
        with pytest.raises(pytest.fail.Exception):
            buffer.flush()
    buffer.flush()
    assert store.events("machine.ready") == [READY]


def test_what_could_not_be_read_is_read_the_next_time(store: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    store.record(READY)
    buffer = Buffer(store)
    with monkeypatch.context() as broken:
        broken.setattr(store, "about", lambda subjects: pytest.fail("the database is away"))
        with pytest.raises(pytest.fail.Exception):
            buffer.known("machine.ready", "i-1")
    assert buffer.known("machine.ready", "i-1") == READY


def test_of_what_is_gone_nothing_stays_in_memory_and_nothing_is_written_twice(store: Counting) -> None:
    buffer = Buffer(store)
    buffer.record(READY)
    buffer.forget("i-1")
    buffer.flush()
    assert buffer._known == {}
    assert not buffer.record(READY)


def test_two_thousand_pods_of_a_list_cost_a_few_queries_and_one_write(store: Counting) -> None:
    buffer = Buffer(store)
    pods = Pods(buffer, lambda name: "i-1")
    there = [pod("running", uid=f"u-{number}") for number in range(2000)]
    reads, writes = store.reads, store.writes
    pods.listed(there, CREATED + 30)
    pods.in_step(CREATED + 30)
    assert store.reads - reads <= 6
    assert store.writes - writes == 1
    assert len(store.events("pod.running")) == 2000


def test_pods_that_come_while_it_watches_cost_no_query_and_are_still_written_once(store: Counting) -> None:
    store.record(Event(CREATED + 0.5, "pod.queued", pod="clean-u-3", pod_uid="u-3"))  # by a keeper before this one
    pods = Pods(Buffer(store), lambda name: "i-1")
    pods.listed([], CREATED)
    reads = store.reads
    for number in range(5):
        pods.changed("ADDED", pod(uid=f"u-{number}"), CREATED + 1)
        pods.changed("MODIFIED", pod("running", uid=f"u-{number}"), CREATED + 6)
    pods.in_step(CREATED + 6)
    assert store.reads == reads
    assert sorted(event.pod_uid for event in store.events("pod.queued")) == [f"u-{number}" for number in range(5)]


def test_a_watch_waits_for_one_transaction_of_the_books_and_not_for_all(store: Counting) -> None:
    begun, order = threading.Event(), []

    def books() -> None:
        for number in range(50):
            with store.writing(1) as connection:
                begun.set()
                connection.execute(sqlalchemy.text(LONG)).all()
                order.append(f"books {number}")

    writer = threading.Thread(target=books)
    writer.start()
    begun.wait(10)
    for number in range(5):
        store.record(Event(number + 1.0, "machine.idle", "i-1", occurrence=f"u-{number}"))
        order.append("watch")
    writer.join(30)
    assert len(order) == 55
    assert max(place for place, who in enumerate(order) if who == "watch") < 25, order


def test_turns_are_taken_in_the_order_of_coming_and_within_ones_own_at_once() -> None:
    turns, taken = Turns(), []

    def wait(number: int) -> None:
        with turns.turn(), turns.turn():
            taken.append(number)

    threads: list[threading.Thread] = []
    with turns.turn():
        for number in range(5):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            wait_until(lambda: len(turns._waiting) == len(threads), 10, f"thread {number} waits", look=0.001)
    for thread in threads:
        thread.join(10)
    assert taken == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="full"), turns.turn():
        raise OSError("full")
    assert turns._whose is None


def test_a_machine_of_many_jobs_idles_once_all_of_its_own_have_ended(store: Counting) -> None:
    buffer = Buffer(store)
    pods = Pods(buffer, lambda name: f"i-{name}")
    for number in range(6):
        there = pod("running", uid=f"u-{number}")
        there["spec"]["nodeName"] = f"node-{number % 2}"
        pods.changed("MODIFIED", there, CREATED + 6)
    for number in (0, 2, 4):
        done = pod("ended", uid=f"u-{number}")
        done["spec"]["nodeName"] = "node-0"
        pods.changed("MODIFIED", done, CREATED + 10)
    pods.in_step(CREATED + 10)
    assert [event.machine for event in store.events("machine.idle")] == ["i-node-0"]


def test_nodes_that_only_renew_their_status_write_nothing(store: Counting) -> None:
    buffer = Buffer(store)
    nodes = Nodes(buffer, lambda name: node(name))
    nodes.listed([node()], CREATED + 5)
    nodes.in_step(CREATED + 5)
    reads, writes = store.reads, store.writes
    for second in range(100):
        nodes.changed("MODIFIED", node(), CREATED + 6 + second)
        nodes.in_step(CREATED + 6 + second)
    assert (store.reads, store.writes) == (reads, writes)


def test_a_pared_object_tells_the_same_and_is_smaller() -> None:
    large = pod("ended", exit_code=3)
    large["metadata"]["managedFields"] = [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}] * 20
    large["spec"] |= {"affinity": {"nodeAffinity": {}}, "tolerations": [{}], "volumes": [{"name": "s", "emptyDir": {}}]}
    large["spec"]["volumes"].append({"name": "c", "persistentVolumeClaim": {"claimName": "scratch"}})
    for container in large["spec"]["containers"]:
        container |= {"env": [{"name": "A", "value": "b" * 2000}], "resources": {"requests": {"cpu": "1"}}}
    assert pod_events(pare(large), "i-1", CREATED + 60, True) == pod_events(large, "i-1", CREATED + 60, True)
    assert slim(pare(large)) == slim(large)
    assert len(json.dumps(pare(large))) < len(json.dumps(large)) / 3
    machine = node()
    machine["status"]["images"] = [{"names": ["a" * 200]}] * 50
    assert node_events(pare(machine), CREATED + 5, True) == node_events(machine, CREATED + 5, True)
    assert slim(pare(machine)) == slim(machine)
    assert "images" not in pare(machine)["status"]
    assert pare(pull()) == pull()


class Paged(ApiServer):
    """Answers lists by pages of two."""

    def __init__(self, items: list[dict[str, Any]], *script: Any) -> None:
        super().__init__(*script)
        self._items = items
        self.asked: list[Any] = []

    def __call__(self, **options: Any) -> Any:
        if options.get("watch"):
            return super().__call__(**options)
        self.asked.append(options.get("_continue"))
        start = int(options.get("_continue") or 0)
        metadata = {"resourceVersion": "7"} | ({"continue": str(start + 2)} if start + 2 < len(self._items) else {})
        answer = {"items": self._items[start : start + 2], "metadata": metadata}
        return type("Page", (), {"data": json.dumps(answer).encode()})


def test_a_list_is_read_by_pages_and_taken_in_as_one(store: Counting) -> None:
    server = Paged([pod("running", uid=f"u-{number}") for number in range(5)])
    buffer = Buffer(store)
    with pytest.raises(KeyboardInterrupt):
        watch.follow(server, Pods(buffer, lambda name: "i-1"), "pods")
    assert server.asked == [None, "2", "4"]
    assert len(store.events("pod.running")) == 5


def test_a_database_that_is_away_is_waited_for_and_gets_every_event_at_its_time(
    store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    away = 3
    write = store.record_all

    def record_all(events: Any) -> int:
        nonlocal away
        away -= 1
        if away >= 0:
            raise OperationalError("INSERT", {}, Exception("the server closed the connection"))
        return write(events)

    monkeypatch.setattr(store, "record_all", record_all)
    came = [{"type": "ADDED", "object": pod("running")}]
    went = [{"type": "ADDED", "object": pod(uid="u-2")}, {"type": "DELETED", "object": pod("running", uid="u-2")}]
    server = ApiServer([], came, went, [], [])
    with pytest.raises(KeyboardInterrupt):
        watch.follow(server, Pods(Buffer(store), lambda name: "i-1"), "pods")
    running = store.events("pod.running")
    assert [event.pod_uid for event in running] == ["u-1", "u-2"]
    assert not any(event.reconstructed for event in running), "as they were seen the first time"
    assert [event.pod_uid for event in store.events("pod.gone")] == ["u-2"], "which no list has"


def test_what_came_while_a_batch_was_written_is_written_together() -> None:
    go_on = threading.Event()

    def coming() -> Iterator[tuple[str, dict[str, Any]]]:
        yield "ADDED", pod()
        go_on.wait(10)
        yield from (("MODIFIED", pod("running", uid=f"u-{number}")) for number in range(50))
        raise OSError("connection reset")

    told: list[list[watch.Change]] = []
    before = set(threading.enumerate())

    def take() -> None:
        for batch in watch.batches(coming()):
            told.append(batch)
            go_on.set()
            for reading in set(threading.enumerate()) - before:
                reading.join(10)

    with pytest.raises(OSError, match="connection reset"):
        take()
    assert [len(batch) for batch in told] == [1, 50]
    moments = list(itertools.chain.from_iterable([change[2] for change in batch] for batch in told))
    assert moments == sorted(moments)


def test_a_watch_whose_changes_cannot_be_taken_leaves_no_thread_and_no_connection_behind() -> None:
    before = set(threading.enumerate())
    closed = threading.Event()

    def coming() -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            for number in itertools.count():
                yield "ADDED", pod(uid=f"u-{number}")
        finally:
            closed.set()

    def take() -> None:
        with contextlib.closing(watch.batches(coming())) as told:
            for _ in told:
                raise OperationalError("INSERT", {}, Exception("the database is away"))

    for _ in range(3):
        closed.clear()
        with pytest.raises(OperationalError):
            take()
        assert closed.wait(10)
    for reading in set(threading.enumerate()) - before:
        reading.join(10)
    assert set(threading.enumerate()) <= before


def test_a_watch_waits_where_the_database_has_no_connection_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    pods = Pods(Buffer(store), lambda name: "i-1")
    left = [TimeoutError("QueuePool limit of size 5 overflow 10 reached")]
    real = store.record_all

    def full(events: Any) -> int:
        if left:
            raise left.pop()
        return real(events)

    monkeypatch.setattr(store, "record_all", full)
    server = ApiServer([], [{"type": "ADDED", "object": pod()}], [])
    with pytest.raises(KeyboardInterrupt):
        watch.follow(server, pods, "pods")
    assert [event.pod_uid for event in store.events("pod.queued")] == ["u-1"]


def test_a_watch_that_ends_by_itself_leaves_nothing_behind() -> None:
    assert list(watch.batches(each for each in ())) == []
    (batch,) = watch.batches(each for each in [("ADDED", pod())])
    assert kinds(pod_events(batch[0][1], "", batch[0][2], True)) == ["pod.queued"]
