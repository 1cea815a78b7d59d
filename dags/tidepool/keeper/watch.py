"""`python -m tidepool.keeper.watch --kubeconfig FILE --events FILE`: records what happens to nodes and job pods.

Lists, then watches, and lists again after every interruption. Nothing is recorded twice, whether the API server or
this process restarts, and what disappeared in between is recorded as gone: reconstructed, between the last time that
it was known to be there and now.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import urllib3
from kubernetes import client, config
from kubernetes.client import ApiException

from tidepool.capacity import TEAM_LABEL
from tidepool.keeper.facts import PULLING, Object, machine_id, node_events, pod_events, pod_lost, pull_event
from tidepool.ledger.events import POD_KINDS, Event, Ledger, Recorder

URL_VARIABLE = "TIDEPOOL_LEDGER"
_WATCH_SECONDS = 60
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 1.0
_MOST_WAITING = 1000
_log = logging.getLogger("tidepool.watch")

Request = Callable[..., Any]
"""A list call of the client; given `watch=True` it streams."""


class Gone(Exception):
    """The API server no longer has the changes since the last list: list again."""


class Handler(Protocol):
    """Takes in the objects of a watch; times in Unix seconds."""

    def listed(self, things: list[Object], now: float, /) -> None: ...

    def changed(self, kind: str, thing: Object, now: float, /) -> None: ...

    def in_step(self, now: float, /) -> None: ...


class Nodes:
    """Records what happens to machines as nodes, and knows which machine a node is."""

    def __init__(self, recorder: Ledger, read: Callable[[str], Object]) -> None:
        self._recorder = recorder
        self._read = read
        self.lost: Callable[[str, float], None] = lambda name, now: None
        self._machines: dict[str, str] = {}

    def listed(self, nodes: list[Object], now: float) -> None:
        """Take in what is there on a first look."""
        for node in nodes:
            self._take(node, now, live=False)

    def changed(self, kind: str, node: Object, now: float) -> None:
        """Take in a change as it happens. A node is deleted when its machine is gone: `lost` is told."""
        if kind == "DELETED":
            self.lost(node["metadata"]["name"], now)
        else:
            self._take(node, now, live=True)

    def in_step(self, now: float) -> None:
        """Nothing has changed up to now."""

    def machine(self, name: str) -> str:
        """The machine behind a node; empty for no node or one that is gone."""
        if name and name not in self._machines:
            try:
                self._machines[name] = machine_id(self._read(name))
            except ApiException as error:
                if error.status != 404:
                    raise
        return self._machines.get(name, "")

    def _take(self, node: Object, now: float, live: bool) -> None:
        if machine_id(node):
            self._machines[node["metadata"]["name"]] = machine_id(node)
        for event in node_events(node, now, live):
            self._recorder.record(event)


class Pods:
    """Records what happens to the pods of jobs, and machines that idle after them."""

    def __init__(self, recorder: Ledger, machine: Callable[[str], str]) -> None:
        self._recorder = recorder
        self._machine = machine
        self._last: dict[str, Object] = {}
        self._pulls: dict[str, tuple[Object, float, bool]] = {}
        # The last that an earlier watch wrote proves that it saw everything until then.
        self._in_step = recorder.last_time(POD_KINDS)

    def listed(self, pods: list[Object], now: float) -> None:
        """Take in what is there on a first look, and that what was there before and is not now is gone."""
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
        self._take(pod, now, live=True, gone=kind == "DELETED")
        self._in_step = now

    def in_step(self, now: float) -> None:
        """Nothing has changed up to now."""
        self._in_step = now

    def lost(self, node: str, now: float) -> None:
        """The node's machine is gone: record that its pods ended, as the API server finds out a minute later."""
        for pod in list(self._last.values()):
            if pod.get("spec", {}).get("nodeName") == node:
                for event in pod_lost(pod, self._machine(node), now):
                    self._recorder.record(event)

    def pulling(self, event: Object, now: float, live: bool) -> None:
        """A kubelet fetches an image for a pod; of a pod that is not known yet it is kept until it is."""
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
        earliest = 0.0
        for event in pod_events(pod, machine, now, live, gone, last_seen=last_seen):
            # A stamp, cut off to seconds, may lie before what was seen happening earlier.
            timed = dataclasses.replace(event, time=max(event.time, earliest))
            new = self._recorder.record(timed)
            earliest = (self._recorder.known(*event.key) or timed).time
            if new and event.kind == "pod.ended":
                self._idle(timed, pod)
        if gone:
            self._last.pop(uid, None)
        else:
            self._last[uid] = pod
            self._take_pull(pod)

    def _take_pull(self, pod: Object) -> None:
        placed = self._recorder.known("pod.scheduled", pod["metadata"]["uid"])
        if placed is not None and (kept := self._pulls.pop(pod["metadata"]["uid"], None)):
            pulled, now, live = kept
            told = pull_event(pulled, pod, placed.machine, now, live)
            self._recorder.record(dataclasses.replace(told, time=max(told.time, placed.time)))

    def _idle(self, ended: Event, pod: Object) -> None:
        """Record that no job is left on its machine, if so."""
        node, uid = pod.get("spec", {}).get("nodeName"), pod["metadata"]["uid"]
        others = (each for each in list(self._last.values()) if each.get("spec", {}).get("nodeName") == node)
        if node and ended.machine and all(each["metadata"]["uid"] == uid or _is_over(each) for each in others):
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


