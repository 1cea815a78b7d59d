"""The cluster as the reaper sees it: what it reads of the API server, and on what conditions it removes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiException

from tests.dags.reaper_objects import NAMESPACE, NOW, WORDS, claim, ended, job, member, node
from tidepool.capacity import Capacity
from tidepool.keeper.reaper import CLAIM, IDLE, LOST, OWNERLESS, STRANDED, Finding, look
from tidepool.keeper.reaping import Reaper
from tidepool.keeper.snapshot import Cluster, Mirror, slim
from tidepool.labels import utc
from tidepool.ledger import journal
from tidepool.ledger.events import Event
from tidepool.ledger.journal import Recorder

Object = dict[str, Any]


class Server:
    """The calls of CoreV1Api and CoordinationV1Api that the reaper makes, on objects in memory."""

    def __init__(self) -> None:
        self.pods: list[Object] = []
        self.nodes: list[Object] = []
        self.claims: list[Object] = []
        self.leases: dict[str, float] = {}
        self.denied: set[str] = set()
        self.deleted: list[tuple[str, str, Any]] = []
        self.calls: list[str] = []

    def _answer(self, name: str, body: Any) -> Any:
        self.calls.append(name)
        if name in self.denied:
            raise ApiException(status=403, reason="Forbidden")
        if body is None:
            raise ApiException(status=404, reason="Not Found")
        return SimpleNamespace(data=json.dumps(body))

    def _one(self, call: str, things: list[Object], name: str) -> Any:
        return self._answer(call, next((each for each in things if each["metadata"]["name"] == name), None))

    def read_node(self, name: str, **_: Any) -> Any:
        return self._one("read_node", self.nodes, name)

    def read_namespaced_pod(self, name: str, namespace: str, **_: Any) -> Any:
        return self._one("read_namespaced_pod", self.pods, name)

    def read_namespaced_persistent_volume_claim(self, name: str, namespace: str, **_: Any) -> Any:
        return self._one("read_claim", self.claims, name)

    def read_namespaced_lease(self, name: str, namespace: str, **_: Any) -> Any:
        assert namespace == "kube-node-lease"
        return self._answer("read_lease", self._lease(name) if name in self.leases else None)

    def _lease(self, name: str) -> Object:
        return {"metadata": {"name": name}, "spec": {"renewTime": utc(self.leases[name])}}

    def list_namespaced_lease(self, namespace: str, **_: Any) -> Any:
        return self._answer("list_namespaced_lease", {"items": [self._lease(name) for name in self.leases]})

    def list_persistent_volume_claim_for_all_namespaces(self, **_: Any) -> Any:
        return self._answer("list_persistent_volume_claim_for_all_namespaces", {"items": self.claims})

    def list_pod_for_all_namespaces(self, field_selector: str, **_: Any) -> Any:
        name = field_selector.removeprefix("spec.nodeName=")
        return self._answer("list_pods", {"items": [pod for pod in self.pods if pod["spec"].get("nodeName") == name]})

    def list_namespaced_pod(self, namespace: str, label_selector: str = "", **_: Any) -> Any:
        wanted = dict(each.split("=") for each in label_selector.split(",") if each)
        found = [pod for pod in self.pods if wanted.items() <= pod["metadata"].get("labels", {}).items()]
        return self._answer("list_namespaced_pod", {"items": found})

    def delete_namespaced_pod(self, name: str, namespace: str, body: Any, **_: Any) -> None:
        self._delete("Pod", self.pods, name, body)

    def delete_namespaced_persistent_volume_claim(self, name: str, namespace: str, body: Any, **_: Any) -> None:
        self._delete("PersistentVolumeClaim", self.claims, name, body)

    def _delete(self, kind: str, things: list[Object], name: str, body: Any) -> None:
        found = next((each for each in things if each["metadata"]["name"] == name), None)
        if found is None:
            raise ApiException(status=404)
        about, wanted = found["metadata"], body.preconditions
        if (wanted.uid, wanted.resource_version) != (about["uid"], about["resourceVersion"]):
            raise ApiException(status=409)
        self.deleted.append((kind, name, body.grace_period_seconds))
        things.remove(found)


class Setting:
    """A cluster with its watches in step, and a reaper on it."""

    def __init__(self, capacity: Capacity, file: Path) -> None:
        self.server, self.ledger = Server(), Recorder(file)
        self.pods, self.nodes = Mirror(), Mirror()
        self.lives: bool | None = False
        server: Any = self.server
        self.cluster = Cluster(
            server, server, self.pods, self.nodes, lambda: capacity, self.ledger, lambda owner: WORDS[self.lives]
        )
        self.now = NOW
        self.reaper = Reaper(self.cluster, self.ledger, now=lambda: self.now)

    def look(self) -> None:
        """A look, right after the watches have told everything."""
        self.pods.listed(self.server.pods, self.now)
        self.nodes.listed(self.server.nodes, self.now)
        self.reaper.look()


@pytest.fixture
def setting(capacity: Capacity, tmp_path: Path) -> Setting:
    return Setting(capacity, tmp_path / "events.jsonl")


def finding(thing: Object, rule: Any, kind: str = "Pod") -> Finding:
    about = thing["metadata"]
    return Finding(
        rule, kind, about["name"], about["uid"], "", namespace=NAMESPACE, version=about.get("resourceVersion", "")
    )


def test_an_orphan_has_15_seconds_to_stop_an_executor_its_own_time_and_a_lost_pod_none(setting: Setting) -> None:
    setting.server.nodes = [node("node-1")]
    setting.server.pods = [job("orphan", lease=NOW - 900), job("lost", node="node-9"), job("fine")]
    main = ended(job("main", run="r"), NOW - 900)
    setting.server.pods += [main, member(main, node="node-1")]
    setting.look()
    assert sorted(setting.server.deleted) == [("Pod", "exec-1", None), ("Pod", "lost", 0), ("Pod", "orphan", 15)]


def test_what_changed_in_between_or_is_another_of_the_name_is_not_deleted(setting: Setting) -> None:
    pod = job(lease=NOW - 900)
    setting.server.pods = [pod]
    (version := json.loads(json.dumps(pod)))["metadata"]["resourceVersion"] = "6"
    (uid := json.loads(json.dumps(pod)))["metadata"]["uid"] = "another"
    for other in (version, uid):
        assert not setting.cluster.remove(finding(other, OWNERLESS))
    assert setting.cluster.remove(finding(pod, OWNERLESS))
    assert not setting.cluster.remove(finding(pod, OWNERLESS)), "it is gone"


def test_a_kubelet_that_has_just_renewed_its_lease_keeps_its_pods_although_the_watch_says_it_is_gone(
    setting: Setting,
) -> None:
    setting.server.pods = [job()]
    setting.server.nodes = [node("node-1", ready="Unknown")]
    setting.ledger.record(Event(NOW - 60, "machine.gone", "i-node-1"))
    setting.server.leases = {"node-1": NOW - 10}
    setting.look()
    assert setting.server.deleted == []
    setting.now += 40
    setting.server.leases = {"node-1": setting.now - 50}
    setting.look()
    assert setting.server.deleted == [("Pod", "clean", 0)]


def test_the_kubelets_leases_are_listed_only_when_a_machine_is_unwell(setting: Setting) -> None:
    setting.server.pods, setting.server.nodes = [job()], [node("node-1")]
    setting.look()
    assert "list_namespaced_lease" not in setting.server.calls


def test_a_driver_that_no_watch_shows_is_looked_up_before_its_executor_is_removed(setting: Setting) -> None:
    """Somebody may have taken its labels off: its executors are not stranded for that."""
    driver = job("driver")
    setting.server.pods = [driver, member(driver, node="")]
    hidden = setting.server.pods[1:]
    driver["metadata"]["labels"] = {}
    for seconds in (0, 60, 120):
        setting.now = NOW + seconds
        setting.pods.listed(hidden, setting.now)
        setting.nodes.listed([], setting.now)
        setting.reaper.look()
    assert setting.server.deleted == []
    setting.server.pods = hidden
    setting.reaper.look()
    assert setting.server.deleted == [("Pod", "exec-1", None)]


def test_a_claim_that_any_pod_of_its_namespace_mounts_stays(setting: Setting) -> None:
    setting.server.claims = [claim()]
    stranger = {
        "metadata": {"name": "debug", "namespace": NAMESPACE, "uid": "u"},
        "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "scratch"}}]},
        "status": {"phase": "Running"},
    }
    for seconds, pods, expected in ((0, [], 0), (900, [stranger], 0), (910, [], 1)):
        setting.now = NOW + seconds
        setting.pods.listed([], setting.now)
        setting.nodes.listed([], setting.now)
        setting.server.pods = pods
        setting.reaper.look()
        assert len(setting.server.deleted) == expected


@pytest.mark.parametrize(("kind", "reported"), [("ReplicaSet", False), ("DaemonSet", True), ("Node", True)])
def test_a_machine_on_which_others_work_is_not_idle(setting: Setting, kind: str, reported: bool) -> None:
    setting.server.nodes = [node("node-1")]
    other = {"metadata": {"name": "x", "uid": "u", "namespace": "web", "ownerReferences": [{"kind": kind}]}}
    setting.server.pods = []
    setting.look()
    setting.now += IDLE.grace
    setting.pods.listed([], setting.now)
    setting.server.pods = [other | {"spec": {"nodeName": "node-1"}, "status": {"phase": "Running"}}]
    setting.reaper.look()
    assert bool(setting.ledger.events("reaper.found")) is reported


@pytest.mark.parametrize("call", ["list_persistent_volume_claim_for_all_namespaces", "list_namespaced_lease"])
def test_without_a_right_it_does_the_rest(setting: Setting, call: str) -> None:
    setting.server.denied = {call}
    setting.server.nodes = [node("node-1")]
    setting.server.pods = [job(lease=NOW - 900), job("away", node="node-9")]
    setting.look()
    assert {name for _, name, _ in setting.server.deleted} == {"clean", "away"}


def test_nothing_is_looked_at_before_both_watches_have_told(setting: Setting) -> None:
    setting.server.pods = [job(lease=NOW - 900)]
    setting.pods.listed(setting.server.pods, NOW)
    assert setting.cluster.world(NOW) is None
    setting.reaper.look()
    assert setting.server.deleted == []


def test_a_mirror_keeps_what_the_watch_tells_and_hands_it_on() -> None:
    heard: list[tuple[str, Any]] = []
    beside = SimpleNamespace(
        listed=lambda things, now: heard.append(("listed", len(things))),
        changed=lambda kind, thing, now: heard.append((kind, thing["metadata"]["name"])),
        in_step=lambda now: heard.append(("in step", now)),
    )
    mirror = Mirror(beside)
    assert mirror.things() is None
    mirror.listed([job("a"), job("b")], NOW)
    mirror.changed("MODIFIED", job("a", phase="Succeeded"), NOW)
    mirror.changed("ADDED", job("c"), NOW)
    mirror.changed("DELETED", job("b"), NOW)
    mirror.in_step(NOW)
    things = mirror.things()
    assert things is not None
    assert {each["metadata"]["name"]: each["status"]["phase"] for each in things} == {"a": "Succeeded", "c": "Running"}
    assert heard == [("listed", 2), ("MODIFIED", "a"), ("ADDED", "c"), ("DELETED", "b"), ("in step", NOW)]


def _everything() -> tuple[list[Object], list[Object], list[Object]]:
    driver = job("driver", lease=NOW - 900)
    mounts = job("mounts")
    mounts["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "scratch"}}]
    pods = [driver, member(driver), member(job("absent"), "exec-2"), job("away", node="node-9"), mounts]
    shut = node("node-3", ready="Unknown", taints=[{"key": "node.cloudprovider.kubernetes.io/shutdown"}])
    return [*pods, job("shut", node="node-3")], [node("node-1"), node("node-2"), shut], [claim()]


def test_what_is_left_of_an_object_is_all_that_the_rules_read(setting: Setting) -> None:
    pods, nodes, claims = _everything()

    def found(change: Callable[[Object], Object]) -> list[Finding]:
        setting.pods.listed([], NOW)
        world = setting.cluster._world(NOW, map(change, pods), map(change, nodes), {}, map(change, claims))
        return look(world)

    whole = found(lambda thing: thing)
    assert whole == found(slim)
    assert {each.rule for each in whole} >= {LOST, OWNERLESS, STRANDED}
    assert CLAIM not in {each.rule for each in whole}


def test_each_removal_is_in_the_ledger_with_its_reason_before_it_happens(setting: Setting, tmp_path: Path) -> None:
    setting.server.nodes = [node("node-1")]
    setting.server.pods = [job(lease=NOW - 900)]
    written: list[str] = []
    delete = setting.server.delete_namespaced_pod

    def spy(*arguments: Any, **options: Any) -> None:
        written.extend(event.kind for event in journal.read(tmp_path / "events.jsonl"))
        delete(*arguments, **options)

    setting.server.delete_namespaced_pod = spy  # type: ignore[method-assign]
    setting.look()
    assert written == ["reaper.found"]
    assert [event.kind for event in journal.read(tmp_path / "events.jsonl")] == ["reaper.found", "reaper.removed"]
