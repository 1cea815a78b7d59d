import json
import threading
from pathlib import Path

import pytest

from tidepool.ledger import events, journal, tail
from tidepool.ledger.events import Event, EventError
from tidepool.ledger.journal import Recorder, Tail

ASKED = Event(time=1.5, kind="machine.asked", machine="i-1", pool="spot-small", market="spot", usd_per_hour=0.04)
QUEUED = Event(time=1.0, kind="pod.queued", pod="clean-x", pod_uid="u-1", dag="flights_daily", attempt=1)


@pytest.mark.parametrize("event", [ASKED, QUEUED, Event(2, "pod.ended", pod_uid="u-1", cause="ok", message="ü\n}")])
def test_an_event_reads_back_as_it_was_written(event: Event, tmp_path: Path) -> None:
    journal.append(tmp_path / "events.jsonl", event)
    assert journal.read(tmp_path / "events.jsonl") == [event]


def test_a_missing_file_has_no_events(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none.jsonl") == []


def test_a_torn_last_line_is_left_out_and_the_next_writer_starts_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    journal.append(path, ASKED)
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        tail = Tail(path)
        assert tail.new() == [ASKED]
        journal.append(path, QUEUED)
        assert tail.new() == [QUEUED]
        assert journal.read(path) == [ASKED, QUEUED]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"time":1,"kind":"machine.asked","machine":"i-1","colour":"red"}', "unknown keys colour"),
        ('{"time":"1","kind":"machine.asked","machine":"i-1"}', "wrong type: time='1'"),
        ('{"time":1,"kind":"machine.lost","machine":"i-1"}', "not 'machine.lost'"),
        ('{"time":1,"kind":"pod.queued"}', "needs pod_uid"),
        ('{"kind":"machine.gone","machine":"i-1"}', "time"),
    ],
)
def test_a_line_that_is_no_event_is_named_with_file_line_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "events.jsonl"
    journal.append(path, ASKED)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(EventError, match="line 2") as caught:
        journal.read(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_fact_is_recorded_once_over_restarts_of_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert Recorder(path).record(ASKED)
    again = Recorder(path)
    assert not again.record(Event(time=9, kind="machine.asked", machine="i-1"))
    assert again.record(Event(time=9, kind="machine.ready", machine="i-1"))
    assert again.known("machine.asked", "i-1") == ASKED
    assert len(journal.read(path)) == 2


def test_writers_beside_each_other_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    def write(writer: int) -> None:
        for number in range(50):
            journal.append(path, Event(time=number, kind="machine.asked", machine=f"i-{writer}-{number}"))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({event.machine for event in journal.read(path)}) == 200


def test_following_gives_what_was_there_and_what_comes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    journal.append(path, ASKED)
    seen: list[Event] = []
    for event in tail.follow(path, stop=lambda: len(seen) == 2, interval=0.001):
        seen.append(event)
        if len(seen) == 1:
            journal.append(path, QUEUED)
    assert seen == [ASKED, QUEUED]


def test_fields_that_say_nothing_take_no_room() -> None:
    assert json.loads(events.dumps(QUEUED)).keys() == {"time", "kind", "pod", "pod_uid", "dag", "attempt"}
