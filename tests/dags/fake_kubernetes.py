"""A Kubernetes of one namespace in memory, with the calls that the operators make, and a clock that sleeping moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tidepool import JobPodOperator, SparkPodOperator
from tidepool.capacity import BREAKERS_CONFIG_MAP

NAMESPACE = "tidepool-analytics"
NOW = datetime.now(UTC)


class Kubernetes:
    """`script` says what happens while a pod's log is followed. Pods run at once, unless `phase` says otherwise.

    events: by a pod's uid, or by another selector. nodes: by name; one that is not there is gone, and without any none
    may be read.
    """

    def __init__(self) -> None:
        self.pods: dict[str, client.V1Pod] = {}
        self.created: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.most_live = 0
        self.phase: Callable[[dict[str, Any]], str] = lambda body: "Running"
        self.script: Callable[[str], None] = lambda name: self.end(name, "Succeeded")
        self.failures: list[BaseException] = []
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.nodes: dict[str, dict[str, Any]] | None = None
        self.config_maps: dict[str, client.V1ConfigMap] = {}
        self.api_client = client.ApiClient()
        self._version = 0
        self._store(client.V1ConfigMap(metadata=client.V1ObjectMeta(name=BREAKERS_CONFIG_MAP), data={}))

    def _answer(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def _found(self, name: str) -> client.V1Pod:
        self._answer()
        if name not in self.pods:
            raise ApiException(status=404, reason="Not Found")
        return self.pods[name]

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def put(self, name: str, phase: str = "Running", labels: dict[str, str] | None = None, **more: Any) -> client.V1Pod:
        """A pod that is there already, of the same task."""
        version = self._next()
        metadata: dict[str, Any] = {"creation_timestamp": NOW, "uid": f"uid-{name}-{version}"} | more
        self.pods[name] = client.V1Pod(
            metadata=client.V1ObjectMeta(
                name=name,
                namespace=NAMESPACE,
                resource_version=version,
                labels={"try_number": "1", **(labels or {})},
                annotations={},
                **metadata,
            ),
            spec=client.V1PodSpec(containers=[client.V1Container(name="base")], node_name="i-1"),
            status=client.V1PodStatus(phase=phase),
        )
        if phase == "Pending":
            self.pods[name].spec.node_name = None
        else:
            self.set_state(name, running=client.V1ContainerStateRunning())
        live = [pod for pod in self.pods.values() if pod.status.phase in ("Pending", "Running")]
        self.most_live = max(self.most_live, len(live))
        return self.pods[name]

    def set_state(self, name: str, **state: Any) -> None:
        """Of the job's container."""
        self.pods[name].metadata.resource_version = self._next()
        self.pods[name].status.container_statuses = [
            client.V1ContainerStatus(
                name="base",
                image="i",
                image_id="i",
                ready=True,
                restart_count=0,
                state=client.V1ContainerState(**state),
            )
        ]

    def end(self, name: str, phase: str, exit_code: int = 0, reason: str = "Completed") -> None:
        """The pod comes to its end."""
        self.pods[name].status.phase = phase
        self.set_state(name, terminated=client.V1ContainerStateTerminated(exit_code=exit_code, reason=reason))

    def bind(self, name: str) -> None:
        """The pod gets a machine and runs."""
        self.pods[name].status.phase = "Running"
        self.pods[name].spec.node_name = "i-1"
        self.set_state(name, running=client.V1ContainerStateRunning())

    def json(self, name: str) -> dict[str, Any]:
        """The pod as the API server's JSON."""
        found: dict[str, Any] = self.api_client.sanitize_for_serialization(self.pods[name])
        return found

    def create_namespaced_pod(self, body: dict[str, Any], namespace: str, **_: Any) -> client.V1Pod:
        name = body["metadata"]["name"]
        if name in self.pods:
            raise ApiException(status=409, reason="AlreadyExists")
        self.created.append(name)
        self.bodies.append(body)
        made = self.put(name, self.phase(body), body["metadata"]["labels"])
        made.spec.affinity = body["spec"].get("affinity")
        self._answer()
        return self.pods[name]

    def read_namespaced_pod(self, name: str, namespace: str, **_: Any) -> client.V1Pod:
        return self._found(name)

    def list_namespaced_pod(self, namespace: str, label_selector: str, **_: Any) -> client.V1PodList:
        self._answer()
        without_checked = "already_checked!=True" in label_selector
        found = [pod for pod in self.pods.values() if pod.metadata.labels.get("already_checked") != "True"]
        return client.V1PodList(items=found if without_checked else list(self.pods.values()))

    def list_namespaced_event(self, namespace: str, field_selector: str = "", **options: Any) -> Any:
        if options.get("_preload_content", True):
            return client.CoreV1EventList(items=[], metadata=client.V1ListMeta())
        found = self.events.get(field_selector.removeprefix("involvedObject.uid="), [])
        return SimpleNamespace(data=json.dumps({"items": found}))

    def read_node(self, name: str, **_: Any) -> Any:
        if self.nodes is None:
            raise ApiException(status=403, reason="Forbidden")
        if name not in self.nodes:
            raise ApiException(status=404, reason="Not Found")
        return SimpleNamespace(data=json.dumps(self.nodes[name]))

    def patch_namespaced_pod(self, name: str, namespace: str, body: dict[str, Any], **_: Any) -> None:
        metadata = self._found(name).metadata
        metadata.resource_version = self._next()
        metadata.labels.update(body["metadata"].get("labels", {}))
        metadata.annotations.update(body["metadata"].get("annotations", {}))

    def delete_namespaced_pod(self, name: str, namespace: str, body: Any = None, **_: Any) -> None:
        pod = self._found(name)
        wanted = getattr(body, "preconditions", None)
        if wanted is not None and wanted.resource_version != pod.metadata.resource_version:
            raise ApiException(status=409, reason="Conflict")
        self.deleted.append(name)
        del self.pods[name]

    def read_namespaced_pod_log(self, name: str, namespace: str, **_: Any) -> Any:
        self._found(name)

        def stream(**_: Any) -> Iterator[bytes]:
            yield b"2026-11-22T10:00:00Z hello\n"
            self.script(name)

        log = mock.MagicMock(stream=stream)
        log.__iter__.side_effect = lambda: iter([b"hello\n"])  # read at once, when a deferred task comes back
        return log

    def read_namespaced_config_map(self, name: str, namespace: str, **_: Any) -> client.V1ConfigMap:
        if name not in self.config_maps:
            raise ApiException(status=404, reason="Not Found")
        found = self.config_maps[name]
        metadata = client.V1ObjectMeta(name=name, resource_version=found.metadata.resource_version)
        return client.V1ConfigMap(metadata=metadata, data=dict(found.data))

    def create_namespaced_config_map(self, namespace: str, body: client.V1ConfigMap, **_: Any) -> None:
        if body.metadata.name in self.config_maps:
            raise ApiException(status=409, reason="AlreadyExists")
        self._store(body)

    def patch_namespaced_config_map(self, name: str, namespace: str, body: dict[str, Any], **_: Any) -> None:
        found = self.read_namespaced_config_map(name, namespace)
        if body.get("metadata", {}).get("resourceVersion") not in (None, found.metadata.resource_version):
            raise ApiException(status=409, reason="Conflict")
        found.data = {key: text for key, text in {**found.data, **body["data"]}.items() if text is not None}
        self._store(found)

    def _store(self, body: client.V1ConfigMap) -> None:
        metadata = client.V1ObjectMeta(name=body.metadata.name, resource_version=self._next())
        self.config_maps[body.metadata.name] = client.V1ConfigMap(metadata=metadata, data=dict(body.data))


