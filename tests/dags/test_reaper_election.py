"""One keeper at a time, and a keeper as a process: it begins when it is the active one and ends when it is not."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from tests.dags.reaper_objects import NOW, job, node
from tests.waiting import wait_until
from tidepool.keeper import __main__ as keeper
from tidepool.keeper import watch
from tidepool.keeper.election import LEASE_SECONDS, RENEW_SECONDS, STEP_SECONDS, Election
from tidepool.keeper.ownership import Owner, Word
from tidepool.keeper.pace import Pace
from tidepool.keeper.reaping import Reaper
from tidepool.ledger import journal


class Leases:
    """One Lease on an API server. away: it does not answer. between: happens between a read and the write after."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.away = False
        self.between: Callable[[], Any] = lambda: None
        self.version = 0

    def _answer(self) -> None:
        if self.away:
            raise OSError("away")

    def read_namespaced_lease(self, name: str, namespace: str, **_: Any) -> Any:
        self._answer()
        if self.lease is None:
            raise ApiException(status=404)
        return SimpleNamespace(data=json.dumps(self.lease))

    def create_namespaced_lease(self, namespace: str, body: dict[str, Any], **_: Any) -> None:
        self._interrupt()
        if self.lease is not None:
            raise ApiException(status=409)
        self._store(body)

    def replace_namespaced_lease(self, name: str, namespace: str, body: dict[str, Any], **_: Any) -> None:
        self._interrupt()
        if self.lease is None or self.lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ApiException(status=409)
        self._store(body)

    def _interrupt(self) -> None:
        self._answer()
        between, self.between = self.between, lambda: None
        between()

    def _store(self, body: dict[str, Any]) -> None:
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)


class Race:
    """Candidates for one Lease, and a clock that is theirs alone."""

    def __init__(self) -> None:
        self.now = 100.0
        self.leases = Leases()

    def candidate(self, name: str) -> Election:
        api: Any = self.leases
        return Election(api, "tidepool", "keeper", name, clock=lambda: self.now)

    def holder(self) -> str:
        assert self.leases.lease is not None
        return str(self.leases.lease["spec"]["holderIdentity"])


@pytest.fixture
def race() -> Race:
    return Race()


def test_the_first_leads_and_the_second_waits(race: Race) -> None:
    one, two = race.candidate("one"), race.candidate("two")
    for _ in range(60):
        assert (one.step(), two.step()) == (True, False)
        race.now += STEP_SECONDS


def test_of_two_that_ask_at_the_same_time_one_gets_it(race: Race) -> None:
    one, two = race.candidate("one"), race.candidate("two")
    race.leases.between = two.step
    assert (one.step(), two.leads()) == (False, True)


def test_what_one_that_was_killed_held_is_anothers_when_it_has_not_changed_for_its_time(race: Race) -> None:
    one, two = race.candidate("one"), race.candidate("two")
    assert one.step()
    began = race.now
    while not two.step():
        race.now += STEP_SECONDS
    assert LEASE_SECONDS <= race.now - began <= LEASE_SECONDS + 2 * STEP_SECONDS
    assert race.holder() == "two"
    assert race.leases.lease is not None
    assert race.leases.lease["spec"]["leaseTransitions"] == 2


def test_there_are_never_two_whoever_reaches_the_api_server(race: Race) -> None:
    """One is cut off: it stops leading before the other begins."""
    one, two = race.candidate("one"), race.candidate("two")
    assert one.step()
    cut_off = race.now
    while race.now < cut_off + 60:
        race.now += 0.5
        race.leases.away = True
        one.step()
        race.leases.away = False
        two.step()
        assert not (one.leads() and two.leads())
        assert one.leads() is (race.now - cut_off < RENEW_SECONDS)
    assert two.leads()
    assert not one.step(), "it learns that it leads no more"


def test_one_that_comes_again_under_its_name_need_not_wait(race: Race) -> None:
    assert race.candidate("one").step()
    assert race.candidate("one").step()


def test_what_was_released_is_anothers_at_once(race: Race) -> None:
    one, two = race.candidate("one"), race.candidate("two")
    assert one.step()
    one.release()
    assert not one.leads()
    assert two.step()
    one.release()
    assert race.holder() == "two"


def test_a_lease_that_somebody_took_is_led_no_more(race: Race) -> None:
    one = race.candidate("one")
    assert one.step()
    assert race.leases.lease is not None
    race.leases.lease["spec"]["holderIdentity"] = "two"
    assert not one.step()


# The process


class Chosen:
    """An election whose outcome is given, one step after another."""

    def __init__(self, *steps: bool) -> None:
        self.steps = list(steps)
        self.stopped = threading.Event()

    def step(self) -> bool:
        if len(self.steps) == 1:
            self.stopped.set()
        return self.steps.pop(0)


class Thread:
    def __init__(self, alive: bool = True) -> None:
        self.is_alive = lambda: alive


def led(*steps: bool, alive: bool = True) -> tuple[bool, int]:
    """Whether it was stopped in peace, and how often it began."""
    chosen: Any = Chosen(*steps)
    begun: list[Any] = []

    def begin() -> Any:
        begun.append(Thread(alive))
        return begun

    return keeper.lead(chosen, chosen.stopped, begin, step_seconds=0.001), len(begun)


def test_a_keeper_begins_once_when_it_is_the_active_one() -> None:
    assert led(False, False) == (True, 0)
    assert led(False, True, True, True) == (True, 1)


def test_a_keeper_ends_when_it_is_not_the_active_one_any_more_or_a_part_of_it_has_ended() -> None:
    assert led(True, True, False) == (False, 1)
    assert led(True, True, alive=False) == (False, 1)


