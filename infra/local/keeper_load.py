"""Who changes many objects at once and who watches: a client, the ledger's reader, processes of the keeper and kwok."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from infra.local import kwok_binary, paths
from infra.local.errors import LocalError
from infra.local.kube import api_client
from tidepool import objects

_WAIT_SECONDS = 120.0
_LIST = 500
_LOG = "keeper.log"


class ScaleError(LocalError):
    """The measurement can't go on; the message says why."""


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
    """The keeper as a process of its own, as its image starts it. peak_bytes, cpu_seconds: of those that have ended."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self._folder = folder
        self._command = [
            *(sys.executable, "-m", "tidepool.keeper", "--kubeconfig", str(kubeconfig)),
            *("--database", str(folder / "ledger.db"), "--capacity", str(folder / "capacity.json")),
            *("--lease", "kube-system/tidepool-keeper", "--identity", "bench"),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.peak_bytes: list[int] = []
        self.cpu_seconds: list[float] = []

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

    def end(self) -> None:
        """Note what it took, and kill it."""
        self.check()
        process = self._process
        if process is None:
            return
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        self.peak_bytes.append(int(peak.split()[1]) * 1024)
        user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        self.cpu_seconds.append((int(user) + int(system)) / os.sysconf("SC_CLK_TCK"))
        process.kill()
        process.wait()
        self._process = None


@contextlib.contextmanager
def kwok(binary: Path, kubeconfig: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running kwok that plays the nodes and pods of a kube-apiserver, as its process; its log is in the folder."""
    stages = shutil.copy(kwok_binary.SOURCES / "stages.yaml", folder)
    command = [str(binary), f"--kubeconfig={kubeconfig}", f"--config={stages}"]
    with (folder / "kwok.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
