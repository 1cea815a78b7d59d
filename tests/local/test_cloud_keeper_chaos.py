"""Keeper, its database and the API server die at random while jobs run: no event is lost or doubled, the books balance,
what has no owner is removed in minutes, and nothing else ever is.

A second keeper records into PostgreSQL, where its server is installed; it dies too, and so does its database.

TIDEPOOL_CHAOS_SEED: the seed of what dies and when; else always the same; it is printed. TIDEPOOL_KEEPER_CHAOS_SECONDS:
for how long (60).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.local import paths
from infra.local.supervisor import Program
from tests import postgres
from tests.local.account import Account
from tests.local.keeper_ledger import STAMP_SECONDS, check_pods, lost, recorded
from tidepool import pod as pods
from tidepool.ledger import tail
from tidepool.ledger.events import Event

pytestmark = [pytest.mark.local_cloud, pytest.mark.timeout(2400)]

SEED = 11

SECONDS = float(os.environ.get("TIDEPOOL_KEEPER_CHAOS_SECONDS") or 60)
ORPHAN_SECONDS = 300
LEASE_SECONDS, QUIET_SECONDS = 900, 170
"""An orphan's lease, and how long ago it was renewed: as though its worker had been dead for so long. It may live
ORPHAN_SECONDS from then on."""

RUNS_AT_ONCE = 2
NAMES = {False: "keeper", True: "keeper-postgresql"}


@dataclass
class Orphan:
    """A pod of a task that is over. renewed: its lease, last. removed: when its object was gone."""

    name: str
    uid: str
    renewed: float
    removed: float | None = None


@dataclass
class Chaos:
    """What is done to the cloud. killed: how often what."""

    local: Any
    chance: random.Random
    victims: list[str]
    over: str
    killed: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)
    orphans: list[Orphan] = field(default_factory=list)

    def go_on(self, seconds: float) -> None:
        """Disturb for so long."""
        end = time.monotonic() + seconds
        next_kill = next_orphan = 0.0
        while (now := time.monotonic()) < end:
            if now >= next_orphan:
                self._orphan()
                next_orphan = now + 60
            if now >= next_kill:
                self._kill(self.chance.choice(self.victims))
                next_kill = now + self.chance.uniform(3, 12)
            self._keep_busy()
            self.look()
            time.sleep(0.5)

    def look(self) -> bool:
        """Whether all orphans are gone; when, is noted."""
        there = {pod.metadata.uid for pod in self._pods()}
        for each in self.orphans:
            if each.uid not in there and each.removed is None:
                each.removed = time.time()
        return all(each.removed is not None for each in self.orphans)

    def _pods(self) -> list[Any]:
        def found() -> Any:
            return [self.local.api.list_namespaced_pod("tidepool-jobs").items]

        return list(self.local.wait_until(found, 60, "the API server answers")[0])

    def _keep_busy(self) -> None:
        states = [self.local.airflow.state("brief", run) for run in self.runs]
        if sum(state not in ("success", "failed") for state in states) < RUNS_AT_ONCE:
            self.runs.append(self.local.airflow.trigger("brief"))

    def _kill(self, victim: str) -> None:
        if victim == "keeper while it writes":
            self._until_it_writes()
        name = victim.partition(" ")[0]
        if pid := self.local.pid(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.killed[victim] += 1

    def _until_it_writes(self) -> None:
        log = Path(f"{self.local.cloud.events}-wal")
        before, limit = log.stat().st_mtime_ns, time.monotonic() + 10
        while log.stat().st_mtime_ns == before and time.monotonic() < limit:
            time.sleep(0.001)

    def _orphan(self) -> None:
        """A pod whose worker died long ago, of a task that is over; the API server may be away."""
        name = f"orphan-{len(self.orphans)}"
        manifest = self.local.job_pod(name, "import time; time.sleep(3600)", memory="256Mi", exclusive=False)
        labels, annotations = pods.owner("brief", "short", self.over, 1, "jobs")
        renewed = time.time() - QUIET_SECONDS
        lease = datetime.fromtimestamp(renewed + LEASE_SECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        manifest["metadata"]["labels"] |= labels
        manifest["metadata"]["annotations"] |= {**annotations, "tidepool.dev/lease": lease}

        def made() -> Any:
            return self.local.pod(name) or self.local.create(manifest)

        found = self.local.wait_until(made, 60, f"{name} is there")
        self.orphans.append(Orphan(name, found.metadata.uid, renewed))


@pytest.fixture
def postgresql(local: Any) -> Iterator[str]:
    """A PostgreSQL of its own that is started again whenever it dies, and a keeper that records into it; its URL.

    Empty where no server is installed.
    """
    with postgres.made() as server:
        if server is None:
            yield ""
            return
        state, supervisor = local.cloud.state, local.cloud.supervisor
        keeper = ("--kubeconfig", f"{state}/keeper.kubeconfig", "--capacity", str(local.cloud.capacity))
        keeper += ("--database", server.url, "--lease", "", "--dry-run")
        programs = [
            Program("postgresql", server.command, {}, server.folder),
            Program(NAMES[True], (sys.executable, "-m", "tidepool.keeper", *keeper), {}, paths.REPOSITORY),
        ]
        try:
            supervisor.start(programs)
            local.wait_until(lambda: local.pid("postgresql"), 30, "PostgreSQL runs")
            yield server.url
        finally:
            for program in reversed(programs):
                with contextlib.suppress(Exception):  # it may be about to start again
                    supervisor._rpc.stopProcess(program.name)
                with contextlib.suppress(Exception):
                    supervisor._rpc.removeProcessGroup(program.name)
                (supervisor._programs / f"{program.name}.conf").unlink(missing_ok=True)


def test_the_ledger_is_whole_and_orphans_alone_are_removed_whatever_dies(local: Any, postgresql: str) -> None:
    seed = int(os.environ.get("TIDEPOOL_CHAOS_SEED") or SEED)
    print(f"TIDEPOOL_CHAOS_SEED={seed}")
    local.airflow.wait_dag("brief", 60)
    over = local.airflow.trigger("brief")
    local.succeeds("brief", over, 120)
    local.drains()
    victims = ["keeper", "keeper while it writes", "kube-apiserver"]
    victims += ["postgresql", NAMES[True]] if postgresql else []
    chaos = Chaos(local, random.Random(seed), victims, over)  # noqa: S311
    foreign = local.job_pod("foreign", "import time; time.sleep(3600)", memory="256Mi", exclusive=False)
    del foreign["metadata"]["labels"]["tidepool.dev/team"]

    since = float(int(time.time()))
    with Account(local) as account:
        local.create(foreign)
        chaos.go_on(SECONDS)
        for run in chaos.runs:
            local.succeeds("brief", run, 180)
        local.wait_until(chaos.look, ORPHAN_SECONDS, "every orphan is removed")
        assert local.pod("foreign"), "what is not tidepool's stays"
        local.delete("foreign")
        local.drains(120)
        seen = {
            uid: pod for uid, pod in account.pods.items() if pod.run in chaos.runs or pod.name.startswith("orphan-")
        }
        ours = [str(local.cloud.events), *([postgresql] if postgresql else [])]
        with contextlib.suppress(AssertionError):  # what is missing is said below
            local.wait_until(lambda: not any(lost(recorded(url), seen) for url in ours), 60, "all is written")
        until = float(int(time.time()))
    assert all(pod.gone for pod in seen.values())
    for url in ours:
        check_pods(recorded(url), seen)

    events = recorded(str(local.cloud.events))
    bought = {each.id: each for each in account.instances.values() if each.launched >= since}
    times = Counter((event.kind, event.machine) for event in events if event.kind.startswith("machine."))
    for machine in bought:
        assert [times[kind, machine] for kind in ("machine.asked", "machine.ready", "machine.gone")] == [1, 1, 1], (
            machine
        )

    orphans = {each.uid for each in chaos.orphans}
    reaped = [event for event in events if event.kind.startswith("reaper.") and event.pod_uid in account.pods]
    # While the API server is away an idle machine is given back, and what is then bound to it is lost with it.
    with_machine = {event.pod_uid for event in reaped if event.cause == "lost" and _is_ended(account, event)}
    assert {event.pod_uid for event in reaped} - with_machine == orphans - with_machine, "no false kill"
    found = {event.pod_uid for event in reaped if event.kind == "reaper.found" and event.cause == "ownerless"}
    assert found - with_machine == orphans - with_machine, "why each was removed was written down before it was"
    lived = [each.removed - each.renewed for each in chaos.orphans if each.removed]
    assert max(lived) <= ORPHAN_SECONDS
    balance(local, account, since, until, set(bought))
    print(
        f"{sum(chaos.killed.values())} killed in {SECONDS:.0f} s ({dict(chaos.killed)}); {len(chaos.runs)} runs, "
        f"{len(seen)} pods, {len(bought)} machines, {len(orphans)} orphans, gone {max(lived):.0f} s at most after the "
        "last renewal of their leases"
    )


def _is_ended(account: Account, event: Event) -> bool:
    """Whether EC2 had ended the pod's machine by then."""
    machine = account.instances.get(account.pods[event.pod_uid].node)
    return machine is not None and machine.ended is not None and machine.ended <= event.time


