"""The keeper at scale: nodes and pods that kwok plays on a kube-apiserver of their own, and when it knew of each.

A change's moment is the one at which its maker sent it (kwok says so in a condition's message) or the API server's
answer; its arrival is when a second reader finds its event in the ledger. So a lag holds the API server's part too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from infra.local import api_server, kwok_binary, paths, toolchain
from infra.local.errors import LocalError
from infra.local.kube import api_client
from infra.local.progress import Progress
from infra.local.world_kubernetes import ApiServer
from tidepool import capacity, objects, pod, sizing
from tidepool.capacity import JOB_PRIORITY_CLASS, LABEL_PREFIX, POOL_LABEL, Capacity, Pool, Tenant
from tidepool.job import Job
from tidepool.labels import LEASE, utc

NAMESPACE = "tidepool-bench"
ZONE = "us-east-1a"
END = LABEL_PREFIX + "bench-end"
_POOL = "bench"
_GIB = 1024**3
_WAIT_SECONDS = 120.0
_LIST = 500
_LAST_POD = "zz-last"  # of the list, as the API server sorts it
_LOG = "keeper.log"


class ScaleError(LocalError):
    """The measurement can't go on; the message says why."""


@dataclass(frozen=True)
class Scale:
    """per_second: how many pods are made, end and are deleted in a second."""

    nodes: int
    pods: int
    per_second: float


@dataclass
class Figures:
    """lags: seconds from a change to its event, by the event's kind. peak_bytes: of the keeper's memory, of the first
    process and of the one that was started among all the pods. restart_seconds: from its start until it knows of what
    came meanwhile. missing, doubled: events that should be in the ledger and are not, or are twice."""

    scale: Scale
    lags: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: list[int] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    restart_seconds: float = 0.0
    events: int = 0
    missing: int = 0
    doubled: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "nodes": self.scale.nodes,
            "pods": self.scale.pods,
            "per_second": self.scale.per_second,
            "lag_seconds": {kind: summary(lags) for kind, lags in self.lags.items()},
            "peak_mib": [round(each / 2**20) for each in self.peak_bytes],
            "cpu_seconds": [round(each, 1) for each in self.cpu_seconds],
            "restart_seconds": round(self.restart_seconds, 2),
            "events": self.events,
            "missing": self.missing,
            "doubled": self.doubled,
        }


def summary(lags: Sequence[float]) -> dict[str, float]:
    """Median, the value that 99 of 100 stay below, and the largest; milliseconds are enough."""
    ordered = sorted(lags) or [0.0]
    chosen = statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], ordered[-1]
    return dict(zip(("median", "p99", "max"), (round(each, 3) for each in chosen), strict=True))


