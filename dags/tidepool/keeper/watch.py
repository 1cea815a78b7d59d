"""`python -m tidepool.keeper.watch --kubeconfig FILE --events FILE`: records what happens to nodes and job pods.

Lists, then watches; after an interruption it goes on where it was, or lists again where that can't be. Nothing is
recorded twice, whether the API server or this process restarts, and what disappeared in between is recorded as gone:
reconstructed, between the last time that it was known to be there and now. What comes while the ledger is being
written is written together after it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import urllib3
from kubernetes import client, config
from kubernetes.client import ApiException

from tidepool import capacity
from tidepool.capacity import TEAM_LABEL, Pool
from tidepool.keeper.facts import PULLING
from tidepool.keeper.observers import Nodes, Pods, Pulls
from tidepool.keeper.pace import Pace
from tidepool.keeper.paring import pare
from tidepool.ledger.buffer import Buffer
from tidepool.ledger.journal import Recorder
from tidepool.objects import Object

if TYPE_CHECKING:
    from tidepool.ledger.store import Store

URL_VARIABLE = "TIDEPOOL_LEDGER"
_WATCH_SECONDS, _CATCH_UP_SECONDS = 60, 1
_BUSY = (429, 500, 503)
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 1.0
_PAGE = 500
_MOST_READ = 1000
_LOOK_UP_SECONDS = 1.0
_FAILURES = (ApiException, urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError)
_log = logging.getLogger("tidepool.watch")

Request = Callable[..., Any]
"""A list call of the client; given `watch=True` it streams."""


class Gone(Exception):
    """The API server no longer has the changes since the last list: list again."""


Change = tuple[str, Object, float]
"""A change's kind, the object after it, and when it came."""


class Handler(Protocol):
    """Takes in the objects of a watch; times in Unix seconds. What it was told is in the ledger after `in_step`."""

    def listed(self, things: list[Object], now: float, /) -> None: ...

    def changed(self, kind: str, thing: Object, now: float, /) -> None: ...

    def in_step(self, now: float, /) -> None: ...


def follow(request: Request, handler: Handler, what: str, pace: Pace | None = None) -> None:
    """List and watch until the process ends; any failure of a connection, the ledger's too, is waited out.

    It goes on with what came after the last change that the handler took, as what came and went meanwhile is in no
    list; where the API server has that no longer, it lists again. pace: told how it goes.
    """
    pace = pace or Pace()
    pause, version, seconds = _FIRST_PAUSE, "", _WATCH_SECONDS
    while True:
        try:
            if not version:
                version, seconds = _list(request, handler), _WATCH_SECONDS
                pace.in_step(what, time.time())
                pause = _FIRST_PAUSE
                _log.info("watching %s", what)
            with contextlib.closing(batches(changes(request, version, seconds))) as told:
                for batch in told:
                    for kind, thing, now in batch:
                        if kind != "BOOKMARK":
                            handler.changed(kind, thing, now)
                        version = thing["metadata"]["resourceVersion"]
                    handler.in_step(batch[-1][2])
                    pace.wrote(what, batch[0][2], time.time())
            handler.in_step(time.time())
            pace.in_step(what, time.time())
            pause, seconds = _FIRST_PAUSE, _WATCH_SECONDS
        except Gone:
            version = ""
        except (*_FAILURES, *_database_failures()) as error:
            if isinstance(error, ApiException) and error.status not in _BUSY:
                version = ""  # as it would say the same again
            if pause == _FIRST_PAUSE:
                _log.warning("watching %s was interrupted: %s", what, _reason(error))
            time.sleep(pause)
            pause, seconds = min(2 * pause, _LAST_PAUSE), _CATCH_UP_SECONDS


def _database_failures() -> tuple[type[Exception], ...]:
    """A database that is away comes back, and what was to be written waits so long; a file needs no SQLAlchemy."""
    loaded = sys.modules.get("tidepool.ledger.store")
    return () if loaded is None else loaded.AWAY


def _list(request: Request, handler: Handler) -> str:
    """All there is, by pages: whole objects of a large cluster would not fit."""
    found: list[Object] = []
    page: dict[str, Any] = {}
    while True:
        answer = json.loads(request(limit=_PAGE, **page, _preload_content=False, _request_timeout=(3, 30)).data)
        found += (pare(each) for each in answer["items"])
        rest = answer["metadata"].get("continue")
        if not rest:
            break
        page = {"_continue": rest}
    now = time.time()
    handler.listed(found, now)
    handler.in_step(now)
    return str(answer["metadata"]["resourceVersion"])


