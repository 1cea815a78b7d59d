"""What the pods of jobs use of CPU and memory, as the kubelets of their machines measure it.

Each machine with a running job is asked for `/stats/summary`, which needs the right `get` on `nodes/stats`: not
`nodes/proxy`, with which one could also run commands in containers. The kubelet is reached at the node's InternalIP,
and its certificate must be of the cluster's authority and for that address; EKS signs kubelets' certificates so.
"""

from __future__ import annotations

import json
import logging
import math
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import urllib3
from kubernetes import client

from tidepool.keeper.facts import machine_id, pod_identity
from tidepool.ledger.events import Event, Ledger
from tidepool.objects import Object

EVERY_SECONDS = 5.0
"""How often machines with jobs are asked. A kubelet measures about every 10 s, so that no measurement is missed."""

PORT = 10250
PATH = "/stats/summary?only_cpu_and_memory=true"
AT_ONCE = 8
MOST_CONNECTIONS = 500
"""Kept open to kubelets, at 160 KB each: to agree on keys anew takes some ten times as long as the answer."""

BUSY = 4
"""Of its time it measures one part in so many at most: more machines than connections are asked less often."""

_REQUEST = urllib3.Timeout(connect=1, read=3)
_LARGEST_ANSWER = 16 * 1024**2

_LARGEST = 2**62  # what a database takes
_NO_ANSWER = (OSError, ValueError, TypeError, AttributeError, ArithmeticError, urllib3.exceptions.HTTPError)

_GAMMA = 1.02
_log = logging.getLogger("tidepool.usage")


@dataclass
class Sketch:
    """A distribution of sizes in at most a thousand numbers, however many were added: quantiles to 1 % of their value.

    Each bucket is 2 % wide (as in DDSketch, VLDB 2019).
    """

    counts: dict[int, int] = field(default_factory=dict)
    largest: int = 0

    def add(self, size: int) -> None:
        """Count one size; 0 and less is 1."""
        bucket = math.ceil(math.log(max(1, size), _GAMMA))
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.largest = max(self.largest, size)

    def quantile(self, share: float) -> int:
        """The size that this share of all is not above; 0 without any."""
        rank = math.ceil(share * sum(self.counts.values()))
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0:
                return min(self.largest, round(2 * _GAMMA**bucket / (_GAMMA + 1)))
        return 0


@dataclass(frozen=True)
class Sample:
    """One measurement of a pod. time: Unix seconds, the kubelet's. cpu_seconds: since the pod began. memory_bytes: its
    working set, which is what the machine can't take back from it."""

    pod_uid: str
    time: float
    cpu_seconds: float
    memory_bytes: int


@dataclass
class Used:
    """What a pod was seen to use so far."""

    memory: Sketch = field(default_factory=Sketch)
    cpu_seconds: float = 0.0
    samples: int = 0
    last: float = 0.0

    def add(self, sample: Sample) -> None:
        """Take in a measurement; the same one again counts once."""
        if sample.time > self.last:
            self.last = sample.time
            self.samples += 1
            self.memory.add(sample.memory_bytes)
            self.cpu_seconds = max(self.cpu_seconds, sample.cpu_seconds)

    def event(self, pod: Object, machine: str, now: float) -> Event:
        """pod.used."""
        return Event(
            now,
            "pod.used",
            machine=machine,
            cpu_seconds=round(self.cpu_seconds, 3),
            memory_p99_bytes=self.memory.quantile(0.99),
            memory_peak_bytes=self.memory.largest,
            samples=self.samples,
            **pod_identity(pod),
        )


def samples(summary: Object) -> list[Sample]:
    """Every pod's measurement in a kubelet's summary: the pod's own, else its containers' together. What lacks a
    figure is left out."""
    found = []
    for pod in summary.get("pods") or []:
        uid = (pod.get("podRef") or {}).get("uid")
        own = _measured(pod)
        parts = [own] if own is not None else [_measured(each) for each in pod.get("containers") or []]
        known = [each for each in parts if each is not None]
        if uid and known and len(known) == len(parts):
            last, cpu = max(each[0] for each in known), sum(each[1] for each in known)
            found.append(Sample(str(uid), last, cpu, sum(each[2] for each in known)))
    return found


def _measured(thing: Object) -> tuple[float, float, int] | None:
    """When, CPU seconds and bytes of memory of a pod or container; None where a figure is missing."""
    cpu, memory = thing.get("cpu") or {}, thing.get("memory") or {}
    nanos, size, at = cpu.get("usageCoreNanoSeconds"), memory.get("workingSetBytes"), memory.get("time")
    if at and isinstance(nanos, int) and isinstance(size, int) and 0 <= size < _LARGEST and 0 <= nanos < _LARGEST:
        return datetime.fromisoformat(at).timestamp(), nanos / 1e9, size
    return None


