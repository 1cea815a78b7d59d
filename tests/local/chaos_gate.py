"""A gate between Airflow and the API server: it passes requests on, stops some until it is told, and loses answers.

It ends TLS with a certificate of the cloud's own authority, so that the operators need no hook for tests. A job's first
pod is made small on its way, so that many share one machine; and where a test wants it, held before it is placed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

from infra.local import addresses
from infra.local.pki import Authority

GATE = "tests.tidepool.dev/gate"
"""The scheduling gate of a pod that is to stay Pending without a machine."""

REQUESTS = {"cpu": "20m", "memory": "64Mi"}
HELD_SECONDS = 300
_POD = re.compile(r"/api/v1/namespaces/[^/]+/pods(?:/([^/]+))?(/log)?")
_HOP = ("connection", "content-length", "transfer-encoding", "keep-alive", "date", "server")

Key = tuple[str, str]
"""DAG and task."""


@dataclass
class Stop:
    """One request of one task: where it is stopped, and what becomes of it.

    at: "create", "created" (its answer), "look" (the answer to the first look at the created pod), "delete", "deleted";
    or "" for none. place: "gate" or "init" keeps the first pod Pending, without or with a machine.
    """

    at: str = ""
    place: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    told: threading.Event = field(default_factory=threading.Event)
    lost: bool = False
    peer: int = 0

    def hold(self, peer: int) -> bool:
        """Wait until told; whether to pass it on. What is asked again meanwhile waits too."""
        if self.told.is_set():
            return True
        self.peer = peer
        self.reached.set()
        self.told.wait(HELD_SECONDS)
        return not self.lost

    def release(self, lost: bool = False) -> None:
        """Let it go on, or lose it."""
        self.lost = lost
        self.told.set()


class Gate:
    """Serves on loopback until it is closed. Times out what is stopped for longer than HELD_SECONDS."""

    def __init__(self, authority: Authority, upstream: str = addresses.API_SERVER) -> None:
        where = urlsplit(addresses.require_local(upstream))
        self.upstream = (where.hostname or "", where.port or 443)
        self.trust = ssl.create_default_context(cafile=str(authority.certificate))
        served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.load_cert_chain(*authority.issue("chaos-gate", "chaos-gate", hosts=("127.0.0.1",)))
        self.stops: dict[Key, Stop] = {}
        self.log: list[tuple[Key, str, str]] = []
        self._names: dict[str, Key] = {}
        self._made: set[Key] = set()
        self._open: dict[Key, dict[int, socket.socket]] = {}
        self._losing: set[Key] = set()
        self.is_away = False
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self, served)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="chaos gate", daemon=True).start()

    def close(self) -> None:
        """Serve no more; what is stopped is lost."""
        for stop in self.stops.values():
            stop.release(lost=True)
        self._server.shutdown()
        self._server.server_close()

    def expect(self, key: Key, stop: Stop) -> Stop:
        """Stop the next run of that task there."""
        with self._lock:
            self.stops[key] = stop
            self._made.discard(key)
        return stop

    def pid(self, key: Key) -> int:
        """The process that has a request about the task's pods under way; 0 for none."""
        stop = self.stops[key]
        with self._lock:
            peers = set(self._open.get(key, {}))
        if stop.reached.is_set() and not stop.told.is_set():
            peers = {stop.peer}
        for connection in psutil.net_connections("tcp4"):
            ends = (connection.laddr and connection.laddr.port, connection.raddr and connection.raddr.port)
            if connection.pid and ends[0] in peers and ends[1] == self._server.server_port:
                return int(connection.pid)
        return 0

    def lose(self, key: Key) -> None:
        """Break what is under way for the task, and lose the answer to its next request."""
        with self._lock:
            self._losing.add(key)
            broken = list(self._open.get(key, {}).values())
        for connection in broken:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def go_away(self) -> None:
        """Be an API server that is not there, until `is_away` is false again."""
        self.is_away = True
        with self._lock:
            broken = [connection for each in self._open.values() for connection in each.values()]
        for connection in broken:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def whose(self, method: str, path: str, body: Any) -> Key | None:
        """The task that a request is about; what names its pod is learnt from the pod's creation."""
        parts = urlsplit(path)
        found = _POD.fullmatch(parts.path)
        if found is None:
            return None
        name = found.group(1) or ""
        if method == "POST" and not name:
            annotations = body["metadata"].get("annotations") or {}
            key = (annotations.get("tidepool.dev/owner-dag", ""), annotations.get("tidepool.dev/owner-task", ""))
            with self._lock:
                self._names[body["metadata"]["name"]] = key
            return key
        selector = parse_qs(parts.query).get("fieldSelector", [""])[0]
        return self._names.get(name or selector.removeprefix("metadata.name="))

    def changed(self, key: Key, body: Any) -> Any:
        """The pod as the API server gets it."""
        spec = body["spec"]
        with self._lock:
            is_first = key not in self._made
            self._made.add(key)
        stop = self.stops.get(key)
        if stop is None:
            return body
        spec["containers"][0]["resources"]["requests"] = dict(REQUESTS)
        if is_first and stop.place == "gate":
            spec["schedulingGates"] = [{"name": GATE}]
        if is_first and stop.place == "init":
            own = spec["containers"][0]
            held = {each: own[each] for each in ("image", "imagePullPolicy", "resources", "securityContext")}
            spec["initContainers"] = [{"name": "held", "command": ["/usr/bin/tini", "--", "sleep", "3600"], **held}]
        return body

    def is_losing(self, key: Key) -> bool:
        """Whether the answer to this request is to be lost; once."""
        with self._lock:
            found = key in self._losing
            self._losing.discard(key)
        return found

    @contextlib.contextmanager
    def under_way(self, key: Key, peer: int, connection: socket.socket) -> Iterator[None]:
        """A request about the task's pods, while it is served."""
        with self._lock:
            self._open.setdefault(key, {})[peer] = connection
        try:
            yield
        finally:
            with self._lock:
                self._open[key].pop(peer, None)


