"""A cluster whose API server is real and whose scheduler and kubelets a test plays, and what is left behind in it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from tests.local.account import Pod
from tests.waiting import wait_until
from tidepool import pod as pods
from tidepool.capacity import POOL_LABEL, Capacity
from tidepool.cluster import ROLE_LABEL
from tidepool.keeper.ownership import Owner, Word
from tidepool.keeper.reaper import CLAIM
from tidepool.keeper.reaping import Reaper
from tidepool.keeper.snapshot import NODE_LEASES, Mirror
from tidepool.keeper.snapshot import Cluster as Sight
from tidepool.labels import LEASE, LEASE_SECONDS, utc
from tidepool.ledger.events import Event
from tidepool.ledger.store import Store

NAMESPACE, TEAM, OVER = "tidepool-jobs", "jobs", "over"
SIZE = {"cpu": "4", "memory": "8Gi"}

ORPHAN_SECONDS, LOST_SECONDS = 300.0, 90.0
"""From the last renewal of its lease, or the end of its driver, an orphan may live so long; from the end of its machine
a job until it is lost."""

QUIET_SECONDS, QUIET_EXECUTOR_SECONDS = 230.0, 50.0
"""How long ago that was when the test makes one: as though its worker, or driver, had been dead for so long."""

CLOUD_SAYS_SECONDS, KUBERNETES_SAYS_SECONDS = 20.0, 40.0
"""From a machine's end on: the keeper asks EC2 every 20 s, and Kubernetes waits for a node's Lease for 40."""

Request = Callable[..., Any]


class Cluster:
    """Plays the scheduler and the kubelets; remembers what it did. Whatever it asks for is asked until it is done."""

    def __init__(self, kubeconfig: Path) -> None:
        self.api = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        self.seen: dict[str, Pod] = {}
        self.brief: set[str] = set()

    @property
    def lasting(self) -> dict[str, Pod]:
        """Pods that were there for longer than a keeper takes to come back: every ledger has to tell of them."""
        return {uid: pod for uid, pod in self.seen.items() if uid not in self.brief}

    def do(self, request: Request, *arguments: Any, done: tuple[int, ...] = (404, 409), **options: Any) -> Any:
        """The answer, as JSON; None where it was done before."""
        while True:
            try:
                answer = request(*arguments, **options, _preload_content=False, _request_timeout=(2, 5))
                return json.loads(answer.data)
            except client.ApiException as error:
                if error.status in done:
                    return None
            except (HTTPError, OSError):
                pass
            time.sleep(0.1)

    def create(self, name: str, run: str, renewed: float = 300.0, driver: Pod | None = None) -> Pod:
        """A job's pod whose worker renewed its lease so many seconds ago, so that it all depends on Airflow's word.

        driver: the main pod of the executor that it is.
        """
        lease = utc(time.time() - renewed + LEASE_SECONDS)
        container = {"name": "base", "image": "none:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
        body: dict[str, Any] = {
            "metadata": self.owned(name, run),
            "spec": {"containers": [container], "automountServiceAccountToken": False, "restartPolicy": "Never"},
        }
        body["metadata"]["annotations"] |= {LEASE: lease}
        if driver is not None:
            reference = {"apiVersion": "v1", "kind": "Pod", "name": driver.name, "uid": driver.uid}
            body["metadata"]["ownerReferences"] = [reference]
            body["metadata"]["labels"] |= {ROLE_LABEL: "executor"}
        made = self.do(self.api.create_namespaced_pod, NAMESPACE, body)
        made = made or self.do(self.api.read_namespaced_pod, name, NAMESPACE)
        pod = Pod(made["metadata"]["uid"], name, "job", run)
        self.seen[pod.uid] = pod
        return pod

    def owned(self, name: str, run: str) -> dict[str, Any]:
        """Metadata of what a task of this run made."""
        labels, annotations = pods.owner("chaos", "job", run, 1, TEAM)
        return {"name": name, "labels": {**labels, POOL_LABEL: "spot"}, "annotations": dict(annotations)}

    def bind(self, pod: Pod, machine: str) -> None:
        body = {"metadata": {"name": pod.name}, "target": {"kind": "Node", "name": machine}}
        self.do(self.api.create_namespaced_binding, NAMESPACE, body)
        told = self.do(self.api.read_namespaced_pod, pod.name, NAMESPACE)
        pod.node, pod.bound = machine, time.time()
        if told is not None:  # an API server that dies may have done it long before it says so
            (stamp,) = [each["lastTransitionTime"] for each in told["status"]["conditions"] if each["status"] == "True"]
            pod.bound = middle(stamp)

    def run(self, pod: Pod, machine: str) -> None:
        """It runs from now on."""
        self.bind(pod, machine)
        began = now()
        pod.running = middle(began)
        self.tell(pod, "Running", running={"startedAt": began})

    def machine(self, name: str, provider: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
        """A node that is ready."""
        spec = {"providerID": provider} if provider else {}
        made = self.do(self.api.create_node, {"metadata": {"name": name, "labels": labels or {}}, "spec": spec})
        self.ready(name, "True")
        return dict(made or self.do(self.api.read_node, name))

    def ready(self, name: str, status: str) -> None:
        """Report a node's condition: its kubelet's True, or Kubernetes' Unknown."""
        said = {"type": "Ready", "status": status, "lastTransitionTime": now(), "lastHeartbeatTime": now()}
        body = {"status": {"conditions": [said], "allocatable": SIZE, "capacity": SIZE}}
        self.do(self.api.patch_node_status, name, body)

    def tell(self, pod: Pod, phase: str, **state: Any) -> None:
        """Report a state of the pod's container."""
        said = {"name": "base", "image": "none:1", "imageID": "none", "ready": False, "restartCount": 0, "state": state}
        body = {"status": {"phase": phase, "containerStatuses": [said]}}
        self.do(self.api.patch_namespaced_pod_status, pod.name, NAMESPACE, body)

    def live(self, pod: Pod, machine: str, seconds: float) -> None:
        """A pod's whole life."""
        self.run(pod, machine)
        time.sleep(seconds)
        over = {"exitCode": 0, "startedAt": utc((pod.running or 0) - 0.5), "finishedAt": now()}
        pod.ended = middle(over["finishedAt"])
        self.tell(pod, "Succeeded", terminated=over)
        time.sleep(1)
        self.do(self.api.delete_namespaced_pod, pod.name, NAMESPACE, grace_period_seconds=0)
        pod.gone = time.time()


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def middle(stamp: object) -> float:
    """Of the second that a stamp names."""
    return datetime.fromisoformat(str(stamp)).timestamp() + 0.5


