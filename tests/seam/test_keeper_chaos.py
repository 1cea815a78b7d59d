"""Keeper, its database and the API server die at random while pods come and go: no event is lost or doubled, the books
balance, orphans are removed and nothing else is.

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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import client, config
from urllib3.exceptions import HTTPError

from infra.local.world_kubernetes import ApiServer
from tests import postgres
from tests.local.account import Pod
from tests.local.keeper_ledger import check_pods, lost, recorded
from tests.seam.api_server import started
from tests.waiting import wait_until
from tidepool import pod as pods
from tidepool.capacity import Capacity, Tenant, dumps
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store

pytestmark = [pytest.mark.local_cloud, pytest.mark.timeout(1800)]

SEED = 11

SECONDS = float(os.environ.get("TIDEPOOL_KEEPER_CHAOS_SECONDS") or 45)
ORPHAN_SECONDS = 300
NAMESPACE, TEAM, OVER = "tidepool-jobs", "jobs", "over"
MACHINES = ("i-1", "i-2", "i-3")
AT_ONCE = 6
SHORTEST, LONGEST = 8.0, 16.0
"""How long a pod runs: longer than a keeper takes to come back, as what came and went meanwhile left nothing to see."""

Request = Callable[..., Any]


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


class Cluster:
    """Plays the scheduler and the kubelets; remembers what it did. Whatever it asks for is asked until it is done."""

    def __init__(self, kubeconfig: Path) -> None:
        self.api = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        self.seen: dict[str, Pod] = {}

    def do(self, request: Request, *arguments: Any, done: tuple[int, ...] = (404, 409), **options: Any) -> Any:
        """The answer, as JSON; None where it was done before."""
        while True:
            try:
                answer = request(*arguments, **options, _preload_content=False, _request_timeout=(2, 5))
                return json.loads(answer.data)
            except client.ApiException as error:
                if error.status in done:
                    return None
            except (HTTPError, OSError):
                pass
            time.sleep(0.1)

    def create(self, name: str, run: str) -> Pod:
        """A job's pod whose worker last renewed its lease long ago, so that it all depends on Airflow's word."""
        labels, annotations = pods.owner("chaos", "job", run, 1, TEAM)
        lease = datetime.fromtimestamp(time.time() + 600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"name": name, "labels": {**labels, "tidepool.dev/pool": "spot"}}
        container = {"name": "base", "image": "none:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
        body = {
            "metadata": {**about, "annotations": {**annotations, "tidepool.dev/lease": lease}},
            "spec": {"containers": [container], "automountServiceAccountToken": False, "restartPolicy": "Never"},
        }
        made = self.do(self.api.create_namespaced_pod, NAMESPACE, body)
        made = made or self.do(self.api.read_namespaced_pod, name, NAMESPACE)
        pod = Pod(made["metadata"]["uid"], name, "job", run)
        self.seen[pod.uid] = pod
        return pod

    def bind(self, pod: Pod, machine: str) -> None:
        body = {"metadata": {"name": pod.name}, "target": {"kind": "Node", "name": machine}}
        self.do(self.api.create_namespaced_binding, NAMESPACE, body)
        told = self.do(self.api.read_namespaced_pod, pod.name, NAMESPACE)
        (stamp,) = [each["lastTransitionTime"] for each in told["status"]["conditions"] if each["status"] == "True"]
        pod.node, pod.bound = machine, _middle(stamp)  # an API server that dies may have done it long before it says so

    def tell(self, pod: Pod, phase: str, **state: Any) -> None:
        """Report a state of the pod's container."""
        said = {"name": "base", "image": "none:1", "imageID": "none", "ready": False, "restartCount": 0, "state": state}
        body = {"status": {"phase": phase, "containerStatuses": [said]}}
        self.do(self.api.patch_namespaced_pod_status, pod.name, NAMESPACE, body)

    def live(self, pod: Pod, machine: str, seconds: float) -> None:
        """A pod's whole life."""
        self.bind(pod, machine)
        began = _now()
        pod.running = _middle(began)
        self.tell(pod, "Running", running={"startedAt": began})
        time.sleep(seconds)
        over = {"exitCode": 0, "startedAt": began, "finishedAt": _now()}
        pod.ended = _middle(over["finishedAt"])
        self.tell(pod, "Succeeded", terminated=over)
        time.sleep(1)
        self.do(self.api.delete_namespaced_pod, pod.name, NAMESPACE, grace_period_seconds=0)
        pod.gone = time.time()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _middle(stamp: object) -> float:
    """Of the second that a stamp names."""
    return datetime.fromisoformat(str(stamp)).timestamp() + 0.5


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """An API server with the namespaces and three machines that are ready."""
    with started(tmp_path) as found:
        server = ApiServer(found, seconds=60)
        for name in ("tidepool", NAMESPACE):
            server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account = {"name": "default", "namespace": NAMESPACE}
        server.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        api = client.CoreV1Api(config.new_client_from_config(str(found)))
        for name in MACHINES:
            api.create_node({"metadata": {"name": name}, "spec": {"providerID": f"aws:///us-east-1a/{name}"}})
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": _now(), "lastHeartbeatTime": _now()}
            size = {"cpu": "4", "memory": "8Gi"}
            api.patch_node_status(name, {"status": {"conditions": [ready], "allocatable": size, "capacity": size}})
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
    (tmp_path / "capacity.json").write_text(dumps(Capacity("test", {TEAM: Tenant(NAMESPACE, "job")}, TEAM, {}, 60, {})))
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
    for machine in MACHINES:
        store.record(Event(begin, "machine.asked", machine=machine, pool="spot", usd_per_hour=0.1))
    killed: Counter[str] = Counter()
    try:
        orphans = _go_on(cluster, parts, chance, killed)

        def written() -> bool:
            with contextlib.suppress(Exception):  # the database may be starting
                return not any(lost(recorded(each), cluster.seen) for each in ledgers)
            return False

        with contextlib.suppress(AssertionError):  # what is missing is said below
            wait_until(written, 60, "all is written")
        for machine in MACHINES:
            store.record(Event(time.time(), "machine.gone", machine=machine, pool="spot", usd_per_hour=0.1))
        for each in ledgers:
            check_pods(recorded(each), cluster.seen)
        _check_reaped(recorded(ledgers[0]), {each.uid for each in orphans})
        held = balance(ledgers[0], tmp_path)
    finally:
        airflow.shutdown()
        for part in parts:
            part.end()
    lived = max((each.gone or 0) - (each.bound or 0) for each in orphans)
    assert lived <= ORPHAN_SECONDS
    print(
        f"{sum(killed.values())} killed in {SECONDS:.0f} s ({dict(killed)}); {len(cluster.seen)} pods, "
        f"{len(orphans)} orphans, gone after {lived:.0f} s at most; {held:.1f} machine-seconds in the books"
    )