def balance(local: Any, account: Account, since: float, until: float, bought: set[str]) -> None:
    """The report balances and misses the account by 0.1 % at most; the books have the same seconds."""
    found = tail.read(local.cloud.events)
    gone = {event.machine: event.time for event in found if event.kind == "machine.gone"}
    asked = {event.machine: event.time for event in found if event.kind == "machine.asked"}
    for machine in bought:
        real = account.instances[machine]
        assert real.ended is not None
        assert gone[machine] - asked[machine] == pytest.approx(real.ended - real.launched, abs=1.0), machine
    command = [sys.executable, "-m", "infra.cli.main", "report", "--format", "json", "--database"]
    command += [str(local.cloud.events), "--since", _utc(since), "--until", _utc(until)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    bill = json.loads(done.stdout)["bill"]
    seconds = sum(each.seconds(since, until) for each in account.instances.values())
    coarse = STAMP_SECONDS / 2 * len(bought)  # how finely EC2 tells when machines ended
    assert bill["seconds"] == pytest.approx(seconds, rel=0.001, abs=coarse)
    assert bill["usd"] == pytest.approx(account.usd(since, until), rel=0.001 + coarse / seconds)
    lengths = sum(gone[machine] - asked[machine] for machine in bought)

    def in_the_books() -> bool:
        with contextlib.closing(sqlite3.connect(local.cloud.events)) as database:
            marks = ", ".join("?" for _ in bought)
            query = f"SELECT sum(seconds) FROM tidepool_costs WHERE machine IN ({marks})"  # noqa: S608
            (held,) = database.execute(query, sorted(bought)).fetchone()
        return bool(held == pytest.approx(lengths, abs=0.01))

    local.wait_until(in_the_books, 30, "the books have the seconds of every machine")


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")
