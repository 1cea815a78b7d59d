"""The reaper's loop with a clock of its own: grace times, limits, dry run, what is written down, random histories."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.cli.view import board
from tests.dags.reaper_objects import NOW, TENANTS, WORDS, claim, ended, job, member, node
from tidepool.capacity import Pool
from tidepool.keeper.ownership import Owner, stamp
from tidepool.keeper.reaper import Finding, World
from tidepool.keeper.reaping import EVERY_SECONDS, Reaper
from tidepool.labels import HOLDER, LEASE, utc
from tidepool.ledger import journal
from tidepool.ledger.events import Event
from tidepool.ledger.journal import Recorder
from tidepool.ledger.lives import lives
from tidepool.ledger.store import Store

Object = dict[str, Any]


class Sight:
    """A cluster in memory. stale: what a look shows instead of what is there. refuse: removals are answered 409."""

    def __init__(self, *pods: Object) -> None:
        self.now = NOW
        self.pods = {pod["metadata"]["uid"]: pod for pod in pods}
        self.nodes = [node("node-1"), node("node-2")]
        self.claims: list[Object] = []
        self.renewed: dict[str, float] = {}
        self.ended: set[str] = set()
        self.pools: tuple[Pool, ...] = ()
        self.lives: Callable[[Owner], bool | None] = lambda owner: False
        self.stale: World | None = None
        self.away = False
        self.refuse = False
        self.removed: list[tuple[str, str, float]] = []

    def world(self, now: float) -> World:
        if self.away:
            raise OSError("the API server is away")
        return self.stale or self.fresh(None, now)

    def fresh(self, finding: Finding | None, now: float) -> World:
        if self.away:
            raise OSError("the API server is away")
        return World(
            now,
            TENANTS,
            pools=self.pools,
            pods=list(self.pods.values()),
            nodes=list(self.nodes),
            claims=list(self.claims),
            renewed=dict(self.renewed),
            ended=self.ended.__contains__,
            word=lambda owner: WORDS[self.lives(owner)],
        )

    def remove(self, finding: Finding) -> bool:
        if self.refuse:
            return False
        self.removed.append((finding.rule.name, finding.name, self.now))
        self.pods.pop(finding.uid, None)
        self.claims = [each for each in self.claims if each["metadata"]["uid"] != finding.uid]
        return True


class Ledger(Recorder):
    """The events file; `full` lets no event in."""

    full: frozenset[str] | set[str] = frozenset()

    def record(self, event: Any) -> bool:
        if event.kind in self.full:
            raise OSError("the disk is full")
        return super().record(event)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def reaper(sight: Sight, file: Path, **options: Any) -> Reaper:
    return Reaper(sight, Ledger(file), now=lambda: sight.now, **options)


def watch(made: Reaper, sight: Sight, seconds: float) -> None:
    """Looks every few seconds, for so long."""
    until = sight.now + seconds
    while sight.now < until:
        made.look()
        sight.now += EVERY_SECONDS


def told(file: Path) -> list[tuple[str, str, str]]:
    return [(event.kind, event.cause, event.pod or event.pod_uid or event.machine) for event in journal.read(file)]


def test_an_orphan_is_written_down_and_removed_two_minutes_after_its_lease_should_have_been_renewed(file: Path) -> None:
    sight = Sight(job(lease=NOW + 750), job("fine", lease=NOW + 850))
    watch(reaper(sight, file), sight, 180)
    assert sight.removed == [("ownerless", "clean", NOW + 90)]
    assert told(file) == [("reaper.found", "ownerless", "clean"), ("reaper.removed", "ownerless", "clean")]
    found, removed = journal.read(file)
    assert (found.dag, found.task, found.run, found.attempt, found.team) == (
        *("flights", "clean", "manual__1", 1),
        "analytics",
    )
    assert removed.message.startswith("delete: nobody has renewed its lease since 2025-12-31T23:57:30Z, and")


def test_a_restart_of_the_keeper_keeps_no_orphan_alive(file: Path) -> None:
    sight = Sight(job(lease=NOW + 780))
    while sight.now < NOW + 200:
        reaper(sight, file).look()
        sight.now += EVERY_SECONDS
    assert sight.removed == [("ownerless", "clean", NOW + 120)]


def test_what_was_remembered_only_is_waited_for_once_more_after_a_restart(file: Path) -> None:
    sight = Sight(member(job("absent")))
    made = reaper(sight, file)
    watch(made, sight, 60)
    made = reaper(sight, file)
    watch(made, sight, 60)
    assert sight.removed == []
    watch(made, sight, 20)
    assert sight.removed == [("stranded", "exec-1", NOW + 120)]


def test_a_pod_on_a_machine_that_has_ended_is_lost_within_90_seconds(file: Path) -> None:
    """The kubelet's last renewal, the ledger's word and Kubernetes' own at their slowest."""
    sight = Sight(job(lease=NOW + 9000))
    sight.lives = lambda owner: True
    made = reaper(sight, file)
    watch(made, sight, 3)
    died = sight.now
    sight.renewed = {"node-1": died}
    while sight.now < died + 90 and not sight.removed:
        if sight.now >= died + 30:
            sight.ended = {"i-node-1"}
        if sight.now >= died + 55:
            sight.nodes[0] = node("node-1", ready="Unknown")
        made.look()
        sight.now += EVERY_SECONDS
    assert [rule for rule, *_ in sight.removed] == ["lost"]
    assert sight.removed[0][2] - died <= 90