def test_a_keeper_that_does_nothing_any_more_ends_so_that_another_can_lead() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    stopped, thread = threading.Event(), Thread()
    now[0] = 1e6  # for so long another one was the active one
    pace.begin()

    def passing() -> str:
        now[0] += 50
        if now[0] < 1e6 + 500:
            pace.in_step("nodes", now[0])
        return pace.trouble()

    assert not keeper.lead(None, stopped, lambda: [thread], passing, step_seconds=0.001)
    assert 1e6 + 450 + 120 <= now[0] <= 1e6 + 450 + 170


def test_a_single_keeper_needs_no_lease() -> None:
    stopped = threading.Event()

    def begin() -> Any:
        stopped.set()
        return [Thread()]

    assert keeper.lead(None, stopped, begin, step_seconds=0.001)


class Api:
    """An API server whose watches tell the same list once and then nothing."""

    def __init__(self, *pods: Any) -> None:
        self.pods = list(pods)
        self.deleted: list[str] = []
        self.over = threading.Event()
        self.configuration = client.Configuration()

    def _list(self, items: list[Any], watch: bool = False, **_: Any) -> Any:
        if self.over.is_set():
            raise SystemExit  # ends the thread that asks
        if watch:
            self.over.wait(0.01)
            return SimpleNamespace(stream=lambda **_: iter(()), close=lambda: None, release_conn=lambda: None)
        return SimpleNamespace(data=json.dumps({"items": items, "metadata": {"resourceVersion": "1"}}))

    def list_node(self, **options: Any) -> Any:
        return self._list([node("node-1")], **options)

    def list_pod_for_all_namespaces(self, **options: Any) -> Any:
        return self._list(self.pods, **options)

    def list_namespaced_pod(self, namespace: str, **options: Any) -> Any:
        return self._list(self.pods, **options)

    def list_event_for_all_namespaces(self, **options: Any) -> Any:
        return self._list([], **options)

    def list_persistent_volume_claim_for_all_namespaces(self, **options: Any) -> Any:
        return self._list([], **options)

    def list_namespaced_lease(self, namespace: str, **options: Any) -> Any:
        return self._list([], **options)

    def read_node(self, name: str, **_: Any) -> Any:
        if name != "node-1":
            raise ApiException(status=404)
        return SimpleNamespace(data=json.dumps(node(name)))

    def read_namespaced_lease(self, name: str, namespace: str, **_: Any) -> Any:
        raise ApiException(status=404)

    def delete_namespaced_pod(self, name: str, namespace: str, **_: Any) -> None:
        self.deleted.append(name)
        self.pods = [pod for pod in self.pods if pod["metadata"]["name"] != name]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # how its threads are ended
@pytest.mark.parametrize("dry_run", [False, True])
def test_the_keeper_records_and_reaps(
    tmp_path: Path, capacity_file: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    api: Any = Api(job("orphan", lease=NOW - 900), job("fine", lease=time.time() + 800))
    for name in ("CoreV1Api", "CoordinationV1Api"):
        monkeypatch.setattr(client, name, lambda _: api)
    monkeypatch.setattr(keeper, "word", lambda *_: lambda owner: Word.OVER)
    monkeypatch.setattr(Reaper, "run", _often(Reaper.run, api.over))
    monkeypatch.setattr(keeper.Usage, "run", lambda _: api.over.wait())
    events = tmp_path / "events.jsonl"
    arguments = keeper.parser().parse_args(["--events", str(events), *(["--dry-run"] if dry_run else [])])
    threads = keeper.start(arguments, api, None, watch.open_ledger(arguments))
    assert {thread.name for thread in threads} >= {"nodes", "pods", "image pulls", "reaper"}

    def kinds() -> set[str]:
        return {event.kind for event in journal.read(events)}

    wanted = {"machine.ready", "pod.queued", "reaper.found"} | (set() if dry_run else {"reaper.removed"})
    try:
        wait_until(lambda: wanted <= kinds(), 10, f"events of the kinds {sorted(wanted)}")
        assert api.deleted == ([] if dry_run else ["orphan"])
        assert all(thread.is_alive() for thread in threads)
    finally:
        api.over.set()
        for thread in threads:
            thread.join(10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # how its threads are ended
def test_a_pod_on_a_machine_that_is_gone_is_lost_however_long_airflow_takes_to_answer(
    tmp_path: Path, capacity_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api: Any = Api(job("orphan", lease=NOW - 900), job("lost", lease=time.time() + 800, node="node-9"))
    for name in ("CoreV1Api", "CoordinationV1Api"):
        monkeypatch.setattr(client, name, lambda _: api)
    asked = threading.Event()

    def slow(owner: Owner) -> Word:
        asked.set()
        api.over.wait()
        return Word.SILENT

    monkeypatch.setattr(keeper, "word", lambda *_: slow)
    monkeypatch.setattr(Reaper, "run", _often(Reaper.run, api.over))
    monkeypatch.setattr(keeper.Usage, "run", lambda _: api.over.wait())
    arguments = keeper.parser().parse_args(["--events", str(tmp_path / "events.jsonl")])
    threads = keeper.start(arguments, api, None, watch.open_ledger(arguments))
    try:
        assert asked.wait(10)
        wait_until(lambda: api.deleted == ["lost"], 10, "it is removed")
    finally:
        api.over.set()
        for thread in threads:
            thread.join(10)


def _often(run: Callable[..., None], over: threading.Event) -> Callable[..., None]:
    return lambda self: run(self, over.is_set, every=0.01)


def test_without_airflows_address_nobody_is_said_to_live_or_not() -> None:
    assert keeper.word(None)(Owner("t", "d", "k", "r", 1, 1)) is Word.SILENT


def test_the_ledger_is_a_file_or_a_database_and_one_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        keeper.parser().parse_args([])
    assert "--events" in capsys.readouterr().err
