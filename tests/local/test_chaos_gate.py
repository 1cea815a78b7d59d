"""The instruments of the chaos suite: the gate stops, loses and changes as it is told, and two live pods are seen."""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3

from infra.local.pki import Authority
from tests.local.chaos_gate import GATE, REQUESTS, Gate, Stop
from tests.local.chaos_watch import LivePods

KEY = ("d", "t")
PODS = "/api/v1/namespaces/jobs/pods"


class ApiServer(BaseHTTPRequestHandler):
    """Answers with what it was asked; `made` are the pods that it was given."""

    protocol_version = "HTTP/1.1"
    made: list[Any] = []  # noqa: RUF012 - of each test, by the fixture

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.made.append(json.loads(body))
        self._answer(body)

    def do_GET(self) -> None:
        self._answer(b"{}")

    def do_DELETE(self) -> None:
        self.made.clear()
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(ApiServer, "made", [])
    return ApiServer.made


@pytest.fixture
def gate(tmp_path: Path, made: list[Any]) -> Iterator[Gate]:
    authority = Authority(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), ApiServer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("api", "api", hosts=("127.0.0.1",)))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    gate = Gate(authority, f"https://127.0.0.1:{server.server_port}")
    yield gate
    gate.close()
    server.shutdown()
    server.server_close()


class Client:
    def __init__(self, gate: Gate, authority: Path) -> None:
        self._url = gate.url
        self._http = urllib3.PoolManager(ca_certs=str(authority), retries=False, timeout=20)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON; None where there was none."""
        headers = {"Content-Type": "application/json"} if body else {}
        raw = json.dumps(body) if body else None
        try:
            return json.loads(self._http.request(method, self._url + path, body=raw, headers=headers).data)
        except urllib3.exceptions.HTTPError:
            return None

    def later(self, *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=lambda: setattr(thread, "answer", self.ask(*arguments)), daemon=True)
        thread.start()
        return thread


@pytest.fixture
def client(gate: Gate, tmp_path: Path) -> Client:
    return Client(gate, tmp_path / "ca.crt")


def pod(name: str = "p") -> dict[str, Any]:
    annotations = {"tidepool.dev/owner-dag": "d", "tidepool.dev/owner-task": "t"}
    container = {"image": "i", "imagePullPolicy": "Never", "securityContext": {}, "resources": {"requests": {"cpu": 1}}}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"containers": [container]},
    }


def test_what_is_nobodys_goes_through_as_it_is(gate: Gate, client: Client, made: list[Any]) -> None:
    assert client.ask("GET", "/api") == {}
    assert client.ask("POST", PODS, pod()) == pod()
    assert made == [pod()]


@pytest.mark.parametrize(("at", "arrives"), [("create", False), ("created", True)])
def test_a_creation_is_lost_before_or_after_it_was_made(
    gate: Gate, client: Client, made: list[Any], at: str, arrives: bool
) -> None:
    stop = gate.expect(KEY, Stop(at))
    asked = client.later("POST", PODS, pod())
    assert stop.reached.wait(10)
    assert gate.pid(KEY) == os.getpid()
    assert bool(made) == arrives
    stop.release(lost=True)
    asked.join(10)
    assert asked.answer is None  # type: ignore[attr-defined]
    assert bool(made) == arrives
    assert client.ask("POST", PODS, pod()) is not None, "the next one is not stopped"


def test_a_deletion_waits_until_it_is_let_go(gate: Gate, client: Client, made: list[Any]) -> None:
    stop = gate.expect(KEY, Stop("delete"))
    client.ask("POST", PODS, pod())
    asked = client.later("DELETE", f"{PODS}/p")
    assert stop.reached.wait(10)
    assert len(made) == 1
    stop.release()
    asked.join(10)
    assert (asked.answer, made) == ({}, [])  # type: ignore[attr-defined]


def test_the_next_answer_about_a_pod_is_lost_once(gate: Gate, client: Client) -> None:
    gate.expect(KEY, Stop())
    client.ask("POST", PODS, pod())
    gate.lose(KEY)
    assert client.ask("GET", f"{PODS}?fieldSelector=metadata.name%3Dp") is None
    assert client.ask("GET", f"{PODS}/p") == {}


def test_a_tasks_first_pod_is_held_and_every_one_is_small(gate: Gate, client: Client, made: list[Any]) -> None:
    gate.expect(KEY, Stop(place="gate"))
    client.ask("POST", PODS, pod())
    client.ask("POST", PODS, pod("q"))
    gate.expect(KEY, Stop(place="init"))
    client.ask("POST", PODS, pod("r"))
    first, second, third = (each["spec"] for each in made)
    assert first["schedulingGates"] == [{"name": GATE}]
    assert "schedulingGates" not in second
    assert third["initContainers"][0]["command"][-2:] == ["sleep", "3600"]
    assert {json.dumps(each["containers"][0]["resources"]["requests"]) for each in (first, second, third)} == {
        json.dumps(REQUESTS)
    }


def live(name: str, phase: str = "Running") -> dict[str, Any]:
    said = {f"tidepool.dev/owner-{what}": value for what, value in (("dag", "d"), ("run", "r"), ("task", "t"))}
    return {"metadata": {"name": name, "uid": name, "annotations": said}, "status": {"phase": phase}}


def test_two_live_pods_of_one_task_are_told_and_one_after_the_other_are_not() -> None:
    watch = LivePods(None, "jobs")  # type: ignore[arg-type]
    watch.take("ADDED", live("a", "Pending"))
    watch.take("MODIFIED", live("a", "Succeeded"))
    watch.take("ADDED", live("b"))
    watch.take("DELETED", live("b"))
    watch.take("ADDED", live("c"))
    assert watch.twice == []
    watch.take("ADDED", live("d", "Pending"))
    watch.take("MODIFIED", live("d"))
    assert watch.twice == ["d/r/t: c, d"]
    assert watch.pods == {("d", "r", "t"): ["a", "b", "c", "d"]}