def _go_on(cluster: Cluster, parts: list[Part], chance: random.Random, killed: Counter[str]) -> list[Pod]:
    """Disturb for SECONDS; until all pods and orphans are gone. The orphans."""
    orphans: list[Pod] = []
    end, numbers = time.monotonic() + SECONDS, iter(range(10**6))
    next_kill, next_orphan = time.monotonic() + 5, 0.0
    with ThreadPoolExecutor(AT_ONCE) as workers:
        lives: list[Any] = []
        while (now := time.monotonic()) < end:
            lives = [each for each in lives if not (each.done() and each.result() is None)]
            if now >= next_orphan:
                orphan = cluster.create(f"orphan-{len(orphans)}", OVER)
                cluster.bind(orphan, chance.choice(MACHINES))
                began = _now()
                orphan.running = _middle(began)
                cluster.tell(orphan, "Running", running={"startedAt": began})
                orphans.append(orphan)
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
            _look(cluster, orphans)

        def gone() -> bool:
            _look(cluster, orphans)
            return all(each.gone for each in cluster.seen.values())

        wait_until(gone, ORPHAN_SECONDS + LONGEST, "all pods and orphans are gone")
    return orphans


def _look(cluster: Cluster, orphans: list[Pod]) -> None:
    """Which orphans are gone by now. One that is asked to go goes: there is no kubelet but this one."""
    found = cluster.do(cluster.api.list_namespaced_pod, NAMESPACE)["items"]
    there = {pod["metadata"]["uid"]: pod for pod in found}
    for each in orphans:
        if each.gone is None and each.uid not in there:
            each.gone = time.time()
        elif each.gone is None and there[each.uid]["metadata"].get("deletionTimestamp"):
            cluster.do(cluster.api.delete_namespaced_pod, each.name, NAMESPACE, grace_period_seconds=0)


def _check_reaped(events: list[Event], orphans: set[str]) -> None:
    reaped = [event for event in events if event.kind.startswith("reaper.")]
    assert {event.pod_uid for event in reaped} == orphans, "no false kill"
    found = {event.pod_uid for event in reaped if event.kind == "reaper.found" and event.cause == "ownerless"}
    assert found == orphans, "why each was removed was written down before it was"


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
