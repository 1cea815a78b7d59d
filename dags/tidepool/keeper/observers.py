"""What the keeper's watches tell, recorded: nodes, pods of jobs and image pulls. Each fact once, over restarts too."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable

from kubernetes.client import ApiException

from tidepool.capacity import POOL_LABEL, Pool
from tidepool.keeper.facts import (
    is_of,
    machine_id,
    node_events,
    node_gone,
    pod_events,
    pod_lost,
    pull_event,
)
from tidepool.ledger.buffer import Buffer
from tidepool.ledger.events import MACHINE_KINDS, POD_KINDS, Event, Ledger
from tidepool.objects import Object, is_over

_MOST_WAITING = 1000
_MOST_DEPARTED = 1000


class Nodes:
    """Records what happens to machines as nodes, and knows which machine a node is.

    A machine that no cloud is asked about, and that nobody else writes of, is gone when its node is. pools: as they are
    now, to know a node's by its labels. clouds: that are asked, by how their provider IDs begin.
    """

    def __init__(
        self,
        recorder: Ledger,
        read: Callable[[str], Object],
        pools: Callable[[], Iterable[Pool]] = tuple,
        clouds: tuple[str, ...] = (),
    ) -> None:
        self._recorder = recorder
        self._read = read
        self._pools = pools
        self._clouds = clouds
        self.lost: Callable[[str, float], None] = lambda name, now: None
        self._machines: dict[str, str] = {}
        self._departed: dict[str, str] = {}
        self._tainted: dict[str, Object] = {}
        # The last that an earlier watch wrote proves that it saw everything until then.
        self._in_step = 0.0 if clouds else recorder.last_time((*MACHINE_KINDS, *POD_KINDS))

    def listed(self, nodes: list[Object], now: float) -> None:
        """Take in what is there on a first look."""
        _prepare(self._recorder, (machine_id(node) for node in nodes))
        pools = tuple(self._pools())
        for node in nodes:
            self._take(node, now, False, pools)
        here = {node["metadata"]["name"] for node in nodes}
        for name in [name for name in self._machines if name not in here]:
            self._depart(name)
        self._vanish({machine_id(node) for node in nodes}, now)
        self._in_step = now

    def changed(self, kind: str, node: Object, now: float) -> None:
        """Take in a change as it happens. A node is deleted when its machine is gone: `lost` is told."""
        if kind == "DELETED":
            self.lost(node["metadata"]["name"], now)
            self._end(node, now)
            self._depart(node["metadata"]["name"])
            _forget(self._recorder, machine_id(node))
        else:
            self._take(node, now, True, self._pools())
        self._in_step = now

    def in_step(self, now: float) -> None:
        """Nothing has changed up to now."""
        _flush(self._recorder)
        self._in_step = now

    def machine(self, name: str) -> str:
        """The machine behind a node, also one that has just gone; empty for no node and one that is not known."""
        found = self._machines.get(name) or self._departed.get(name)
        if name and not found:
            try:
                found = self._machines[name] = machine_id(self._read(name))
            except ApiException as error:
                if error.status != 404:
                    raise
        return found or ""

    def tainted(self, name: str) -> Object | None:
        """A node that has taints besides its pool's own, which may say why its pods have to go."""
        return self._tainted.get(name)

    def _depart(self, name: str) -> None:
        """Its node is gone. What its pods' watch still tells of it is of its machine."""
        self._tainted.pop(name, None)
        self._departed.pop(name, None)
        self._departed[name] = self._machines.pop(name, "")
        while len(self._departed) > _MOST_DEPARTED:
            del self._departed[next(iter(self._departed))]

    def _end(self, node: Object, now: float) -> None:
        """Record that the machine is gone with its node, where nobody else says when it was."""
        machine = machine_id(node)
        if not is_of(node, self._clouds) and self._recorder.known("machine.ready", machine) and self._is_own(machine):
            self._recorder.record(node_gone(node, now, tuple(self._pools())))

    def _vanish(self, here: set[str], now: float) -> None:
        """Record that machines are gone whose nodes went while nobody looked."""
        if self._clouds:
            return  # what is asked of a cloud says it, and a cluster has one
        left = [event for event in self._recorder.not_gone("machine.ready") if event.machine not in here]
        _prepare(self._recorder, (event.machine for event in left))
        for event in left:
            if self._is_own(event.machine):
                earliest = max(event.time, min(self._in_step, now))
                gone = dataclasses.replace(event, kind="machine.gone", time=now, earliest=earliest, reconstructed=True)
                self._recorder.record(gone)
            _forget(self._recorder, event.machine)

    def _is_own(self, machine: str) -> bool:
        """Whether no other process writes of the machine: one that does has said when it came."""
        _refresh(self._recorder, machine)
        known = self._recorder.known
        return known("machine.asked", machine) is None and known("machine.launched", machine) is None

    def _take(self, node: Object, now: float, live: bool, pools: Iterable[Pool]) -> None:
        name = node["metadata"]["name"]
        self._departed.pop(name, None)
        if machine_id(node):
            self._machines[name] = machine_id(node)
        taints = [taint for taint in node.get("spec", {}).get("taints") or [] if taint.get("key") != POOL_LABEL]
        if taints:
            self._tainted[name] = {"metadata": {"name": name}, "spec": {"taints": taints}}
        else:
            self._tainted.pop(name, None)
        for event in node_events(node, now, live, tuple(pools), self._clouds):
            self._recorder.record(event)