def test_while_airflow_is_away_a_pod_without_a_lease_stays_for_six_hours_after_its_last_word(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    sight.lives = lambda owner: None
    made = reaper(sight, file)
    watch(made, sight, 5.9 * 3600)
    sight.lives = lambda owner: True
    watch(made, sight, EVERY_SECONDS)
    sight.lives = lambda owner: None
    back = sight.now
    watch(made, sight, 5.9 * 3600)
    assert sight.removed == []
    watch(made, sight, 3600)
    assert sight.removed == [("unknown-owner", "clean", back + 6 * 3600)]


def test_a_dry_run_writes_each_case_down_once_and_removes_nothing(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900), member(job("absent")))
    watch(reaper(sight, file, dry_run=True), sight, 300)
    assert sight.removed == []
    assert told(file) == [("reaper.found", "ownerless", "clean"), ("reaper.found", "stranded", "exec-1")]
    assert {event.message.split(":")[0] for event in journal.read(file)} == {"dry run"}


def test_what_is_still_there_is_told_of_as_long_as_it_is_so_and_from_when_it_was_found(
    file: Path, pool: Callable[..., Pool]
) -> None:
    sight = Sight(job(lease=NOW - 900), job("b", lease=NOW - 900), job("waits", NOW + 900, "Pending", "", run="r"))
    sight.pools, sight.lives = (pool("spot-small"),), lambda owner: owner.run == "r" or sight.now >= NOW + 200_000
    made = reaper(sight, file, dry_run=True)
    made.look()
    assert made.present() == {"ownerless": (2, NOW)}, "what somebody owns is no orphan"
    sight.now += 100_000
    made.look()
    assert made.present() == {"ownerless": (2, NOW)}, "also after a day"
    again = reaper(sight, file, dry_run=True)
    again.look()
    assert again.present() == {"ownerless": (2, NOW)}, "a keeper that is started again has it from the ledger"
    sight.pods.pop("uid-b")
    again.look()
    assert again.present() == {"ownerless": (1, NOW)}
    sight.now += 100_000
    again.look()
    assert again.present() == {}, "somebody works on it again"
    sight.lives = lambda owner: owner.run == "r"
    removing = reaper(sight, file)
    removing.look()
    assert (len(sight.removed), removing.present()) == (1, {})


