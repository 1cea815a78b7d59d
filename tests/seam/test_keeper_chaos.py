"""Keeper, its database and the API server die at random while pods come and go: no event is lost or doubled, the books
balance, orphans are removed and nothing else is: by each rule that removes something while Airflow answers.

All of them are real; the test plays the scheduler, the kubelets and Airflow, and so knows what really happened. The
whole loop with machines and jobs is tests/local/test_cloud_keeper_chaos.py.

TIDEPOOL_CHAOS_SEED: the seed of what dies and when; else always the same; it is printed. TIDEPOOL_KEEPER_CHAOS_SECONDS:
for how long (45).
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
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.local.world_kubernetes import ApiServer
from tests import postgres
from tests.dags.conftest import make_pool
from tests.local.keeper_ledger import STAMP_SECONDS, check_pods, lost, recorded
from tests.seam.api_server import started
from tests.seam.played_cluster import (
    NAMESPACE,
    ORPHAN_SECONDS,
    OVER,
    TEAM,
    Cluster,
    Left,
    astray,
    claims,
    dead_machine,
    executor,
    guest,
    orphan,
    reap_claims,
)
from tests.waiting import wait_until
from tidepool.capacity import Capacity, Tenant, dumps
from tidepool.keeper import airflow as asking
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store

pytestmark = [pytest.mark.local_cloud, pytest.mark.timeout(1800)]

SEED = 11

SECONDS = float(os.environ.get("TIDEPOOL_KEEPER_CHAOS_SECONDS") or 45)
MACHINES, DOOMED = ("i-1", "i-2", "i-3"), "i-4"
POOL = make_pool("spot")
AT_ONCE = 6
SHORTEST, LONGEST = 8.0, 16.0
"""How long a pod runs: longer than a keeper takes to come back, as what came and went meanwhile left nothing to see."""


class Part:
    """A process that is started again a moment after it died."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.name, self._command, self._log = name, command, log
        self._environment = {**os.environ, **(environment or {})}
        self._over = threading.Event()
        self.process = self._start()
        self._reviver = threading.Thread(target=self._revive, daemon=True)
        self._reviver.start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log, cwd=self._log.parent)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    def _revive(self) -> None:
        while not self._over.is_set():
            self.process.wait()
            if not self._over.wait(0.5):
                self.process = self._start()

    def end(self) -> None:
        self._over.set()
        self.process.kill()
        self._reviver.join()
        self.process.kill()  # if it was being started
        self.process.wait()


