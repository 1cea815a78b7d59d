"""Random histories of workers, pods and machines: no pod with an owner is removed, and no orphan stays."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.dags.reaper_objects import NOW, ended, job, member, node
from tests.dags.reaper_sight import Object, Sight, reaper
from tidepool.keeper.ownership import Owner, stamp
from tidepool.labels import HOLDER, LEASE, utc
from tidepool.ledger import journal

STEP = 10.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


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