class _Lost(Exception):
    """The client is to get no answer."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], gate: Gate, context: ssl.SSLContext) -> None:
        super().__init__(address, _Handler)
        self.gate = gate
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake, in the connection's own thread."""
        with contextlib.suppress(OSError), self._context.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections break here by design."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Nothing on the tests' output."""

    def _pass(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_json = self.command == "POST" and "json" in (self.headers.get("Content-Type") or "")
        body = json.loads(raw) if is_json and raw else None
        gate, peer = self.server.gate, int(self.client_address[1])
        key = gate.whose(self.command, self.path, body)
        try:
            if gate.is_away:
                raise _Lost
            if key is None:
                self._forward(raw)
                return
            gate.log.append((key, self.command, self.path))
            with gate.under_way(key, peer, self.connection):
                self._about(key, gate.stops.get(key) or Stop(), raw, body, peer)
        except (_Lost, OSError, http.client.HTTPException):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

    def _about(self, key: Key, stop: Stop, raw: bytes, body: Any, peer: int) -> None:
        gate = self.server.gate
        is_create = self.command == "POST" and body is not None and body.get("kind") == "Pod"
        is_look = self.command == "GET" and urlsplit(self.path).path.rpartition("/")[2] in gate._names
        is_held = (is_create and stop.at == "create") or (self.command == "DELETE" and stop.at == "delete")
        if is_held and (not stop.hold(peer) or self._is_given_up()):
            raise _Lost
        if is_create:
            raw = json.dumps(gate.changed(key, body)).encode()
        with contextlib.closing(self._ask(raw)) as answer:
            stopped = (
                (is_create and stop.at == "created")
                or (is_look and stop.at == "look")
                or (self.command == "DELETE" and stop.at == "deleted")
            )
            if stopped and not stop.hold(peer):
                raise _Lost
            if gate.is_losing(key):
                raise _Lost
            self._relay(answer)

    def _is_given_up(self) -> bool:
        """Whether the client has hung up, as one does that has waited long enough: an API server drops it then."""
        return bool(select.select([self.connection], [], [], 0)[0])

    def _forward(self, raw: bytes) -> None:
        with contextlib.closing(self._ask(raw)) as answer:
            self._relay(answer)

    def _ask(self, raw: bytes) -> http.client.HTTPResponse:
        gate = self.server.gate
        upstream = http.client.HTTPSConnection(*gate.upstream, context=gate.trust, timeout=330)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in (*_HOP, "host")}
        upstream.request(self.command, self.path, raw or None, {**headers, "Connection": "close"})
        return upstream.getresponse()

    def _relay(self, answer: http.client.HTTPResponse) -> None:
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if answer.length is not None:
            self.send_header("Content-Length", str(answer.length))
            self.end_headers()
            self.wfile.write(answer.read())
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while chunk := answer.read1(65536):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