class Airflow(ThreadingHTTPServer):
    """Says of the run `over` that it is, of others that they run, and now and then nothing of use."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.chance = chance


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Airflow)
        words = self.path.strip("/").split("/")
        dag, run, task = words[3], words[5], words[7]
        state = "success" if run == OVER else "running"
        told = {"dag_id": dag, "dag_run_id": run, "task_id": task, "map_index": -1, "state": state, "try_number": 1}
        self.send_response(503 if self.server.chance.random() < 0.1 else 200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """An API server with the namespaces and three machines that are ready."""
    with started(tmp_path) as found:
        server = ApiServer(found, seconds=60)
        for name in ("tidepool", NAMESPACE):
            server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account = {"name": "default", "namespace": NAMESPACE}
        server.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        cluster = Cluster(found)
        for name in MACHINES:
            cluster.machine(name, f"aws:///us-east-1a/{name}")
        yield found


@pytest.fixture
def postgresql() -> Iterator[tuple[Part, str] | None]:
    """A PostgreSQL that is started again whenever it dies, and its URL; None where its server is not installed."""
    with postgres.made() as server:
        if server is None:
            yield None
            return
        part = Part("postgresql", list(server.command), server.folder / "log")
        try:
            yield part, server.url
        finally:
            part.end()


def keeper(name: str, kubeconfig: Path, database: str, airflow: str, folder: Path, *more: str) -> Part:
    """A keeper that records into a database."""
    command = [sys.executable, "-m", "tidepool.keeper", "--kubeconfig", str(kubeconfig), "--database", database]
    command += ["--capacity", str(folder / "capacity.json"), "--airflow", airflow, "--identity", name, *more]
    return Part(name, command, folder / f"{name}.log", {"TIDEPOOL_AIRFLOW_TOKEN": "token"})


def revive_api_server(log: Path) -> Part:
    """The API server in hands of the test: killed, and started again by its own command line."""
    (found,) = [each for each in psutil.Process().children() if "kube-apiserver" in each.name()]
    command = found.cmdline()
    found.kill()
    return Part("kube-apiserver", command, log)


def test_no_event_is_lost_or_doubled_and_only_orphans_are_removed_whatever_dies(
    kubeconfig: Path, postgresql: tuple[Part, str] | None, tmp_path: Path
) -> None:
    seed = int(os.environ.get("TIDEPOOL_CHAOS_SEED") or SEED)
    print(f"TIDEPOOL_CHAOS_SEED={seed}")
    chance = random.Random(seed)  # noqa: S311
    capacity = Capacity("test", {TEAM: Tenant(NAMESPACE, "job")}, TEAM, {}, 60, {POOL.name: POOL})
    (tmp_path / "capacity.json").write_text(dumps(capacity))
    airflow = Airflow(random.Random(seed))  # noqa: S311
    threading.Thread(target=airflow.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{airflow.server_port}"
    ledgers = [str(tmp_path / "ledger.db")]
    parts = [
        revive_api_server(tmp_path / "api-server.log"),
        keeper("keeper", kubeconfig, ledgers[0], url, tmp_path),
    ]
    if postgresql is not None:
        part, address = postgresql
        ledgers.append(address)
        parts += [part, keeper("second", kubeconfig, address, url, tmp_path, "--lease", "", "--dry-run")]
    cluster = Cluster(kubeconfig)
    store = Store.open(ledgers[0])  # as what records machines does, beside the keeper
    begin = time.time()
    for machine in (*MACHINES, DOOMED):
        store.record(Event(begin, "machine.asked", machine=machine, pool="spot", usd_per_hour=0.1))
    claimed, _ = claims(cluster)
    killed: Counter[str] = Counter()
    try:
        left, visited = _go_on(cluster, store, parts, chance, killed)
        reap_claims(cluster, store, capacity, asking.Airflow(url, "token").word)

        def written() -> bool:
            with contextlib.suppress(Exception):  # the database may be starting
                return not any(lost(recorded(each), cluster.lasting) for each in ledgers)
            return False

        with contextlib.suppress(AssertionError):  # what is missing is said below
            wait_until(written, 60, "all is written")
        for machine in MACHINES:
            store.record(Event(time.time(), "machine.gone", machine=machine, pool="spot", usd_per_hour=0.1))
        for ledger in ledgers:
            check_pods(recorded(ledger), cluster.lasting)
        _check_reaped(recorded(ledgers[0]), {claimed: "claim"} | {each.pod.uid: each.rule for each in left})
        for ledger in ledgers:
            _check_guest(recorded(ledger), *visited)
        held = balance(ledgers[0], tmp_path)
    finally:
        airflow.shutdown()
        for part in parts:
            part.end()
    print(
        f"{sum(killed.values())} killed in {SECONDS:.0f} s ({dict(killed)}); {len(cluster.seen)} pods; "
        f"{held:.1f} machine-seconds in the books; gone after, from when nobody had it any more: "
        + ", ".join(f"{each.pod.name} {each.took:.0f} s" for each in left)
    )
    for each in left:
        reaped = [event for event in recorded(ledgers[0]) if event.pod_uid == each.pod.uid]
        told = [f"{event.kind} {event.time - each.since:.0f} s" for event in reaped if event.kind.startswith("reaper.")]
        assert each.took <= each.within, f"{each.pod.name}: {', '.join(told)}"


def _go_on(
    cluster: Cluster, store: Store, parts: list[Part], chance: random.Random, killed: Counter[str]
) -> tuple[list[Left], tuple[str, float]]:
    """Disturb for SECONDS, and wait until all pods are gone: what was left behind; the machine that went, and when."""
    orphans: list[Left] = []
    end, numbers = time.monotonic() + SECONDS, iter(range(10**6))
    next_kill, next_orphan = time.monotonic() + 5, 0.0
    with ThreadPoolExecutor(AT_ONCE + 2) as workers:
        lives: list[Any] = []
        doomed = workers.submit(dead_machine, cluster, store, DOOMED)
        visited = workers.submit(guest, cluster, SECONDS / 2)
        orphans += [executor(cluster, chance.choice(MACHINES)), astray(cluster)]
        while (now := time.monotonic()) < end:
            lives = [each for each in lives if not (each.done() and each.result() is None)]
            if now >= next_orphan:
                orphans.append(orphan(cluster, f"orphan-{len(orphans)}", chance.choice(MACHINES)))
                next_orphan = now + 20
            if len(lives) < AT_ONCE:
                pod = cluster.create(f"pod-{next(numbers)}", "run")
                seconds = chance.uniform(SHORTEST, LONGEST)
                lives.append(workers.submit(cluster.live, pod, chance.choice(MACHINES), seconds))
            if now >= next_kill:
                part = chance.choice(parts)
                part.kill()
                killed[part.name] += 1
                next_kill = now + chance.uniform(2, 8)
            time.sleep(0.2)
            _look(cluster)

        def gone() -> bool:
            _look(cluster)
            if all(each.pod.gone for each in orphans):  # among them the driver's executor
                cluster.do(cluster.api.delete_namespaced_pod, "driver", NAMESPACE, grace_period_seconds=0)
            return doomed.done() and all(each.gone for each in cluster.seen.values())

        wait_until(gone, ORPHAN_SECONDS + LONGEST, "all pods are gone")
    return [*orphans, doomed.result()], visited.result()


def _look(cluster: Cluster) -> None:
    """Which pods are gone by now. One that is asked to go goes: there is no kubelet but this one."""
    waiting = [pod for pod in list(cluster.seen.values()) if pod.gone is None]
    found = cluster.do(cluster.api.list_namespaced_pod, NAMESPACE)["items"]
    there = {pod["metadata"]["uid"]: pod for pod in found}
    for each in waiting:
        if each.uid not in there:
            each.gone = each.gone or time.time()
        elif there[each.uid]["metadata"].get("deletionTimestamp"):
            cluster.do(cluster.api.delete_namespaced_pod, each.name, NAMESPACE, grace_period_seconds=0)


def _check_reaped(events: list[Event], left: dict[str, str]) -> None:
    """left: the rule that was to remove it, by UID."""
    reaped = [event for event in events if event.kind.startswith("reaper.")]
    assert {event.pod_uid for event in reaped} == set(left), "no false kill"
    found = {event.pod_uid: event.cause for event in reaped if event.kind == "reaper.found"}
    assert found == left, "why each was removed was written down before it was"


def _check_guest(events: list[Event], machine: str, deleted: float) -> None:
    """A machine that no cloud is asked about has an end, and its pool's price."""
    told = {event.kind: event for event in events if event.machine == machine}
    assert set(told) == {"machine.ready", "machine.gone"}
    assert {(event.pool, event.market, event.usd_per_hour) for event in told.values()} == {("spot", "spot", 0.04)}
    gone = told["machine.gone"]
    assert (gone.earliest or gone.time) - STAMP_SECONDS <= deleted <= gone.time + STAMP_SECONDS


def balance(database: str, folder: Path) -> float:
    """The report balances, and the books have the seconds that it has; those."""
    command = [sys.executable, "-m", "infra.cli.main", "report", "--format", "json", "--database", database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    bill = json.loads(done.stdout)["bill"]["seconds"]

    def same() -> bool:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            (held,) = connection.execute("SELECT sum(seconds) FROM tidepool_costs").fetchone()
        return bool(held == pytest.approx(bill, abs=0.01))

    wait_until(same, 60, "the books have the bill's seconds")
    return float(bill)