class Watch:
    """Stands in for the pod watch: `last` is what the test says was seen."""

    last: dict[str, Any] | None = None
    is_gone = False

    def __init__(self, *_: Any) -> None:
        type(self).last = None

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""


def without_watches(monkeypatch: pytest.MonkeyPatch) -> Kubernetes:
    """A Kubernetes beside which no attempt has a watch or renews a lease."""
    monkeypatch.setattr("tidepool.operators.attempt.PodWatch", Watch)
    monkeypatch.setattr("tidepool.operators.lease.Lease", Watch)
    return Kubernetes()


class Clock:
    """Time that only sleeping moves. at: what happens when, in seconds since its beginning."""

    def __init__(self) -> None:
        self.began = self.now = NOW.timestamp()
        self.at: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for due in [due for due in self.at if self.began + due[0] <= self.now]:
            self.at.remove(due)
            due[1]()

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return self.now - self.began


class Store:
    """Airflow's task state store of one task."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(json.dumps(self.kept.get(key, default)))

    def set(self, key: str, value: Any, **_: Any) -> None:
        self.kept[key] = json.loads(json.dumps(value))


def connect(operator: JobPodOperator, kubernetes: Any) -> JobPodOperator:
    """Give the operator this Kubernetes."""
    operator.hook = mock.MagicMock(
        is_in_cluster=False, core_v1_client=kubernetes, get_pod=lambda name, _: kubernetes.read_namespaced_pod(name, "")
    )
    return operator


def task(kubernetes: Any, **arguments: Any) -> SparkPodOperator:
    """A Spark job against it."""
    operator = SparkPodOperator(**{"task_id": "clean", "application": "clean.py"} | arguments)
    connect(operator, kubernetes)
    return operator


def context(attempt: int = 1, store: Store | None = None) -> dict[str, Any]:
    """Airflow's context of an attempt."""
    ti = mock.MagicMock(dag_id="d", task_id="clean", run_id="r", try_number=attempt, map_index=-1)
    return {"ti": ti, "run_id": "r", "dag": None, **({"task_state_store": store} if store else {})}
