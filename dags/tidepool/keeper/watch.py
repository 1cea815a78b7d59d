"""`python -m tidepool.keeper.watch --kubeconfig FILE --events FILE`: records what happens to nodes and job pods.

Lists, then watches, and lists again after every interruption. Nothing is recorded twice, whether the API server or
this process restarts, and what disappeared in between is recorded as gone.
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
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client import ApiException

from tidepool.capacity import TEAM_LABEL
from tidepool.keeper.facts import Object, machine_id, node_events, pod_events, pod_lost
from tidepool.ledger.events import Recorder

_WATCH_SECONDS = 60
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 1.0
_log = logging.getLogger("tidepool.watch")

Request = Callable[..., Any]
"""A list call of the client; given `watch=True` it streams."""


class Gone(Exception):
    """The API server no longer has the changes since the last list: list again."""


class Nodes:
    """Records machines that get ready, and knows which machine a node is."""

    def __init__(self, recorder: Recorder, read: Callable[[str], Object]) -> None:
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
    """Records what happens to the pods of jobs."""

    def __init__(self, recorder: Recorder, machine: Callable[[str], str]) -> None:
        self._recorder = recorder
        self._machine = machine
        self._last: dict[str, Object] = {}

    def listed(self, pods: list[Object], now: float) -> None:
        """Take in what is there on a first look, and that what was there before and is not now is gone."""
        for pod in pods:
            self._take(pod, now, live=False)
        here = {pod["metadata"]["uid"] for pod in pods}
        for event in self._recorder.events("pod.queued"):
            if event.pod_uid not in here and self._recorder.known("pod.gone", event.pod_uid) is None:
                metadata = {"name": event.pod, "uid": event.pod_uid, "namespace": event.namespace}
                last = self._last.get(event.pod_uid, {"metadata": metadata})
                self._take(last, now, live=True, gone=True)

    def changed(self, kind: str, pod: Object, now: float) -> None:
        """Take in a change as it happens."""
        self._take(pod, now, live=True, gone=kind == "DELETED")

    def lost(self, node: str, now: float) -> None:
        """The node's machine is gone: record that its pods ended, as the API server finds out a minute later."""
        for pod in list(self._last.values()):
            if pod.get("spec", {}).get("nodeName") == node:
                for event in pod_lost(pod, self._machine(node), now):
                    self._recorder.record(event)

    def _take(self, pod: Object, now: float, live: bool, gone: bool = False) -> None:
        uid = pod["metadata"]["uid"]
        placed = self._recorder.known("pod.scheduled", uid)
        machine = placed.machine if placed else self._machine(pod.get("spec", {}).get("nodeName") or "")
        earliest = 0.0
        for event in pod_events(pod, machine, now, live, gone):
            # A stamp, cut off to seconds, may lie before what was seen happening earlier.
            timed = dataclasses.replace(event, time=max(event.time, earliest))
            self._recorder.record(timed)
            earliest = (self._recorder.known(*event.key) or timed).time
        if gone:
            self._last.pop(uid, None)
        else:
            self._last[uid] = pod


def follow(request: Request, handler: Nodes | Pods, what: str) -> None:
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
                    if kind != "BOOKMARK":
                        handler.changed(kind, thing, time.time())
        except Gone:
            continue
        except (ApiException, urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError) as error:
            if pause == _FIRST_PAUSE:
                _log.warning("watching %s was interrupted: %s", what, _reason(error))
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)


def _list(request: Request, handler: Nodes | Pods) -> str:
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


def main() -> None:
    """Run until ended by a signal; leaves with an error, to be restarted, if anything but the connection fails."""
    parser = argparse.ArgumentParser(prog="python -m tidepool.keeper.watch", description=__doc__)
    parser.add_argument("--kubeconfig", required=True, type=Path)
    parser.add_argument("--events", required=True, type=Path, help="JSON lines, appended to")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    api = client.CoreV1Api(config.new_client_from_config(str(arguments.kubeconfig)))
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the client made it report every try
    recorder = Recorder(arguments.events)

    def read_node(name: str) -> Object:
        node: Object = json.loads(api.read_node(name, _preload_content=False, _request_timeout=(3, 10)).data)
        return node

    def list_pods(**options: Any) -> Any:
        # Every job's pod says whose it is; teams come and go, and each has a namespace.
        return api.list_pod_for_all_namespaces(label_selector=TEAM_LABEL, **options)

    nodes = Nodes(recorder, read_node)
    pods = Pods(recorder, nodes.machine)
    nodes.lost = pods.lost
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        watching = [
            threads.submit(follow, api.list_node, nodes, "nodes"),
            threads.submit(follow, list_pods, pods, "pods"),
        ]
        done, _ = concurrent.futures.wait(watching, return_when=concurrent.futures.FIRST_EXCEPTION)
        for future in done:
            _log.error("watching failed: it ends and should be restarted", exc_info=future.exception())
        os._exit(1)  # the other watch would go on forever


if __name__ == "__main__":
    main()