@dataclass
class Left:
    """What somebody left behind: the rule that removes it, how many seconds from `since` on that may take."""

    pod: Pod
    rule: str
    since: float
    within: float

    @property
    def took(self) -> float:
        """Until it was gone; forever where it is not."""
        return (self.pod.gone or math.inf) - self.since


def orphan(cluster: Cluster, name: str, machine: str) -> Left:
    """A pod whose task is over and whose worker died QUIET_SECONDS ago."""
    began = time.time()
    pod = cluster.create(name, OVER, renewed=QUIET_SECONDS)
    cluster.run(pod, machine)
    return Left(pod, "ownerless", began - QUIET_SECONDS, ORPHAN_SECONDS)


def executor(cluster: Cluster, machine: str) -> Left:
    """An executor whose driver has ended a while ago, and whose task lives. Its driver goes when the test says so."""
    driver = cluster.create("driver", "run")
    cluster.bind(driver, machine)
    over = time.time() - QUIET_EXECUTOR_SECONDS
    ended = {"exitCode": 1, "startedAt": utc(over - 60), "finishedAt": utc(over)}
    cluster.tell(driver, "Failed", terminated=ended)
    pod = cluster.create("executor", "run", driver=driver)
    cluster.run(pod, machine)
    return Left(pod, "stranded", over, ORPHAN_SECONDS)