def _is_over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def follow(request: Request, handler: Handler, what: str) -> None:
    """List and watch until the process ends; any failure of the connection is waited out."""
    pause = _FIRST_PAUSE
    while True:
        try:
            version = _list(request, handler)
            _log.info("watching %s", what)
            pause = _FIRST_PAUSE
            while True:
                for kind, thing in changes(request, version):
                    version = thing["metadata"]["resourceVersion"]
                    if kind == "BOOKMARK":
                        handler.in_step(time.time())
                    else:
                        handler.changed(kind, thing, time.time())
                handler.in_step(time.time())
        except Gone:
            continue
        except (ApiException, urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError) as error:
            if pause == _FIRST_PAUSE:
                _log.warning("watching %s was interrupted: %s", what, _reason(error))
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)


def _list(request: Request, handler: Handler) -> str:
    answer = json.loads(request(_preload_content=False, _request_timeout=(3, 30)).data)
    handler.listed(answer["items"], time.time())
    return str(answer["metadata"]["resourceVersion"])


def changes(request: Request, version: str) -> Iterator[tuple[str, Object]]:
    """(kind, object) of each change after `version`, until the server ends the watch. Raises Gone if it can't tell."""
    response = request(
        watch=True,
        resource_version=version,
        allow_watch_bookmarks=True,
        timeout_seconds=_WATCH_SECONDS,
        _preload_content=False,
        _request_timeout=(3, _WATCH_SECONDS + 15),
    )
    try:
        for line in lines(response.stream(amt=None, decode_content=False)):
            change = json.loads(line)
            if change["type"] == "ERROR":
                if change["object"].get("code") == 410:
                    raise Gone
                raise OSError(change["object"].get("message", "the API server reported an error"))
            yield change["type"], change["object"]
    finally:
        response.close()
        response.release_conn()


def lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines from pieces of any size; what is left without its end is dropped."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line)


def _reason(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason}"
    return str(getattr(error, "reason", "") or error) or type(error).__name__


def open_store(database: str) -> Ledger:
    """The ledger's database; `env` is the URL that the environment holds."""
    from tidepool.ledger.store import Store  # a file needs no SQLAlchemy

    return Store.open(os.environ[URL_VARIABLE] if database == "env" else database)


def main() -> None:
    """Run until ended by a signal; leaves with an error, to be restarted, if anything but the connection fails."""
    parser = argparse.ArgumentParser(prog="python -m tidepool.keeper.watch", description=__doc__)
    parser.add_argument("--kubeconfig", required=True, type=Path)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--events", type=Path, help="JSON lines, appended to")
    where.add_argument("--database", help=f"URL of the ledger; `env`: from {URL_VARIABLE}, as it holds a password")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    api = client.CoreV1Api(config.new_client_from_config(str(arguments.kubeconfig)))
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the client made it report every try
    recorder = Recorder(arguments.events) if arguments.events else open_store(arguments.database)

    def read_node(name: str) -> Object:
        node: Object = json.loads(api.read_node(name, _preload_content=False, _request_timeout=(3, 10)).data)
        return node

    def list_pods(**options: Any) -> Any:
        # Every job's pod says whose it is; teams come and go, and each has a namespace.
        return api.list_pod_for_all_namespaces(label_selector=TEAM_LABEL, **options)

    def list_pulls(**options: Any) -> Any:
        chosen = f"involvedObject.kind=Pod,reason={PULLING}"
        return api.list_event_for_all_namespaces(field_selector=chosen, **options)

    nodes = Nodes(recorder, read_node)
    pods = Pods(recorder, nodes.machine)
    nodes.lost = pods.lost
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        watching = [
            threads.submit(follow, api.list_node, nodes, "nodes"),
            threads.submit(follow, list_pods, pods, "pods"),
            threads.submit(follow, list_pulls, Pulls(pods), "image pulls"),
        ]
        done, _ = concurrent.futures.wait(watching, return_when=concurrent.futures.FIRST_EXCEPTION)
        for future in done:
            _log.error("watching failed: it ends and should be restarted", exc_info=future.exception())
        os._exit(1)  # the other watch would go on forever


if __name__ == "__main__":
    main()