def test_a_keeper_that_can_see_nothing_yet_looks_again_soon(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sight = Sight()
    made, pauses = reaper(sight, file), list[float]()

    def world(now: float) -> World | None:
        sight.away = len(pauses) == 1
        return None if not pauses else sight.fresh(None, now)

    monkeypatch.setattr(sight, "world", world)
    monkeypatch.setattr("tidepool.keeper.reaping.time.sleep", pauses.append)
    made.run(lambda: len(pauses) == 3)
    assert [round(pause) for pause in pauses] == [1, 1, EVERY_SECONDS]


def test_an_idle_machine_is_reported_each_time_that_it_idles(file: Path, pool: Callable[..., Pool]) -> None:
    sight = Sight()
    sight.pools, sight.nodes = (pool("spot-small"),), [node("node-1")]
    made = reaper(sight, file)
    watch(made, sight, 2000)
    sight.pods = {"u": job(lease=NOW + 2800)}
    watch(made, sight, 100)
    sight.pods = {}
    watch(made, sight, 2000)
    assert told(file) == [("reaper.found", "idle-machine", "i-node-1")] * 2
    assert sight.removed == []


def test_a_claim_is_removed_when_its_task_has_been_over_for_a_while(file: Path) -> None:
    sight = Sight()
    sight.claims = [claim()]
    watch(reaper(sight, file), sight, 1000)
    assert sight.removed == [("claim", "scratch", NOW + 900)]
    assert told(file)[-1] == ("reaper.removed", "claim", "uid-scratch")


def test_no_more_is_removed_in_an_hour_than_the_limit_and_that_is_written_down(file: Path) -> None:
    sight = Sight(*(job(f"p{number}", lease=NOW - 900) for number in range(5)))
    made = reaper(sight, file, per_hour={"ownerless": 2})
    watch(made, sight, 600)
    assert len(sight.removed) == 2
    assert [kind for kind, *_ in told(file)].count("reaper.held") == 3
    made = reaper(sight, file, per_hour={"ownerless": 2})
    watch(made, sight, 600)
    assert len(sight.removed) == 2, "a restart does not forget what was removed before it"
    watch(made, sight, 3600)
    assert len(sight.removed) == 4


def test_one_rules_limit_holds_no_other_back(file: Path) -> None:
    sight = Sight(job("a", lease=NOW - 900), job("b", node="node-9"))
    reaper(sight, file, per_hour={"ownerless": 0}).look()
    assert [(rule, name) for rule, name, _ in sight.removed] == [("lost", "b")]


def test_what_the_watches_say_is_looked_up_before_anything_is_removed(file: Path) -> None:
    """A watch may hang; the pod's worker renews its lease all the same."""
    sight = Sight(job(lease=NOW - 900))
    sight.stale = sight.fresh(None, NOW)
    sight.pods = {"uid-clean": job(lease=NOW + 900)}
    watch(reaper(sight, file), sight, 200)
    assert sight.removed == []
    assert told(file) == []


def test_what_has_changed_since_it_was_read_is_looked_at_again(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    sight.refuse = True
    made = reaper(sight, file)
    made.look()
    assert told(file) == [("reaper.found", "ownerless", "clean")]
    sight.lives = lambda owner: True
    sight.refuse = False
    made.look()
    assert sight.removed == []


def test_nothing_is_removed_whose_reason_could_not_be_written_down(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    ledger = Ledger(file)
    ledger.full = {"reaper.found"}
    made = Reaper(sight, ledger, now=lambda: sight.now)
    with pytest.raises(OSError, match="full"):
        made.look()
    assert sight.removed == []
    ledger.full = {"reaper.removed"}
    with pytest.raises(OSError, match="full"):
        made.look()
    assert len(sight.removed) == 1
    ledger.full = frozenset()
    made.look()
    assert told(file) == [("reaper.found", "ownerless", "clean"), ("reaper.removed", "ownerless", "clean")]


def test_an_error_with_one_finding_keeps_no_other_waiting(file: Path) -> None:
    class Halting(Sight):
        def remove(self, finding: Finding) -> bool:
            if finding.name == "a":
                raise OSError("no")
            return super().remove(finding)

    sight = Halting(job("a", lease=NOW - 900), job("b", lease=NOW - 900))
    with pytest.raises(OSError, match="no"):
        reaper(sight, file).look()
    assert [name for _, name, _ in sight.removed] == ["b"]


def test_errors_never_stop_the_loop(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    looks = iter([True, True, False])

    def world(now: float) -> World:
        sight.away = next(looks)
        return Sight.world(sight, now)

    sight.world = world  # type: ignore[method-assign]
    reaper(sight, file).run(stopped=lambda: bool(sight.removed), every=0.0)
    assert len(sight.removed) == 1


def test_a_keeper_that_is_not_the_active_one_removes_nothing(file: Path) -> None:
    sight = Sight(job(lease=NOW - 900))
    reaper(sight, file, may_act=lambda: False).look()
    assert sight.removed == []


def test_what_the_reaper_wrote_changes_no_figure_and_is_found_again_in_a_database(
    file: Path, tmp_path: Path, pool: Callable[..., Pool]
) -> None:
    sight = Sight(job(lease=NOW - 900))
    sight.pools = (pool("spot-small"),)
    watch(reaper(sight, file), sight, 1200)
    written = journal.read(file)
    assert {event.kind for event in written} == {"reaper.found", "reaper.removed"}
    assert {event.machine for event in written if event.cause == "idle-machine"} == {"i-node-1", "i-node-2"}
    others = [
        Event(NOW, "machine.launched", "i-node-1", "spot-small"),
        Event(NOW, "pod.queued", pod="clean", pod_uid="uid-clean"),
    ]
    assert lives([*others, *written]) == lives(others)
    assert board([*others, *written]) == board(others)
    store = Store.open(str(tmp_path / "ledger.db"))
    try:
        store.record_all([*others, *written])
        assert store.events("reaper.removed") == [event for event in written if event.kind == "reaper.removed"]
        for kind, subject in (("reaper.removed", "uid-clean"), ("reaper.found", "i-node-1")):
            found = store.known(kind, subject)
            assert found == Recorder(file).known(kind, subject)
            assert found is not None
        assert [event.kind for event in store.unfinished()] == ["pod.queued"]
    finally:
        store.close()


# Random histories

STEP = 10.0


class History:
    """Tasks with their workers, pods and machines, Airflow and the API server, any of which may fail at any time.

    Knows of each pod, whatever is written on it, whether anybody still wants it: `orphans` since when nobody does.
    """

    def __init__(self, seed: int, file: Path) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.sight = Sight()
        self.sight.lives = self.word
        self.file = file
        self.reaper = reaper(self.sight, file)
        self.tasks: dict[str, Object] = {}
        self.orphans: dict[str, float] = {}
        self.api_back = self.airflow_back = 0.0
        self.number = 0
        self.killed_wrongly: list[str] = []
        self.lived_too_long: list[str] = []

    def word(self, owner: Owner) -> bool | None:
        if self.sight.now < self.airflow_back:
            return None
        task = self.tasks.get(owner.task)
        return task is not None and task["state"] not in ("success", "failed")

    def step(self) -> None:
        now = self.sight.now
        self.outages(now)
        if self.random.random() < 0.05 and len(self.tasks) < 40:
            self.begin(now)
        for name, task in list(self.tasks.items()):
            self.live(name, task, now)
        if self.random.random() < 0.02:
            self.reaper = reaper(self.sight, self.file)  # killed, and started again
        before = dict(self.sight.pods)
        there = {each["metadata"]["name"] for each in self.sight.nodes}
        self.sight.away = now < self.api_back
        try:
            self.reaper.look()
        except OSError:
            assert self.sight.away
        for uid in before.keys() - self.sight.pods.keys():
            on_lost_machine = before[uid]["spec"].get("nodeName", "node-1") not in there
            if uid not in self.orphans and not on_lost_machine:
                self.killed_wrongly.append(uid)
            wanted = uid not in self.orphans
            self.orphans.pop(uid, None)
            self.strand(before[uid], now)
            if wanted:
                self.replace(before[uid], now)
        self.check(now)
        self.sight.now += STEP

    def outages(self, now: float) -> None:
        if self.random.random() < 0.002 and now > self.api_back:
            self.api_back = now + self.random.choice([60, 600, 2400])
        if self.random.random() < 0.002 and now > self.airflow_back:
            self.airflow_back = now + self.random.choice([120, 1800, 5 * 3600])
        machines = [f"node-{number}" for number in range(1, 9)]
        if self.random.random() < 0.002:
            gone = self.random.choice(machines)
            self.sight.nodes = [each for each in self.sight.nodes if each["metadata"]["name"] != gone]
        if self.random.random() < 0.01:  # cut off, or back again
            shaky = self.random.choice(machines)
            state = self.random.choice(["True", "Unknown", "False"])
            self.sight.nodes = [
                node(shaky, ready=state) if each["metadata"]["name"] == shaky else each for each in self.sight.nodes
            ]
        if now >= self.api_back and self.random.random() < 0.05:  # new machines come under new names only to idle ones
            present = {each["metadata"]["name"] for each in self.sight.nodes}
            used = {pod["spec"].get("nodeName") for pod in self.sight.pods.values()}
            self.sight.nodes += [node(name) for name in machines if name not in present | used]

    def begin(self, now: float) -> None:
        if now < self.api_back:
            return
        self.number += 1
        name = f"task{self.number}"
        deferred = self.random.random() < 0.2
        task = {"state": "deferred" if deferred else "running", "worker": not deferred, "attempt": 1, "renewed": now}
        task["until"] = now + self.random.choice([60, 600, 3600, 9 * 3600])
        self.tasks[name] = task
        self.launch(name, task, now)

    def launch(self, name: str, task: Object, now: float) -> None:
        self.number += 1
        machines = [each["metadata"]["name"] for each in self.sight.nodes]
        on = self.random.choice(machines) if machines and self.random.random() < 0.8 else ""
        lease = now + (24 * 3600 if task["state"] == "deferred" else 900)
        phase = "Running" if on else "Pending"
        main = job(f"main{self.number}", lease, phase, on, now, task=name, attempt=task["attempt"])
        self.sight.pods[main["metadata"]["uid"]] = main
        task["pod"] = main["metadata"]["uid"]
        for index in range(self.random.choice([0, 0, 2])):
            each = member(main, f"exec{self.number}-{index}", node=self.random.choice(machines) if machines else "")
            self.sight.pods[each["metadata"]["uid"]] = each

    def replace(self, pod: Object, now: float) -> None:
        """A pod was lost: the task takes notice, and its next attempt makes another."""
        for name, task in self.tasks.items():
            if task.get("pod") == pod["metadata"]["uid"]:
                task["attempt"] += 1
                self.launch(name, task, now)
                return

    def strand(self, pod: Object, now: float) -> None:
        for uid, each in self.sight.pods.items():
            references = each["metadata"].get("ownerReferences", [])
            if any(reference["uid"] == pod["metadata"]["uid"] for reference in references):
                self.orphans.setdefault(uid, now)

    def live(self, name: str, task: Object, now: float) -> None:
        pod = self.sight.pods.get(task["pod"])
        if task["worker"] and now - task["renewed"] >= 120:
            task["renewed"] = now
            if now >= self.api_back and pod is not None:
                pod["metadata"]["annotations"][LEASE] = utc(now + 900)
        chance = self.random.random()
        if task["worker"] and chance < 0.002:
            task["worker"], task["died"] = False, now  # killed; its pod runs on
        elif task["state"] == "running" and not task["worker"] and now - task["died"] > 300:
            # The scheduler has found out: another attempt takes the pod over, or there is none.
            if chance < 0.5:
                task["state"] = "failed"
                self.give_up(task, now)
            elif now >= self.api_back:
                task |= {"worker": True, "attempt": task["attempt"] + 1, "renewed": now}
                if pod is not None:
                    pod["metadata"]["annotations"] |= {HOLDER: str(task["attempt"]), LEASE: utc(now + 900)}
        elif now >= task["until"] and (task["worker"] or task["state"] == "deferred") and now >= self.api_back:
            self.finish(task, now)
        elif task["state"] not in ("success", "failed") and chance > 0.9995:
            task["state"] = "failed"  # by a person, while nobody was there to clean up
            task["worker"] = False
            self.give_up(task, now)

    def finish(self, task: Object, now: float) -> None:
        """The pod ends and is deleted, or is left behind; sometimes its members are."""
        task |= {"state": "success", "worker": False}
        pod = self.sight.pods.get(task["pod"])
        if pod is None:
            return
        choice = self.random.random()
        if choice < 0.4:
            del self.sight.pods[task["pod"]]
            self.strand(pod, now)
        elif choice < 0.7:
            self.sight.pods[task["pod"]] = ended(pod, now)
            self.strand(pod, now)
        else:
            self.give_up(task, now)

    def give_up(self, task: Object, now: float) -> None:
        pod = self.sight.pods.get(task["pod"])
        if pod is not None and pod["status"]["phase"] in ("Pending", "Running"):
            self.orphans.setdefault(task["pod"], now)

    def check(self, now: float) -> None:
        """Orphans go within 5 minutes, counted while the API server and Airflow are there and their lease is over."""
        for uid, since in self.orphans.items():
            pod = self.sight.pods.get(uid)
            if pod is None or pod["status"]["phase"] not in ("Pending", "Running"):
                continue
            if main := pod["metadata"].get("ownerReferences"):
                main_pod = self.sight.pods.get(main[0]["uid"])
                if main_pod is not None and main_pod["status"]["phase"] in ("Pending", "Running"):
                    continue  # goes with its main pod
            lease = _ends(pod["metadata"]["annotations"].get(LEASE), since)
            if now - max(since, lease, self.api_back, self.airflow_back) > 300:
                self.lived_too_long.append(f"{uid} since {since - NOW:.0f}")


def _ends(told: str | None, since: float) -> float:
    found = stamp(told) if told else None
    # A deferred task's long lease gives its pod no longer life than its task had.
    return since if found is None or found - since > 900 else found


@pytest.mark.parametrize("seed", range(8))
def test_in_no_history_is_a_pod_removed_whose_owner_lives_and_no_orphan_stays(seed: int, file: Path) -> None:
    history = History(seed, file)
    for _ in range(6000):  # 16 hours and 40 minutes
        history.step()
    removed = history.sight.removed
    assert history.killed_wrongly == []
    assert history.lived_too_long == []
    assert len(removed) > 20, "a history in which something happens"
    written = [event for event in journal.read(file) if event.kind == "reaper.removed"]
    assert [(event.cause, event.pod) for event in written] == [(rule, name) for rule, name, _ in removed]
    found = {(event.cause, event.pod_uid) for event in journal.read(file) if event.kind == "reaper.found"}
    assert {(event.cause, event.pod_uid) for event in written} <= found
