"""What pods use, as kubelets measure it."""

from __future__ import annotations

import http.server
import json
import random
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from kubernetes import client

from infra.local.pki import Authority
from tests.dags.reaper_objects import job, node
from tidepool.history import quantile
from tidepool.keeper.snapshot import Mirror
from tidepool.keeper.usage import Kubelets, Sketch, Usage, samples
from tidepool.ledger import journal
from tidepool.ledger.journal import Recorder
from tidepool.objects import Object

GIB = 1024**3
BEGAN = datetime(2026, 11, 23, 10, tzinfo=UTC)


def one_after_another(work: Callable[[Any], Any], over: Iterable[Any]) -> list[Any]:
    return [work(each) for each in over]


def summary(seconds: float, **pods: tuple[float, int]) -> Object:
    """A kubelet's answer so long after BEGAN: CPU seconds and bytes of memory by a pod's UID."""
    stamp = datetime.fromtimestamp(BEGAN.timestamp() + seconds, UTC).isoformat().replace("+00:00", "Z")
    return {
        "node": {"nodeName": "i-1"},
        "pods": [
            {
                "podRef": {"name": uid, "namespace": "ns", "uid": uid},
                "cpu": {"time": stamp, "usageCoreNanoSeconds": int(cpu * 1e9)},
                "memory": {"time": stamp, "workingSetBytes": memory},
            }
            for uid, (cpu, memory) in pods.items()
        ],
    }


class Cluster:
    """Mirrors of one node and one job's pod, and a kubelet that answers what it is told to."""

    def __init__(self, path: Path) -> None:
        self.nodes, self.pods = Mirror(), Mirror()
        self.asked: list[str] = []
        self.answer: Object | Exception = {}
        machine = node("i-1")
        machine["status"]["addresses"] = [{"type": "InternalIP", "address": "10.0.0.7"}]
        self.nodes.listed([machine], 0)
        self.pod = job(node="i-1")
        self.uid: str = self.pod["metadata"]["uid"]
        self.pods.listed([self.pod], 0)
        self.path = path
        self.usage = Usage(self.nodes, self.pods, Recorder(path), self._ask)

    def _ask(self, address: str) -> Object:
        self.asked.append(address)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def step(self, answer: Object | Exception) -> None:
        self.answer = answer
        self.usage.step(BEGAN.timestamp(), one_after_another)

    def used(self) -> list[Any]:
        return [event for event in journal.read(self.path) if event.kind == "pod.used"]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "events.jsonl")


def test_a_pod_that_has_ended_leaves_one_event_with_what_it_used(cluster: Cluster) -> None:
    for second in range(100):
        cluster.step(summary(10 * second, **{cluster.uid: (15.0 * second, 3 * GIB if second == 50 else GIB)}))
    assert cluster.used() == []
    cluster.pods.changed("MODIFIED", {**cluster.pod, "status": {"phase": "Succeeded"}}, 0)
    cluster.step({})
    cluster.step({})
    [event] = cluster.used()
    assert (event.pod_uid, event.samples, event.cpu_seconds) == (cluster.uid, 100, 15.0 * 99)
    assert event.memory_peak_bytes == 3 * GIB
    assert event.memory_p99_bytes == pytest.approx(GIB, rel=0.01)
    assert (event.dag, event.machine) == ("flights", "i-i-1")
    assert set(cluster.asked) == {"10.0.0.7"}


def test_the_same_measurement_told_twice_counts_once(cluster: Cluster) -> None:
    for _ in range(5):
        cluster.step(summary(7, **{cluster.uid: (1.0, GIB)}))
    cluster.pods.changed("DELETED", cluster.pod, 0)
    cluster.step({})
    assert [event.samples for event in cluster.used()] == [1]


def test_a_machine_without_running_jobs_is_not_asked(cluster: Cluster) -> None:
    cluster.pods.changed("MODIFIED", {**cluster.pod, "status": {"phase": "Pending"}}, 0)
    cluster.step({})
    assert cluster.asked == []