class Pods:
    """Records what happens to the pods of jobs, and machines that idle after them. Threads may share it.

    machine: the machine behind a node. tainted: the node itself, where it says why its pods have to go.
    """

    def __init__(
        self,
        recorder: Ledger,
        machine: Callable[[str], str],
        tainted: Callable[[str], Object | None] = lambda name: None,
    ) -> None:
        self._lock = threading.RLock()
        self._recorder = recorder
        self._machine = machine
        self._tainted = tainted
        self._last: dict[str, Object] = {}
        self._on: dict[str, dict[str, Object]] = {}
        self._pulls: dict[str, tuple[Object, float, bool]] = {}
        # The last that an earlier watch wrote proves that it saw everything until then.
        self._in_step = recorder.last_time(POD_KINDS)

    def listed(self, pods: list[Object], now: float) -> None:
        """Take in what is there on a first look, and that what was there before and is not now is gone."""
        with self._lock:
            _prepare(self._recorder, (pod["metadata"]["uid"] for pod in pods))
            for pod in pods:
                self._take(pod, now, live=False)
            here = {pod["metadata"]["uid"] for pod in pods}
            for event in self._recorder.unfinished():
                if event.pod_uid not in here:
                    metadata = {"name": event.pod, "uid": event.pod_uid, "namespace": event.namespace}
                    last = self._last.get(event.pod_uid, {"metadata": metadata})
                    self._take(last, now, live=True, gone=True, last_seen=self._in_step)
            self._in_step = now

    def changed(self, kind: str, pod: Object, now: float) -> None:
        """Take in a change as it happens."""
        with self._lock:
            if kind == "ADDED":  # since the list
                _expect(self._recorder, pod["metadata"]["uid"])
            self._take(pod, now, live=True, gone=kind == "DELETED")
            self._in_step = now

    def in_step(self, now: float) -> None:
        """Nothing has changed up to now."""
        _flush(self._recorder)
        self._in_step = now

    def flush(self) -> None:
        """What was taken in is in the ledger."""
        _flush(self._recorder)

    def lost(self, node: str, now: float) -> None:
        """The node's machine is gone: record that its pods ended, as the API server finds out a minute later."""
        with self._lock:
            for pod in list(self._on.get(node, {}).values()):
                for event in pod_lost(pod, self._machine(node), now):
                    self._recorder.record(event)

    def pulling(self, event: Object, now: float, live: bool) -> None:
        """A kubelet fetches an image for a pod; of a pod that is not known yet it is kept until it is."""
        with self._lock:
            uid = str((event.get("involvedObject") or {}).get("uid"))
            self._pulls[uid] = self._pulls.get(uid, (event, now, live))
            while len(self._pulls) > _MOST_WAITING:  # of other pods than jobs', of which nothing will come
                self._pulls.pop(next(iter(self._pulls)), None)
            if uid in self._last:
                self._take_pull(self._last[uid])

    def _take(self, pod: Object, now: float, live: bool, gone: bool = False, last_seen: float | None = None) -> None:
        uid = pod["metadata"]["uid"]
        placed = self._recorder.known("pod.scheduled", uid)
        machine = placed.machine if placed else self._machine(pod.get("spec", {}).get("nodeName") or "")
        node = self._tainted(pod.get("spec", {}).get("nodeName") or "")
        earliest = 0.0
        for event in pod_events(pod, machine, now, live, gone, last_seen=last_seen, node=node):
            # A stamp, cut off to seconds, may lie before what was seen happening earlier.
            timed = dataclasses.replace(event, time=max(event.time, earliest))
            if event.kind == "pod.ended" and self._recorder.known(*event.key) is None:
                self._idle(timed, pod)  # before the end: killed in between, the next watch does both
            self._recorder.record(timed)
            earliest = (self._recorder.known(*event.key) or timed).time
        self._keep(uid, pod, gone)
        if not gone:
            self._take_pull(pod)

    def _keep(self, uid: str, pod: Object, gone: bool) -> None:
        node = pod.get("spec", {}).get("nodeName") or ""
        if not gone:
            self._last[uid] = pod
            self._on.setdefault(node, {})[uid] = pod
            if node:
                self._off("", uid)
            return
        self._last.pop(uid, None)
        self._off(node, uid)
        _forget(self._recorder, uid)

    def _off(self, node: str, uid: str) -> None:
        there = self._on.get(node, {})
        there.pop(uid, None)
        if not there:
            self._on.pop(node, None)

    def _take_pull(self, pod: Object) -> None:
        placed = self._recorder.known("pod.scheduled", pod["metadata"]["uid"])
        if placed is not None and (kept := self._pulls.pop(pod["metadata"]["uid"], None)):
            pulled, now, live = kept
            told = pull_event(pulled, pod, placed.machine, now, live)
            self._recorder.record(dataclasses.replace(told, time=max(told.time, placed.time)))

    def _idle(self, ended: Event, pod: Object) -> None:
        """Record that no job is left on its machine, if so."""
        node, uid = pod.get("spec", {}).get("nodeName"), pod["metadata"]["uid"]
        others = list(self._on.get(node or "", {}).values())
        if node and ended.machine and all(each["metadata"]["uid"] == uid or is_over(each) for each in others):
            self._recorder.record(
                Event(
                    ended.time,
                    "machine.idle",
                    machine=ended.machine,
                    pool=ended.pool,
                    occurrence=uid,
                    reconstructed=ended.reconstructed,
                    earliest=ended.earliest,
                )
            )


class Pulls:
    """Hands the kubelets' events about images to the pods."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods

    def listed(self, events: list[Object], now: float) -> None:
        """Those of the last hour, as the API server keeps them."""
        for event in events:
            self._pods.pulling(event, now, live=False)

    def changed(self, kind: str, event: Object, now: float) -> None:
        """A new one."""
        if kind == "ADDED":
            self._pods.pulling(event, now, live=True)

    def in_step(self, now: float) -> None:
        """Nothing has changed up to now."""
        self._pods.flush()


def _flush(ledger: Ledger) -> None:
    if isinstance(ledger, Buffer):
        ledger.flush()


def _prepare(ledger: Ledger, subjects: Iterable[str]) -> None:
    if isinstance(ledger, Buffer):
        ledger.prepare(subject for subject in subjects if subject)


def _expect(ledger: Ledger, subject: str) -> None:
    if isinstance(ledger, Buffer):
        ledger.expect(subject)


def _refresh(ledger: Ledger, subject: str) -> None:
    if isinstance(ledger, Buffer):
        ledger.refresh(subject)


def _forget(ledger: Ledger, subject: str) -> None:
    if isinstance(ledger, Buffer) and subject:
        ledger.forget(subject)