def measure(scale: Scale, folder: Path, progress: Progress) -> Figures:
    """Everything once, in an empty folder. Raises LocalError."""
    tools = toolchain.prepare(progress)
    kwok = kwok_binary.find(progress)
    figures = Figures(scale)
    document = _capacity()
    (folder / "capacity.json").write_text(capacity.dumps(document))
    with contextlib.ExitStack() as stack:
        with progress.step("starting etcd, kube-apiserver and kwok"):
            kubeconfig = stack.enter_context(api_server.started(folder, tools.etcd, tools.kubernetes))
            server = ApiServer(kubeconfig, seconds=60)
            for manifest in _surroundings():
                server.apply(manifest)
            cluster = Cluster(kubeconfig)
            player = stack.enter_context(_kwok(kwok, kubeconfig, folder))
        keeper = stack.enter_context(Keeper(folder, kubeconfig))
        arrivals = stack.enter_context(Arrivals(folder / "ledger.db", player))
        arrivals.check = keeper.check
        with progress.step(f"{scale.nodes} nodes, and {scale.pods} pods, {scale.per_second:g} a second"):
            cluster.spread([_node(number) for number in range(scale.nodes)], 100.0, "/api/v1/nodes")
            pods = [_pod(document, number, scale.nodes) for number in range(scale.pods)]
            made = cluster.spread(pods, scale.per_second, f"/api/v1/namespaces/{NAMESPACE}/pods")
            uids = [str(each["metadata"]["uid"]) for each, _ in made]
            arrivals.wait_for("pod.running", uids)
        figures.lags["pod.queued"] = arrivals.lags(
            "pod.queued", {uid: at for uid, (_, at) in zip(uids, made, strict=True)}
        )
        running = cluster.messages(f"/api/v1/namespaces/{NAMESPACE}/pods", "Ready")
        figures.lags["pod.running"] = arrivals.lags("pod.running", running)
        with progress.step("the keeper is killed and started again"):
            _restart(keeper, cluster, arrivals, document, figures)
        with progress.step(f"all pods end and are deleted, {scale.per_second:g} a second"):
            first = time.time() + 10
            ends = [
                (each["metadata"]["name"], {"metadata": {"annotations": {END: utc(first + number / scale.per_second)}}})
                for number, (each, _) in enumerate(made)
            ]
            cluster.patch(ends, f"/api/v1/namespaces/{NAMESPACE}/pods")
            arrivals.wait_for("pod.ended", uids)
            ended = cluster.messages(f"/api/v1/namespaces/{NAMESPACE}/pods", "Ready")
            figures.lags["pod.ended"] = arrivals.lags("pod.ended", ended)
            gone = cluster.delete([name for name, _ in ends], scale.per_second, f"/api/v1/namespaces/{NAMESPACE}/pods")
            by_name = {each["metadata"]["name"]: each["metadata"]["uid"] for each, _ in made}
            arrivals.wait_for("pod.gone", uids)
            moments = {str(by_name[name]): moment for name, moment in gone.items()}
            figures.lags["pod.gone"] = arrivals.lags("pod.gone", moments)
        keeper.end(figures)
        _count(arrivals, uids, figures)
    return figures


def _restart(keeper: Keeper, cluster: Cluster, arrivals: Arrivals, document: Capacity, figures: Figures) -> None:
    keeper.end(figures)
    last = _pod(document, 0, 1)
    last["metadata"] |= {"name": _LAST_POD}
    ((made, _),) = cluster.spread([last], 1.0, f"/api/v1/namespaces/{NAMESPACE}/pods")
    begun = time.time()
    keeper.start()
    arrivals.wait_for("pod.queued", [made["metadata"]["uid"]])
    figures.restart_seconds = arrivals.seen["pod.queued", made["metadata"]["uid"]] - begun


def _count(arrivals: Arrivals, uids: list[str], figures: Figures) -> None:
    kinds = ("pod.queued", "pod.scheduled", "pod.running", "pod.ended", "pod.gone")
    figures.events = arrivals.count
    figures.missing = sum((kind, uid) not in arrivals.seen for kind in kinds for uid in uids)
    figures.doubled = sum(times - 1 for (kind, _), times in arrivals.times.items() if kind in kinds)