def astray(cluster: Cluster) -> Left:
    """A pod on a node that is not there, whose task lives."""
    pod = cluster.create("astray", "run", renewed=0.0)
    cluster.brief.add(pod.uid)  # it may be removed before another keeper has seen it
    began = time.time()
    cluster.bind(pod, "i-none")
    return Left(pod, "lost", began, LOST_SECONDS)


def dead_machine(cluster: Cluster, store: Store, name: str) -> Left:
    """A machine that ends with a living job on it; what its kubelet, Kubernetes and EC2 say of it, and as late as they
    do. Returns when all of it is said."""
    cluster.machine(name, f"aws:///us-east-1a/{name}")
    leases = client.CoordinationV1Api(cluster.api.api_client)
    renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    lease = {"metadata": {"name": name}, "spec": {"holderIdentity": name, "renewTime": renewed}}
    pod = cluster.create("doomed", "run", renewed=0.0)
    cluster.run(pod, name)
    cluster.do(leases.create_namespaced_lease, NODE_LEASES, lease)
    died = time.time()
    time.sleep(CLOUD_SAYS_SECONDS)
    store.record(Event(died, "machine.gone", machine=name, pool="spot", usd_per_hour=0.1))
    time.sleep(max(0.0, died + KUBERNETES_SAYS_SECONDS - time.time()))
    cluster.ready(name, "Unknown")
    return Left(pod, "lost", died, LOST_SECONDS)


def guest(cluster: Cluster, seconds: float) -> tuple[str, float]:
    """A machine that no cloud is asked about comes and goes with its node: what the ledger calls it, and its end."""
    about = cluster.machine("guest", "", {POOL_LABEL: "spot"})["metadata"]
    time.sleep(seconds)
    cluster.do(cluster.api.delete_node, "guest")
    return f"guest-{about['uid'][:8]}", time.time()


def claims(cluster: Cluster) -> tuple[str, str]:
    """Claims of a task that is over and of one that lives; their UIDs."""
    found = []
    for run in (OVER, "run"):
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        body = {"metadata": cluster.owned(f"scratch-{run}", run), "spec": spec}
        made = cluster.do(cluster.api.create_namespaced_persistent_volume_claim, NAMESPACE, body)
        made = made or cluster.do(cluster.api.read_namespaced_persistent_volume_claim, f"scratch-{run}", NAMESPACE)
        found.append(str(made["metadata"]["uid"]))
    return found[0], found[1]


def reap_claims(cluster: Cluster, store: Store, capacity: Capacity, word: Callable[[Owner], Word]) -> None:
    """What a reaper of the test's own removes, for which a quarter of an hour passes at once."""
    nodes, there = Mirror(), Mirror()
    passed = [0.0]
    leases = client.CoordinationV1Api(cluster.api.api_client)
    sight = Sight(cluster.api, leases, there, nodes, lambda: capacity, store, word)
    reaper = Reaper(sight, store, now=lambda: time.time() + passed[0])

    def removed() -> bool:
        nodes.listed(cluster.do(cluster.api.list_node)["items"], time.time())
        there.listed(cluster.do(cluster.api.list_namespaced_pod, NAMESPACE)["items"], time.time())
        reaper.look()
        passed[0] += CLAIM.grace / 2
        claim = cluster.do(cluster.api.read_namespaced_persistent_volume_claim, f"scratch-{OVER}", NAMESPACE)
        return claim is None or bool(claim["metadata"].get("deletionTimestamp"))  # nobody takes its finalizer away

    wait_until(removed, 60, "the claim of the task that is over is removed")
    kept = cluster.do(cluster.api.read_namespaced_persistent_volume_claim, "scratch-run", NAMESPACE)
    assert not kept["metadata"].get("deletionTimestamp"), "its task lives"