class Kept(Protocol):
    """The objects of a watch, as they are now."""

    def things(self) -> list[Object] | None: ...


class Usage:
    """Asks the kubelets of machines with jobs, and records `pod.used` when a pod has ended.

    ask: the summary of a kubelet at an address. What was seen of a pod before this process began is lost, save its CPU
    seconds, which the kubelet counts. A pod that ended before it was measured has no event.
    """

    def __init__(self, nodes: Kept, pods: Kept, ledger: Ledger, ask: Callable[[str], Object]) -> None:
        self._nodes = nodes
        self._pods = pods
        self._ledger = ledger
        self._ask = ask
        self._used: dict[str, Used] = {}
        self._known: dict[str, tuple[Object, str]] = {}
        self._silent: set[str] = set()

    def run(self) -> None:
        """Measure until the process ends."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="usage") as workers:
            while True:
                began = time.monotonic()
                self.step(time.time(), lambda work, over: list(workers.map(work, over)))
                took = time.monotonic() - began
                time.sleep(max(EVERY_SECONDS - took, (BUSY - 1) * took))

    def step(self, now: float, each: Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]) -> None:
        """One round: ask every machine with a running job, and record what pods used that have ended."""
        nodes, pods = self._nodes.things(), self._pods.things()
        if nodes is None or pods is None:
            return
        named = {node["metadata"]["name"]: node for node in nodes}
        here = {}
        for pod in pods:
            node = named.get(pod["spec"].get("nodeName") or "")
            if node is not None and pod["status"].get("phase") == "Running":
                here[pod["metadata"]["uid"]] = (pod, machine_id(node))
        self._known |= here
        asked = {pod["spec"]["nodeName"]: address(named[pod["spec"]["nodeName"]]) for pod, _ in here.values()}
        for answer in each(self._summary, [item for item in asked.items() if item[1]]):
            for sample in answer:
                if sample.pod_uid in here:
                    self._used.setdefault(sample.pod_uid, Used()).add(sample)
        self._silent &= set(asked)
        for uid in [uid for uid in self._known if uid not in here]:
            pod, machine = self._known.pop(uid)
            if (used := self._used.pop(uid, None)) is not None:
                self._ledger.record(used.event(pod, machine, now))

    def _summary(self, node: tuple[str, str]) -> list[Sample]:
        name, where = node
        try:
            found = samples(self._ask(where))
        except _NO_ANSWER as error:  # whatever a machine says must not end the keeper
            if name not in self._silent:
                _log.warning("machine %s does not say what its pods use: %s", name, error)
                self._silent.add(name)
            return []
        self._silent.discard(name)
        return found


def address(node: Object) -> str:
    """The node's InternalIP; empty where it has none."""
    found = (node.get("status") or {}).get("addresses") or []
    return next((str(each.get("address")) for each in found if each.get("type") == "InternalIP"), "")


class Kubelets:
    """Asks kubelets with the keeper's own identity: its ServiceAccount's token, or its certificate."""

    def __init__(self, settings: client.Configuration, port: int = PORT) -> None:
        self._settings = settings
        self._port = port
        trust = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if settings.cert_file:
            trust.load_cert_chain(settings.cert_file, settings.key_file)
        self._pool = urllib3.PoolManager(MOST_CONNECTIONS, ssl_context=trust, timeout=_REQUEST, retries=False)

    def summary(self, where: str) -> Object:
        """The answer of the kubelet at an address. Raises OSError, ValueError or HTTPError where there is none."""
        host = f"[{where}]" if ":" in where else where
        answer = self._pool.request(
            "GET", f"https://{host}:{self._port}{PATH}", headers=self._headers(), preload_content=False
        )
        try:
            if answer.status != 200:
                words = answer.read(300).decode(errors="replace").strip()
                raise OSError(f"{answer.status} {answer.reason}: {words}")
            body = answer.read(_LARGEST_ANSWER + 1)
        finally:
            answer.release_conn()
        if len(body) > _LARGEST_ANSWER:
            raise ValueError(f"its answer is larger than {_LARGEST_ANSWER} bytes")
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError("its answer is no JSON object")
        return found

    def _headers(self) -> Mapping[str, str]:
        # Asked for each time: the token in a pod is renewed every hour.
        token = self._settings.get_api_key_with_prefix("BearerToken", "authorization")
        return {"Authorization": token} if token else {}