class Cluster:
    """Many requests at once, as JSON, to the API server of a kubeconfig."""

    def __init__(self, kubeconfig: Path, threads: int = 8) -> None:
        made = api_client(kubeconfig)
        self._host, self._pool, self._threads = made.configuration.host, made.rest_client.pool_manager, threads

    def spread(
        self, bodies: Sequence[dict[str, Any]], per_second: float, path: str
    ) -> list[tuple[dict[str, Any], float]]:
        """Create them at an even pace: the answers, and when each came."""
        return self._paced([partial(self._ask, "POST", path, body) for body in bodies], per_second)

    def patch(self, bodies: Sequence[tuple[str, dict[str, Any]]], path: str) -> None:
        """Change each by its name, as fast as may be."""
        self._paced([partial(self._ask, "PATCH", f"{path}/{name}", body) for name, body in bodies], 1e9)

    def delete(self, names: Sequence[str], per_second: float, path: str) -> dict[str, float]:
        """Delete them at an even pace; when each was."""
        asked = [partial(self._ask, "DELETE", f"{path}/{name}", None) for name in names]
        return {name: at for name, (_, at) in zip(names, self._paced(asked, per_second), strict=True)}

    def messages(self, path: str, condition: str) -> dict[str, float]:
        """The moments that kwok wrote into the condition, by UID."""
        found: dict[str, float] = {}
        rest = ""
        while True:
            page = self._ask("GET", f"{path}?limit={_LIST}{rest}", None)
            for thing in page["items"]:
                if message := objects.condition(thing, condition).get("message"):
                    found[thing["metadata"]["uid"]] = datetime.fromisoformat(message).timestamp()
            if not page["metadata"].get("continue"):
                return found
            rest = f"&continue={page['metadata']['continue']}"

    def _paced(
        self, requests: Sequence[Callable[[], dict[str, Any]]], per_second: float
    ) -> list[tuple[dict[str, Any], float]]:
        start = time.monotonic()

        def one(number: int) -> tuple[dict[str, Any], float]:
            time.sleep(max(0.0, start + number / per_second - time.monotonic()))
            return requests[number](), time.time()

        with ThreadPoolExecutor(self._threads) as threads:
            return list(threads.map(one, range(len(requests))))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        answer = self._pool.request(
            method,
            self._host + path,
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": kind},
            timeout=60,
        )
        if answer.status >= 300:
            raise ScaleError(f"{method} {path}: the API server answered {answer.status}: {answer.data[:300]!r}")
        found: dict[str, Any] = json.loads(answer.data)
        return found


class Arrivals:
    """When each event was first to be found in the ledger, by a reader of its own that looks 20 times a second."""

    def __init__(self, database: Path, kwok: subprocess.Popen[bytes]) -> None:
        self._database = database
        self._kwok = kwok
        self.check: Callable[[], None] = lambda: None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.seen: dict[tuple[str, str], float] = {}
        self.times: dict[tuple[str, str], int] = {}
        self.count = 0

    def __enter__(self) -> Arrivals:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def wait_for(self, kind: str, subjects: Sequence[str]) -> None:
        """Until all are there; as long as any still comes."""
        deadline, missing = time.monotonic() + _WAIT_SECONDS, len(subjects) + 1
        while left := sum((kind, subject) not in self.seen for subject in subjects):
            if left < missing:
                deadline, missing = time.monotonic() + _WAIT_SECONDS, left
            self.check()
            if self._kwok.poll() is not None:
                raise ScaleError(f"kwok has ended by itself; its log is {self._database.with_name('kwok.log')}")
            if time.monotonic() > deadline:
                log = self._database.with_name(_LOG)
                raise ScaleError(f"{left} of {len(subjects)} {kind} never came; the keeper's log is {log}")
            time.sleep(0.2)

    def lags(self, kind: str, moments: dict[str, float]) -> list[float]:
        """Seconds from each moment to the arrival."""
        return [
            self.seen[kind, subject] - moment for subject, moment in moments.items() if (kind, subject) in self.seen
        ]

    def _read(self) -> None:
        last = 0
        while not self._stopped.wait(0.05):
            if not self._database.exists():
                continue
            with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(self._open()) as connection:
                while not self._stopped.wait(0.05):
                    chosen = "SELECT sequence, kind, pod_uid, machine FROM tidepool_events WHERE sequence > ?"
                    rows = connection.execute(chosen, (last,)).fetchall()
                    now = time.time()
                    for sequence, kind, uid, machine in rows:
                        key = kind, machine if kind.startswith("machine.") else uid
                        self.seen.setdefault(key, now)
                        self.times[key] = self.times.get(key, 0) + 1
                        last = max(last, sequence)
                    self.count += len(rows)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, isolation_level=None)


