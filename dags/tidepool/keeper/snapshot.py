"""The cluster as the reaper sees it: everything, from what the watches told; one thing, read anew right before it is
removed. What is removed must still be exactly what was read.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from kubernetes.client import (
    ApiException,
    CoordinationV1Api,
    CoreV1Api,
    V1DeleteOptions,
    V1Preconditions,
)

from tidepool.capacity import TEAM_LABEL, Capacity
from tidepool.keeper.ownership import Owner, Word, main_reference, node_name, stamp
from tidepool.keeper.reaper import Action, Finding, World, is_any_unwell
from tidepool.labels import DEADLINE, HOLDER, LEASE, OWNER_DAG, OWNER_NAMES, OWNER_RUN, OWNER_TASK
from tidepool.ledger.events import Ledger
from tidepool.objects import Object, is_over
from tidepool.pod import label_value

_log = logging.getLogger("tidepool.reaper")

NODE_LEASES = "kube-node-lease"
"""The namespace in which each kubelet renews a Lease of its node's name."""

_REQUEST_SECONDS = (3, 15)
_METADATA = (
    *("name", "namespace", "uid", "resourceVersion", "labels"),
    *("creationTimestamp", "deletionTimestamp", "ownerReferences"),
)
_ANNOTATIONS = (*OWNER_NAMES, LEASE, HOLDER, DEADLINE)


def slim(thing: Object) -> Object:
    """What the rules and the measuring of use read of a pod, claim or node: a tenth of it."""
    metadata, spec, status = (thing.get(part) or {} for part in ("metadata", "spec", "status"))
    kept = {key: metadata[key] for key in _METADATA if key in metadata}
    said = metadata.get("annotations") or {}
    kept["annotations"] = {key: said[key] for key in _ANNOTATIONS if key in said}
    volumes = [
        {key: each[key] for key in ("name", "persistentVolumeClaim", "ephemeral") if key in each}
        for each in spec.get("volumes") or []
        if "persistentVolumeClaim" in each or "ephemeral" in each
    ]
    states = [{"state": each.get("state")} for each in status.get("containerStatuses") or []]
    ready = [each for each in status.get("conditions") or [] if each.get("type") == "Ready"]
    return {
        "metadata": kept,
        "spec": {key: spec[key] for key in ("nodeName", "providerID", "taints") if key in spec} | {"volumes": volumes},
        "status": {key: status[key] for key in ("phase", "addresses") if key in status}
        | {"containerStatuses": states, "conditions": ready},
    }


class Mirror:
    """A watch's objects as they are now, slim. Handles what the watch tells, and hands it on to `beside`, if given."""

    def __init__(self, beside: Any = None) -> None:
        self._beside = beside
        self._kept: dict[str, Object] | None = None
        self._lock = threading.Lock()

    def listed(self, things: list[Object], now: float) -> None:
        """Everything that is there."""
        with self._lock:
            self._kept = {str(thing["metadata"]["uid"]): slim(thing) for thing in things}
        if self._beside is not None:
            self._beside.listed(things, now)

    def changed(self, kind: str, thing: Object, now: float) -> None:
        """A change."""
        with self._lock:
            if self._kept is not None:
                if kind == "DELETED":
                    self._kept.pop(str(thing["metadata"]["uid"]), None)
                else:
                    self._kept[str(thing["metadata"]["uid"])] = slim(thing)
        if self._beside is not None:
            self._beside.changed(kind, thing, now)

    def in_step(self, now: float) -> None:
        """Nothing has changed up to now."""
        if self._beside is not None:
            self._beside.in_step(now)

    def things(self) -> list[Object] | None:
        """All of them; None before the first list."""
        with self._lock:
            return None if self._kept is None else list(self._kept.values())