@pytest.mark.parametrize(
    "silence",
    [
        OSError("refused"),
        ValueError("no JSON"),
        OSError("403 Forbidden: nodes/stats"),
        {"pods": 5},
        {"pods": ["x"]},
        {"pods": [{"podRef": [], "cpu": {}, "memory": {}}]},
        {"pods": [{"podRef": {"uid": "u"}, "cpu": "x"}]},
    ],
)
def test_a_kubelet_that_does_not_answer_is_told_of_once_and_asked_again(
    cluster: Cluster, silence: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        cluster.step(silence)
    assert caplog.text.count("does not say what its pods use") <= 1
    cluster.step(summary(7, **{cluster.uid: (1.0, GIB)}))
    cluster.pods.changed("DELETED", cluster.pod, 0)
    cluster.step({})
    assert len(cluster.used()) == 1


def test_other_pods_of_the_machine_and_pods_that_were_never_measured_have_no_event(cluster: Cluster) -> None:
    cluster.step(summary(7, **{"some-daemon": (1.0, GIB)}))
    cluster.pods.changed("DELETED", cluster.pod, 0)
    cluster.step({})
    assert cluster.used() == []


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"pods": None},
        {"pods": [{}]},
        {"pods": [{"podRef": {"uid": "u"}, "cpu": {"usageCoreNanoSeconds": 1}}]},
        {"pods": [{"podRef": {"uid": "u"}, **summary(1, u=(1e20, 1))["pods"][0]}]},
        {"pods": [{"podRef": {"uid": "u"}, **summary(1, u=(1.0, 2**62))["pods"][0]}]},
        {"pods": [{"podRef": {"uid": "u"}, "memory": {"time": "2026-11-23T10:00:00Z", "workingSetBytes": 1}}]},
    ],
)
def test_a_measurement_that_lacks_a_figure_is_none(answer: Object) -> None:
    assert samples(answer) == []


def test_where_a_kubelet_measures_containers_only_a_pod_is_their_sum() -> None:
    stats = summary(3, u=(2.0, 3))["pods"][0]
    figures = {"cpu": stats["cpu"], "memory": stats["memory"]}
    [found] = samples({"pods": [{"podRef": {"uid": "u"}, "containers": [figures, figures]}]})
    assert (found.cpu_seconds, found.memory_bytes) == (4.0, 6)
    assert samples({"pods": [{"podRef": {"uid": "u"}, "containers": [figures, {}]}]}) == []


def test_quantiles_of_a_sketch_are_within_a_hundredth_and_it_stays_small() -> None:
    chosen = random.Random(1)  # noqa: S311
    sizes = [int(chosen.lognormvariate(20, 2)) for _ in range(50_000)]
    sketch = Sketch()
    for size in sizes:
        sketch.add(size)
    for share in (0.01, 0.5, 0.9, 0.99):
        assert sketch.quantile(share) == pytest.approx(quantile(sizes, share), rel=0.011)
    assert sketch.quantile(1.0) == pytest.approx(max(sizes), rel=0.011)
    assert sketch.quantile(1.0) <= sketch.largest == max(sizes)
    assert len(sketch.counts) < 1000
    assert Sketch().quantile(0.5) == 0


class Kubelet(http.server.BaseHTTPRequestHandler):
    """Answers like one, and writes down who asked for what."""

    told: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.told.append((self.path, self.headers.get("Authorization", "")))
        is_allowed = self.headers.get("Authorization") == "bearer secret"
        body = json.dumps(summary(1, u=(2.0, 3))).encode() if is_allowed else b"Forbidden (nodes/stats)"
        self.send_response(200 if is_allowed else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[tuple[client.Configuration, int]]:
    """One with a certificate for 127.0.0.1, and the settings of a client that trusts its authority."""
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("kubelet", "system:node:i-1", hosts=("127.0.0.1",))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = client.Configuration()
    settings.ssl_ca_cert = str(authority.certificate)
    settings.api_key = {"BearerToken": "bearer secret"}
    yield settings, server.server_port
    server.shutdown()
    server.server_close()


def test_a_kubelet_is_asked_with_the_keepers_own_token_for_no_more_than_statistics(
    kubelet: tuple[client.Configuration, int],
) -> None:
    settings, port = kubelet
    found = samples(Kubelets(settings, port).summary("127.0.0.1"))
    assert [(each.cpu_seconds, each.memory_bytes) for each in found] == [(2.0, 3)]
    assert Kubelet.told[-1] == ("/stats/summary?only_cpu_and_memory=true", "bearer secret")


def test_a_refusal_is_told_in_the_kubelets_words(kubelet: tuple[client.Configuration, int]) -> None:
    settings, port = kubelet
    settings.api_key = {"BearerToken": "bearer other"}
    with pytest.raises(OSError, match=r"403 Forbidden: Forbidden \(nodes/stats\)"):
        Kubelets(settings, port).summary("127.0.0.1")


def test_the_token_goes_to_nobody_whose_certificate_is_of_another_authority(
    kubelet: tuple[client.Configuration, int], tmp_path: Path
) -> None:
    settings, port = kubelet
    settings.ssl_ca_cert = str(Authority(tmp_path / "other").certificate)
    before = len(Kubelet.told)
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        Kubelets(settings, port).summary("127.0.0.1")
    assert len(Kubelet.told) == before