class Keeper:
    """The keeper as a process of its own, as its image starts it."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self._folder = folder
        self._command = [
            *(sys.executable, "-m", "tidepool.keeper", "--kubeconfig", str(kubeconfig)),
            *("--database", str(folder / "ledger.db"), "--capacity", str(folder / "capacity.json")),
            *("--lease", "kube-system/tidepool-keeper", "--identity", "bench"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Keeper:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        """Start it; its log goes on."""
        environment = os.environ | {"PYTHONPATH": str(paths.REPOSITORY / "dags"), "PYTHONWARNINGS": "ignore"}
        with (self._folder / _LOG).open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def check(self) -> None:
        """Raise ScaleError if it has ended by itself, as it does where it can't renew its Lease for ten seconds."""
        if self._process is not None and self._process.poll() is not None:
            last = (self._folder / _LOG).read_text().strip().splitlines()[-1:]
            raise ScaleError(f"the keeper has ended by itself, too much else runs on this machine: {' '.join(last)}")

    def end(self, figures: Figures) -> None:
        """Note what it took, and kill it."""
        self.check()
        process = self._process
        if process is None:
            return
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        figures.peak_bytes.append(int(peak.split()[1]) * 1024)
        user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        figures.cpu_seconds.append((int(user) + int(system)) / os.sysconf("SC_CLK_TCK"))
        process.kill()
        process.wait()
        self._process = None


@contextlib.contextmanager
def _kwok(binary: Path, kubeconfig: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    stages = shutil.copy(kwok_binary.SOURCES / "stages.yaml", folder)
    command = [str(binary), f"--kubeconfig={kubeconfig}", f"--config={stages}"]
    with (folder / "kwok.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _capacity() -> Capacity:
    pool = Pool(
        name=_POOL,
        market="spot",
        jobs=True,
        instance_types=("m5.2xlarge",),
        labels={POOL_LABEL: _POOL},
        taints=(),
        cpu_millis=7910,
        memory_bytes=29 * _GIB,
        ephemeral_storage_bytes=50 * _GIB,
        gpus=0,
        architecture="amd64",
        max_machines=100_000,
        priority=10,
        usd_per_hour=0.15,
        on_demand_usd_per_hour=0.384,
    )
    return Capacity(
        cluster="bench",
        tenants={"bench": Tenant(NAMESPACE, "job")},
        default_tenant="bench",
        images={},
        schedule_timeout_seconds=1800,
        pools={_POOL: pool},
    )


def _surroundings() -> list[dict[str, Any]]:
    """What a job's pod needs to be let in."""
    account = {"name": "job", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": JOB_PRIORITY_CLASS},
            "value": 1000,
        },
    ]


def _node(number: int) -> dict[str, Any]:
    sizes = {"cpu": "7910m", "memory": "29Gi", "pods": "58"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": _node_name(number),
            "labels": {
                POOL_LABEL: _POOL,
                "topology.kubernetes.io/zone": ZONE,
                "node.kubernetes.io/instance-type": "m5.2xlarge",
            },
        },
        "spec": {"providerID": f"aws:///{ZONE}/i-{number:017x}"},
        "status": {"capacity": sizes, "allocatable": sizes},
    }


def _pod(document: Capacity, number: int, nodes: int) -> dict[str, Any]:
    """A job's, as the operators make it, on its node already: no scheduler is measured here."""
    placed = sizing.place(Job("task", cores=1, memory="2Gi", exclusive=False), document)
    made = pod.manifest(placed, "registry.example/jobs:1", document)
    labels, annotations = pod.owner(f"dag-{number % 50}", f"task-{number % 20}", f"run-{number // 1000}", 1, "bench")
    made["metadata"] |= {
        "name": f"pod-{number:06d}",
        "labels": made["metadata"]["labels"] | labels,
        "annotations": made["metadata"]["annotations"] | annotations | {LEASE: utc(time.time() + 3600)},
    }
    made["spec"]["nodeName"] = _node_name(number % nodes)
    return made


def _node_name(number: int) -> str:
    return f"node-{number:05d}"
