"""The keeper's HTTP server: the pages for those who know the token, /healthz and /metrics for the cluster.

The standard library's server: it takes nothing but GET and a query, answers a few people by way of Airflow, and the
keeper's image needs nothing more for it. What it lacks is bounded here: requests at once, their time and their size.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tidepool.keeper.page import app, layout
from tidepool.ledger.store import AWAY, Store, reason

TOKEN_VARIABLE = "TIDEPOOL_PAGE_TOKEN"  # noqa: S105 (the name of a variable)
SHORTEST_TOKEN = 16
SECONDS = 10.0
_AT_ONCE = 16
_MOST_QUERY, _MOST_FIELDS = 8192, 20
_log = logging.getLogger("tidepool.page")


def token() -> str:
    """The token that pages are shown for: TOKEN_VARIABLE's, or that of the file which TOKEN_VARIABLE_FILE names.

    Raises ListenError for a file that can't be read.
    """
    file = os.environ.get(f"{TOKEN_VARIABLE}_FILE", "")
    try:
        return Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get(TOKEN_VARIABLE, "")
    except (OSError, UnicodeDecodeError) as error:
        raise ListenError(f"{TOKEN_VARIABLE}_FILE: {error}") from error


class ListenError(Exception):
    """It can't listen; the message says where and why."""


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    body: str
    kind: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Site:
    """What is served, by path and credentials. token: empty lets nobody see a page. metrics: text for Prometheus, once
    there is any. trouble: why the keeper should be started again; empty while it is well."""

    store: Store | None
    token: str
    metrics: Callable[[], str] | None = None
    clock: Callable[[], float] = time.time
    trouble: Callable[[], str] = str

    def answer(self, target: str, authorization: str) -> Answer:
        """The answer to a GET of a target, with the header Authorization or ""."""
        path, _, query = target.partition("?")
        name = path.strip("/")
        if name == "healthz":
            trouble = self.trouble()
            return Answer(503 if trouble else 200, f"{trouble or 'ok'}\n", "text/plain; charset=utf-8")
        if name == "metrics":
            return self._metrics()
        if not self.admits(authorization):
            said = "Come by way of Airflow's menu, or give the keeper's token as the password."
            challenge = {"WWW-Authenticate": 'Basic realm="tidepool", charset="UTF-8"'}
            return Answer(401, layout.message("Who are you?", said), headers=challenge)
        if self.store is None:
            said = "This keeper records into a file. The page needs a database: start the keeper with --database."
            return Answer(503, layout.message("There are no books", said))
        try:
            if len(query) > _MOST_QUERY:
                raise ValueError
            fields = dict(parse_qsl(query, max_num_fields=_MOST_FIELDS, errors="replace"))
        except ValueError:
            return Answer(400, layout.message("That is too long", "The address has more in it than any page takes."))
        return self._page(name, fields, self.store)

    def admits(self, authorization: str) -> bool:
        """Whether the header holds the token: as a Bearer's, or as the password of any user."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError, ValueError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return bool(self.token) and hmac.compare_digest(given.strip().encode(), self.token.encode())

    def _page(self, name: str, fields: dict[str, str], store: Store) -> Answer:
        try:
            with store.reading() as connection:
                return Answer(*app.render(name, fields, connection, self.clock()))
        except AWAY as error:
            _log.warning("a page waits for the database: %s", reason(error))
            return Answer(503, layout.message("The database is away", "Try again in a moment."))

    def _metrics(self) -> Answer:
        if self.metrics is None:
            # Not an error: Prometheus would alert of a target that is down for as long as there are two keepers.
            return Answer(200, "# another keeper is the active one, and tells\n", "text/plain; charset=utf-8")
        try:
            return Answer(200, self.metrics(), "text/plain; version=0.0.4; charset=utf-8")
        except AWAY as error:
            _log.warning("the metrics wait for the database: %s", reason(error))
            return Answer(503, "# the database is away\n", "text/plain; charset=utf-8")


class PageServer:
    """Serves a site at HOST:PORT until the process ends; `run` is its thread's work."""

    def __init__(self, listen: str, site: Site) -> None:
        """Raises ListenError where it can't listen there."""
        if site.token and len(site.token) < SHORTEST_TOKEN:
            raise ListenError(f"{TOKEN_VARIABLE} has {len(site.token)} characters: give it {SHORTEST_TOKEN} or more")
        host, _, port = listen.rpartition(":")
        if not host or not port.isdecimal():
            raise ListenError(f"--listen {listen!r} is no HOST:PORT, such as 0.0.0.0:8080 or 127.0.0.1:8080")
        handler = type("Handler", (_Handler,), {"site": site})
        try:
            self._server = _Server((host.strip("[]"), int(port)), handler)
        except (OSError, OverflowError) as error:
            raise ListenError(f"can't listen on {listen}: {error}") from error
        if not site.token:
            _log.warning("no %s: nobody can see a page, only /healthz and /metrics", TOKEN_VARIABLE)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def run(self) -> None:
        """Answer requests until `close`."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(timeout=SECONDS):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.exception("a request failed")


class _Handler(BaseHTTPRequestHandler):
    site: Site
    timeout = SECONDS
    server_version, sys_version = "tidepool", ""

    def do_GET(self) -> None:
        """The one method that there is, with HEAD."""
        split = urlsplit(self.path)
        target = f"{split.path}?{split.query}" if split.query else split.path
        try:
            answer = self.site.answer(target, self.headers.get("Authorization", ""))
        except Exception:  # noqa: BLE001 - whoever asks gets an answer
            _log.exception("%s could not be made", split.path)
            answer = Answer(500, layout.message("Something went wrong", "The keeper's log says what."))
        body = answer.body.encode(errors="replace")
        self.send_response(answer.status)
        for name, value in {**HEADERS, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        _log.debug(format, *arguments)


HEADERS = {
    "Content-Security-Policy": layout.POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every answer."""