class Cluster:
    """pods, nodes: what their watches tell. capacity: the document as it is now. word: Airflow's. has_claims: whether a
    look is at claims too."""

    def __init__(
        self,
        core: CoreV1Api,
        leases: CoordinationV1Api,
        pods: Mirror,
        nodes: Mirror,
        capacity: Callable[[], Capacity],
        ledger: Ledger,
        word: Callable[[Owner], Word],
        has_claims: bool = True,
    ) -> None:
        self._core = core
        self._leases = leases
        self._pods = pods
        self._nodes = nodes
        self._capacity = capacity
        self._ledger = ledger
        self._word = word
        self._has_claims = has_claims
        self._denied: set[str] = set()

    def world(self, now: float) -> World | None:
        """All there is, for one look; None before both watches have told."""
        pods, nodes = self._pods.things(), self._nodes.things()
        if pods is None or nodes is None:
            return None
        renewed = self._renewals() if is_any_unwell(pods, nodes) else {}
        if not self._has_claims:
            return self._world(now, pods, nodes, renewed)
        claims = self._allowed(self._core.list_persistent_volume_claim_for_all_namespaces, label_selector=TEAM_LABEL)
        return self._world(now, pods, nodes, renewed, claims)

    def fresh(self, finding: Finding, now: float) -> World:
        """What there is to be known about one finding, read just now."""
        if finding.kind == "Node":
            node = self._get(self._core.read_node, finding.name)
            selector = f"spec.nodeName={finding.name}"
            on_it = self._list(self._core.list_pod_for_all_namespaces, field_selector=selector)
            jobs = [pod for pod in on_it if TEAM_LABEL in (pod["metadata"].get("labels") or {})]
            is_busy = any(_holds_machine(pod) for pod in on_it if pod not in jobs)
            return self._world(now, jobs, _present(node), busy=frozenset({finding.name} if is_busy else ()))
        assert finding.owner is not None, "pods and claims are found with their owner"  # noqa: S101
        namespace = finding.namespace
        if finding.kind == "PersistentVolumeClaim":
            claim = self._get(self._core.read_namespaced_persistent_volume_claim, finding.name, namespace)
            pods = self._list(self._core.list_namespaced_pod, namespace)
            return self._world(now, pods, claims=_present(claim))
        owner = finding.owner
        wanted = {OWNER_DAG: owner.dag, OWNER_TASK: owner.task, OWNER_RUN: owner.run}
        selector = ",".join(f"{name}={label_value(value)}" for name, value in wanted.items())
        pods = self._list(self._core.list_namespaced_pod, namespace, label_selector=selector)
        for pod in [each for each in pods if each["metadata"]["uid"] == finding.uid]:
            main = main_reference(pod)
            if main is not None and all(each["metadata"]["uid"] != main.get("uid") for each in pods):
                pods += _present(self._get(self._core.read_namespaced_pod, str(main.get("name")), namespace))
        name = next((node_name(pod) for pod in pods if pod["metadata"]["uid"] == finding.uid), "")
        if not name:
            return self._world(now, pods)
        lease = self._get(self._leases.read_namespaced_lease, name, NODE_LEASES)
        return self._world(now, pods, _present(self._get(self._core.read_node, name)), _renewed(_present(lease)))

    def remove(self, finding: Finding) -> bool:
        """Remove it if it is what was read, to the last change; False where it has changed or is gone."""
        conditions = V1Preconditions(uid=finding.uid, resource_version=finding.version)
        grace = 0 if finding.rule.action is Action.FORCE_DELETE else finding.rule.stop_seconds
        options = V1DeleteOptions(preconditions=conditions, grace_period_seconds=grace)
        delete = self._core.delete_namespaced_pod
        if finding.kind == "PersistentVolumeClaim":
            delete = self._core.delete_namespaced_persistent_volume_claim
        try:
            delete(
                finding.name,
                finding.namespace,
                body=options,
                _preload_content=False,
                _request_timeout=_REQUEST_SECONDS,
            )
        except ApiException as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def _world(
        self,
        now: float,
        pods: Iterable[Object],
        nodes: Iterable[Object] = (),
        renewed: dict[str, float] | None = None,
        claims: Iterable[Object] = (),
        busy: frozenset[str] = frozenset(),
    ) -> World:
        document = self._capacity()
        return World(
            now=now,
            tenants=document.tenants,
            pools=tuple(document.pools.values()),
            schedule_seconds=document.schedule_timeout_seconds,
            pods=tuple(pods),
            nodes=tuple(nodes),
            claims=tuple(claims),
            renewed=renewed or {},
            busy=busy,
            ended=lambda machine: self._ledger.known("machine.gone", machine) is not None,
            word=self._word,
        )

    def _renewals(self) -> dict[str, float]:
        return _renewed(self._allowed(self._leases.list_namespaced_lease, NODE_LEASES))

    def _allowed(self, request: Callable[..., Any], *where: str, **options: Any) -> list[Object]:
        """What may be read; nothing where the keeper has no right to."""
        try:
            return self._list(request, *where, **options)
        except ApiException as error:
            if error.status != 403:
                raise
            if request.__name__ not in self._denied:
                _log.warning("the keeper may not %s; it goes on without", request.__name__)
            self._denied.add(request.__name__)
            return []

    def _list(self, request: Callable[..., Any], *where: str, **options: Any) -> list[Object]:
        answer = request(*where, _preload_content=False, _request_timeout=_REQUEST_SECONDS, **options)
        found: list[Object] = json.loads(answer.data)["items"]
        return found

    def _get(self, request: Callable[..., Any], *where: str) -> Object | None:
        try:
            answer = request(*where, _preload_content=False, _request_timeout=_REQUEST_SECONDS)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        found: Object = json.loads(answer.data)
        return found


def _renewed(leases: Iterable[Object]) -> dict[str, float]:
    """When each kubelet last renewed its Lease, by node."""
    told = {each["metadata"]["name"]: stamp((each.get("spec") or {}).get("renewTime")) for each in leases}
    return {name: moment for name, moment in told.items() if moment is not None}


def _present(thing: Object | None) -> list[Object]:
    return [] if thing is None else [thing]


def _holds_machine(pod: Object) -> bool:
    """Whether the autoscaler would have to move it: it has not ended, and is not on every machine in any case."""
    metadata = pod["metadata"]
    is_daemon = any(each.get("kind") in ("DaemonSet", "Node") for each in metadata.get("ownerReferences") or [])
    return not is_over(pod) and not is_daemon
