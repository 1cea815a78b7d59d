"""The keeper at scale: nodes and pods that kwok plays on a kube-apiserver of their own, and when it knew of each.

A change's moment is the one at which its maker sent it (kwok says so in a condition's message) or the API server's
answer; its arrival is when a second reader finds its event in the ledger. So a lag holds the API server's part too.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local import api_server, keeper_objects, kwok_binary, toolchain
from infra.local.keeper_load import Arrivals, Cluster, Keeper, kwok
from infra.local.keeper_objects import NAMESPACE
from infra.local.progress import Progress
from infra.local.world_kubernetes import ApiServer
from tidepool import capacity
from tidepool.capacity import LABEL_PREFIX, Capacity
from tidepool.labels import utc

END = LABEL_PREFIX + "bench-end"
_LAST_POD = "zz-last"  # of the list, as the API server sorts it


@dataclass(frozen=True)
class Scale:
    """per_second: how many pods are made, end and are deleted in a second."""

    nodes: int
    pods: int
    per_second: float


@dataclass
class Figures:
    """lags: seconds from a change to its event, by the event's kind. peak_bytes: of the keeper's memory, of the first
    process and of the one that was started among all the pods. restart_seconds: from its start until it knows of what
    came meanwhile. missing, doubled: events that should be in the ledger and are not, or are twice."""

    scale: Scale
    lags: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: list[int] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    restart_seconds: float = 0.0
    events: int = 0
    missing: int = 0
    doubled: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "nodes": self.scale.nodes,
            "pods": self.scale.pods,
            "per_second": self.scale.per_second,
            "lag_seconds": {kind: summary(lags) for kind, lags in self.lags.items()},
            "peak_mib": [round(each / 2**20) for each in self.peak_bytes],
            "cpu_seconds": [round(each, 1) for each in self.cpu_seconds],
            "restart_seconds": round(self.restart_seconds, 2),
            "events": self.events,
            "missing": self.missing,
            "doubled": self.doubled,
        }


def summary(lags: Sequence[float]) -> dict[str, float]:
    """Median, the value that 99 of 100 stay below, and the largest; milliseconds are enough."""
    ordered = sorted(lags) or [0.0]
    chosen = statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], ordered[-1]
    return dict(zip(("median", "p99", "max"), (round(each, 3) for each in chosen), strict=True))


def measure(scale: Scale, folder: Path, progress: Progress) -> Figures:
    """Everything once, in an empty folder. Raises LocalError."""
    tools = toolchain.prepare(progress)
    player = kwok_binary.find(progress)
    figures = Figures(scale)
    document = keeper_objects.capacity_document()
    (folder / "capacity.json").write_text(capacity.dumps(document))
    with contextlib.ExitStack() as stack:
        with progress.step("starting etcd, kube-apiserver and kwok"):
            kubeconfig = stack.enter_context(api_server.started(folder, tools.etcd, tools.kubernetes))
            server = ApiServer(kubeconfig, seconds=60)
            for manifest in keeper_objects.surroundings():
                server.apply(manifest)
            cluster = Cluster(kubeconfig)
            playing = stack.enter_context(kwok(player, kubeconfig, folder))
        keeper = stack.enter_context(Keeper(folder, kubeconfig))
        arrivals = stack.enter_context(Arrivals(folder / "ledger.db", playing))
        arrivals.check = keeper.check
        with progress.step(f"{scale.nodes} nodes, and {scale.pods} pods, {scale.per_second:g} a second"):
            cluster.spread([keeper_objects.node(number) for number in range(scale.nodes)], 100.0, "/api/v1/nodes")
            pods = [keeper_objects.job_pod(document, number, scale.nodes) for number in range(scale.pods)]
            made = cluster.spread(pods, scale.per_second, f"/api/v1/namespaces/{NAMESPACE}/pods")
            uids = [str(each["metadata"]["uid"]) for each, _ in made]
            arrivals.wait_for("pod.running", uids)
        figures.lags["pod.queued"] = arrivals.lags(
            "pod.queued", {uid: at for uid, (_, at) in zip(uids, made, strict=True)}
        )
        running = cluster.messages(f"/api/v1/namespaces/{NAMESPACE}/pods", "Ready")
        figures.lags["pod.running"] = arrivals.lags("pod.running", running)
        with progress.step("the keeper is killed and started again"):
            _restart(keeper, cluster, arrivals, document, figures)
        with progress.step(f"all pods end and are deleted, {scale.per_second:g} a second"):
            first = time.time() + 10
            ends = [
                (each["metadata"]["name"], {"metadata": {"annotations": {END: utc(first + number / scale.per_second)}}})
                for number, (each, _) in enumerate(made)
            ]
            cluster.patch(ends, f"/api/v1/namespaces/{NAMESPACE}/pods")
            arrivals.wait_for("pod.ended", uids)
            ended = cluster.messages(f"/api/v1/namespaces/{NAMESPACE}/pods", "Ready")
            figures.lags["pod.ended"] = arrivals.lags("pod.ended", ended)
            gone = cluster.delete([name for name, _ in ends], scale.per_second, f"/api/v1/namespaces/{NAMESPACE}/pods")
            by_name = {each["metadata"]["name"]: each["metadata"]["uid"] for each, _ in made}
            arrivals.wait_for("pod.gone", uids)
            moments = {str(by_name[name]): moment for name, moment in gone.items()}
            figures.lags["pod.gone"] = arrivals.lags("pod.gone", moments)
        keeper.end()
        figures.peak_bytes, figures.cpu_seconds = keeper.peak_bytes, keeper.cpu_seconds
        _count(arrivals, uids, figures)
    return figures


def _restart(keeper: Keeper, cluster: Cluster, arrivals: Arrivals, document: Capacity, figures: Figures) -> None:
    keeper.end()
    last = keeper_objects.job_pod(document, 0, 1)
    last["metadata"] |= {"name": _LAST_POD}
    ((made, _),) = cluster.spread([last], 1.0, f"/api/v1/namespaces/{NAMESPACE}/pods")
    begun = time.time()
    keeper.start()
    arrivals.wait_for("pod.queued", [made["metadata"]["uid"]])
    figures.restart_seconds = arrivals.seen["pod.queued", made["metadata"]["uid"]] - begun


def _count(arrivals: Arrivals, uids: list[str], figures: Figures) -> None:
    kinds = ("pod.queued", "pod.scheduled", "pod.running", "pod.ended", "pod.gone")
    figures.events = arrivals.count
    figures.missing = sum((kind, uid) not in arrivals.seen for kind in kinds for uid in uids)
    figures.doubled = sum(times - 1 for (kind, _), times in arrivals.times.items() if kind in kinds)
