"""The local engine's way to an API server: TLS with a client certificate, waiting, applying, deleting, refusals.

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
from infra.local.world_engine import WorldError
from infra.local.world_kubernetes import ApiServer, path_of
from infra.local.world_monitor import Registration
from infra.local.world_state import Entry

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tidepool"}}
JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": "tidepool"}}
JOB_PATH = "/apis/batch/v1/namespaces/tidepool/jobs/once"


class StandIn(ThreadingHTTPServer):
    """Keeps what it is sent; answers `readiness` in turn to what is asked before. A Job can't be changed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.readiness = [500, 200, 404, 200, 200]
        self.requests: list[tuple[str, str, dict[str, Any]]] = []  # method and path, content type, body
        self.job_is_there = False
        self.looks_until_gone = 0


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        if self.path == JOB_PATH:
            self.server.looks_until_gone -= 1
            self.server.job_is_there = self.server.looks_until_gone > 0
            self.answer(200 if self.server.job_is_there else 404, {})
        else:
            self.answer(self.server.readiness.pop(0), {"metadata": {"uid": "a-uid"}})

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((f"PATCH {self.path}", self.headers["Content-Type"], body))
        if body["metadata"]["name"] == "forbidden":
            self.answer(403, {"message": "namespaces is forbidden"})
        elif body["kind"] == "Job" and self.server.job_is_there:
            self.answer(422, {"message": "spec.template: Invalid value: field is immutable"})
        else:
            self.answer(201, body)

    def do_DELETE(self) -> None:
        self.server.requests.append((f"DELETE {self.path}", "", {}))
        self.answer(404 if "gone" in self.path else 200, {})

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
    path = "/api/v1/namespaces/tidepool?fieldManager=tidepool&force=true"
    assert server.requests == [(f"PATCH {path}", "application/apply-patch+yaml", NAMESPACE)]


def test_an_api_server_is_known_by_its_first_namespace(stand_in: tuple[StandIn, Path]) -> None:
    assert ApiServer(stand_in[1], seconds=10).identity == "a-uid"


def test_a_dry_run_asks_for_a_check_only(stand_in: tuple[StandIn, Path]) -> None:
    ApiServer(stand_in[1], seconds=10).apply(NAMESPACE, dry_run=True)
    assert stand_in[0].requests[0][0].endswith("&force=true&dryRun=All")


def test_what_cannot_be_changed_is_deleted_and_made_anew_once_it_is_gone(stand_in: tuple[StandIn, Path]) -> None:
    server, kubeconfig = stand_in
    api = ApiServer(kubeconfig, seconds=10)
    server.job_is_there, server.looks_until_gone = True, 3
    assert api.apply(JOB) == "tidepool/once"
    requests = [request.partition("?")[0] for request, _, _ in server.requests]
    assert requests == [f"{method} {JOB_PATH}" for method in ("PATCH", "DELETE", "PATCH")]
    assert server.requests[1][0].endswith("?propagationPolicy=Background")
    assert server.looks_until_gone == 0


def test_what_is_gone_already_is_deleted_without_an_error(stand_in: tuple[StandIn, Path]) -> None:
    server, kubeconfig = stand_in
    ApiServer(kubeconfig, seconds=10).delete({**JOB, "metadata": {"name": "gone", "namespace": "tidepool"}})
    gone = "/apis/batch/v1/namespaces/tidepool/jobs/gone?propagationPolicy=Background"
    assert [request for request, _, _ in server.requests] == [f"DELETE {gone}"]


def test_an_object_of_another_name_is_another_object(stand_in: tuple[StandIn, Path]) -> None:
    kind = ApiServer(stand_in[1], seconds=10).kind("kubernetes:batch/v1:Job")
    assert kind is not None
    old = Entry("urn", "kubernetes:batch/v1:Job", "tidepool/once", JOB, JOB)
    assert kind.change(old, {**JOB, "metadata": {"name": "twice", "namespace": "tidepool"}}) is None
    assert kind.change(old, {**JOB, "spec": {}}) is not None


def test_a_secret_is_applied_with_all_of_its_values_encoded(stand_in: tuple[StandIn, Path]) -> None:
    kind = ApiServer(stand_in[1], seconds=10).kind("kubernetes:core/v1:Secret")
    assert kind is not None
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "tidepool"}}
    kind.make({**secret, "stringData": {"a": "b"}, "data": {"c": "ZA=="}}, frozenset())
    assert stand_in[0].requests[0][2] == {**secret, "data": {"a": "Yg==", "c": "ZA=="}}


@pytest.mark.parametrize(
    ("type_", "inputs", "reason"),
    [
        ("kubernetes:helm.sh/v3:Release", {"chart": "airflow"}, "charts can't be fetched here"),
        (
            "kubernetes:monitoring.coreos.com/v1:ServiceMonitor",
            {"apiVersion": "monitoring.coreos.com/v1"},
            "monitoring.coreos.com comes with a chart, and charts can't be fetched here",
        ),
        ("kubernetes:rbac.authorization.k8s.io/v1:Role", {"apiVersion": "rbac.authorization.k8s.io/v1"}, None),
        ("kubernetes:core/v1:Namespace", {"apiVersion": "v1"}, None),
        ("aws:ec2/vpc:Vpc", {"apiVersion": "monitoring.coreos.com/v1"}, None),
    ],
)
def test_what_only_a_chart_brings_is_said_to_be_missing(
    stand_in: tuple[StandIn, Path], type_: str, inputs: dict[str, Any], reason: str | None
) -> None:
    api = ApiServer(stand_in[1], seconds=10)
    nothing: dict[str, Any] = dict.fromkeys(("urn", "name", "parent", "provider"), "")
    options: dict[str, Any] = dict.fromkeys(("remote", "protect", "retain_on_delete"), False)
    asked = Registration(
        type=type_,
        inputs=inputs,
        custom=True,
        dependencies=(),
        secrets=frozenset(),
        ignore_changes=(),
        **nothing,
        **options,
    )
    assert api.lacks(asked) == reason


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
        (JOB, JOB_PATH),
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