def batches(found: Generator[tuple[str, Object], None, None]) -> Generator[list[Change], None, None]:
    """The changes, together what came while the batch before was taken in; raises what `found` raises, after them."""
    read: queue.Queue[Change | BaseException | None] = queue.Queue(_MOST_READ)
    over = threading.Event()

    def put(what: Change | BaseException | None) -> bool:
        while not over.is_set():
            with contextlib.suppress(queue.Full):
                read.put(what, timeout=_LOOK_UP_SECONDS)
                return True
        return False

    def reading() -> None:
        try:
            with contextlib.closing(found):  # and with it the response
                for kind, thing in found:
                    if not put((kind, thing, time.time())):
                        return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised where the batches are asked for
            put(error)

    threading.Thread(target=reading, name="reading", daemon=True).start()
    try:
        while True:
            batch: list[Change] = []
            last = read.get()
            while isinstance(last, tuple):
                batch.append(last)
                if read.empty():
                    break
                last = read.get()
            if batch:
                yield batch
            if isinstance(last, BaseException):
                raise last
            if last is None:
                return
    finally:
        over.set()  # whoever takes the batches has failed: nobody will ask for the rest


def changes(request: Request, version: str, seconds: int = _WATCH_SECONDS) -> Generator[tuple[str, Object], None, None]:
    """(kind, object) of each change after `version`, for so many seconds.

    Raises Gone where the server can't tell, ApiException where it says why not.
    """
    response = request(
        watch=True,
        resource_version=version,
        allow_watch_bookmarks=True,
        timeout_seconds=seconds,
        _preload_content=False,
        _request_timeout=(3, seconds + 15),
    )
    try:
        for line in lines(response.stream(amt=None, decode_content=False)):
            change = json.loads(line)
            if change["type"] == "ERROR":
                code, message = (change["object"].get(key) for key in ("code", "message"))
                if code == 410:
                    raise Gone
                raise ApiException(status=code, reason=message or "the API server reported an error")
            yield change["type"], pare(change["object"])
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
    said = getattr(error, "orig", None) or getattr(error, "reason", "") or error  # SQLAlchemy adds the statement
    return str(said).strip().partition("\n")[0] or type(error).__name__


def open_store(database: str) -> Store:
    """The ledger's database; `env` is the URL that the environment holds."""
    from tidepool.ledger.store import Store  # a file needs no SQLAlchemy

    return Store.open(os.environ[URL_VARIABLE] if database == "env" else database)


def watches(
    api: client.CoreV1Api,
    recorder: Recorder | Store,
    pools: Callable[[], Iterable[Pool]],
    clouds: tuple[str, ...] = (),
) -> tuple[tuple[Request, Handler, str], ...]:
    """What is watched, who takes it in, and its name in the log: nodes, pods of jobs, image pulls.

    clouds: that are asked about machines, by how their provider IDs begin.
    """

    def read_node(name: str) -> Object:
        node: Object = json.loads(api.read_node(name, _preload_content=False, _request_timeout=(3, 10)).data)
        return node

    def list_pods(**options: Any) -> Any:
        # Every job's pod says whose it is; teams come and go, and each has a namespace.
        return api.list_pod_for_all_namespaces(label_selector=TEAM_LABEL, **options)

    def list_pulls(**options: Any) -> Any:
        chosen = f"involvedObject.kind=Pod,reason={PULLING}"
        return api.list_event_for_all_namespaces(field_selector=chosen, **options)

    ledger = recorder if isinstance(recorder, Recorder) else Buffer(recorder)
    nodes = Nodes(ledger, read_node, pools, clouds)
    pods = Pods(ledger, nodes.machine, nodes.tainted)
    nodes.lost = pods.lost
    return (api.list_node, nodes, "nodes"), (list_pods, pods, "pods"), (list_pulls, Pulls(pods), "image pulls")


def add_ledger_arguments(parser: argparse.ArgumentParser) -> None:
    """Where events are recorded."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--events", type=Path, help="JSON lines, appended to")
    where.add_argument("--database", help=f"URL of the ledger; `env`: from {URL_VARIABLE}, as it holds a password")


def open_ledger(arguments: argparse.Namespace) -> Recorder | Store:
    """The ledger that the arguments name."""
    return Recorder(arguments.events) if arguments.events else open_store(arguments.database)


def main() -> None:
    """Run until ended by a signal; leaves with an error, to be restarted, if anything but the connection fails."""
    parser = argparse.ArgumentParser(prog="python -m tidepool.keeper.watch", description=__doc__)
    parser.add_argument("--kubeconfig", required=True, type=Path)
    add_ledger_arguments(parser)
    parser.add_argument(
        "--capacity", type=Path, help="the capacity document; without it a node's label tidepool.dev/pool says its pool"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    api = client.CoreV1Api(config.new_client_from_config(str(arguments.kubeconfig)))
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the client made it report every try

    def pools() -> Iterable[Pool]:
        return capacity.load(arguments.capacity).pools.values() if arguments.capacity else ()

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        watching = [threads.submit(follow, *each) for each in watches(api, open_ledger(arguments), pools)]
        done, _ = concurrent.futures.wait(watching, return_when=concurrent.futures.FIRST_EXCEPTION)
        for future in done:
            _log.error("watching failed: it ends and should be restarted", exc_info=future.exception())
        os._exit(1)  # the other watch would go on forever


if __name__ == "__main__":
    main()
