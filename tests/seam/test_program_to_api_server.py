"""The local engine's way to an API server: TLS with a client certificate, waiting, server-side apply, refusals.

A small HTTPS server stands in for the API server; the real one is used by the tests on the local cloud.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.local.pki import Authority
from infra.local.world_aws import WorldError
from infra.local.world_kubernetes import ApiServer, path_of

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tidepool"}}


class StandIn(ThreadingHTTPServer):
    """Keeps what it is sent; answers `readiness` in turn to what is asked before."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.readiness = [500, 200, 404, 200, 200]
        self.requests: list[tuple[str, str, dict[str, Any]]] = []


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self.answer(self.server.readiness.pop(0), {})

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["Content-Type"], body))
        if body["metadata"]["name"] == "forbidden":
            self.answer(403, {"message": "namespaces is forbidden"})
        else:
            self.answer(201, body)

    def answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[tuple[StandIn, Path]]:
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("server", "kube-apiserver", hosts=("127.0.0.1",))
    server = StandIn()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = tmp_path / "kubeconfig"
    authority.kubeconfig(kubeconfig, "admin", "system:masters", server=f"https://127.0.0.1:{server.server_port}")
    yield server, kubeconfig
    server.shutdown()
    server.server_close()


def test_objects_are_applied_once_the_server_is_ready(stand_in: tuple[StandIn, Path]) -> None:
    server, kubeconfig = stand_in
    assert ApiServer(kubeconfig, seconds=10).apply(NAMESPACE) == "tidepool"
    assert server.readiness == []
    assert server.requests == [
        ("/api/v1/namespaces/tidepool?fieldManager=tidepool&force=true", "application/apply-patch+yaml", NAMESPACE)
    ]


def test_a_refusal_carries_the_servers_own_reason(stand_in: tuple[StandIn, Path]) -> None:
    api = ApiServer(stand_in[1], seconds=10)
    with pytest.raises(WorldError, match=r"/api/v1/namespaces/forbidden: namespaces is forbidden"):
        api.apply({**NAMESPACE, "metadata": {"name": "forbidden"}})


def test_a_server_that_never_gets_ready_is_named_after_the_limit(stand_in: tuple[StandIn, Path]) -> None:
    stand_in[0].readiness = [500] * 100
    with pytest.raises(WorldError, match=r"is not ready \(/readyz says 500\); `tidepool local status`"):
        ApiServer(stand_in[1], seconds=0.2)


def test_a_kubeconfig_that_is_not_there_is_named_after_the_limit(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"nowhere is not there"):
        ApiServer(tmp_path / "nowhere", seconds=0.1)


def test_an_address_that_is_not_of_this_machine_is_not_dialled(stand_in: tuple[StandIn, Path], tmp_path: Path) -> None:
    Authority(tmp_path / "pki").kubeconfig(tmp_path / "other", "admin", server="https://203.0.113.1:6443")
    with pytest.raises(WorldError, match=r"203\.0\.113\.1 is not an address of this machine"):
        ApiServer(tmp_path / "other", seconds=0.1)


@pytest.mark.parametrize(
    ("manifest", "path"),
    [
        (NAMESPACE, "/api/v1/namespaces/tidepool"),
        (
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}},
            "/api/v1/namespaces/b/configmaps/a",
        ),
        (
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "a", "namespace": "b"}},
            "/apis/rbac.authorization.k8s.io/v1/namespaces/b/roles/a",
        ),
    ],
)
def test_objects_are_found_at_the_path_of_their_kind(manifest: dict[str, Any], path: str) -> None:
    assert path_of(manifest) == path


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}, "can't create v1 Pod"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}, "must have a name and a namespace"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {}}, "must have a name and no namespace"),
    ],
)
def test_objects_that_cannot_be_applied_are_refused(manifest: dict[str, Any], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        path_of(manifest)
