"""`tidepool hdfs restore-metadata` towards the API server: whatever fails, the NameNode runs again."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes
import pytest
from kubernetes.client import ApiException

from infra import naming
from infra.cli import hdfs_restore
from infra.cli.hdfs_restore import RestoreError
from infra.services import hdfs_pods
from infra.services.hdfs_config import HIGH_AVAILABILITY, NAMENODE
from infra.services.placement import Placement
from infra.settings import model

ONE = model.Hdfs(datanodes=3, replication=3, volume_gib=500, namenode_volume_gib=20, high_availability=False)
PAIR = dataclasses.replace(ONE, high_availability=True)
PLACEMENT = Placement(naming.node_labels(naming.SYSTEM_POOL), naming.SYSTEM_TAINTS)


class Cluster:
    """An API server with a NameNode and nothing else. fails: calls that are refused, with the status."""

    def __init__(self, settings: model.Hdfs, replicas: int | None = None) -> None:
        server = hdfs_pods.servers(settings)[0]
        spec = hdfs_pods.stateful_set(server, settings, "hdfs:1", PLACEMENT, "gp3")
        self.spec = spec if replicas is None else {**spec, "replicas": replicas}
        self.pods = {f"{NAMENODE}-{number}" for number in range(self.spec["replicas"])}
        self.replicas: int = self.spec["replicas"]
        self.fails: dict[str, int] = {}
        self.stuck = False
        self.said: list[str] = []
        self.mounted: dict[str, Any] = {}
        self.unpacked: list[tuple[str, str, str]] = []

    def _may(self, call: str) -> None:
        if call in self.fails:
            raise ApiException(status=self.fails[call], reason=call)

    def unpack(self, then: str) -> None:
        self._may("unpack")
        (claim,) = [
            each["persistentVolumeClaim"]["claimName"] for each in self.mounted["volumes"] if "persistent" in str(each)
        ]
        self.unpacked.append((claim, self.mounted["hostname"], then))

    def read_namespaced_stateful_set(self, name: str, namespace: str) -> Any:
        text = json.dumps({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": self.spec})
        return kubernetes.client.ApiClient().deserialize(SimpleNamespace(data=text), "V1StatefulSet")

    def patch_namespaced_stateful_set_scale(self, name: str, namespace: str, body: Any) -> None:
        self._may("start" if body["spec"]["replicas"] else "stop")
        self.replicas = body["spec"]["replicas"]
        if not self.stuck:
            self.pods = {each for each in self.pods if not each.startswith(NAMENODE)}

    def create_namespaced_pod(self, namespace: str, body: Any) -> None:
        self._may("create")
        assert body["metadata"]["name"] not in self.pods
        assert not self.replicas, "two pods would write to one volume"
        self.pods.add(body["metadata"]["name"])
        self.mounted = body["spec"]

    def delete_namespaced_pod(self, name: str, namespace: str, grace_period_seconds: int) -> None:
        self._may("delete")
        if name not in self.pods:
            raise ApiException(status=404, reason="Not Found")
        self.pods.remove(name)

    def list_namespaced_pod(self, namespace: str, field_selector: str) -> Any:
        found = {field_selector.removeprefix("metadata.name=")} & self.pods
        return SimpleNamespace(items=[SimpleNamespace(status=SimpleNamespace(phase="Running")) for _ in found])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return stand_in(monkeypatch, Cluster(ONE))


def stand_in(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> Cluster:
    for api in ("CoreV1Api", "AppsV1Api"):
        monkeypatch.setattr(kubernetes.client, api, lambda _: cluster)
    monkeypatch.setattr(hdfs_restore, "_unpack", lambda api, content, then: cluster.unpack(then))
    monkeypatch.setattr(hdfs_restore, "_SECONDS", 0.0)
    return cluster


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return archive(tmp_path / "saved.tar", "name/current/VERSION")


def archive(file: Path, name: str) -> Path:
    with tarfile.open(file, "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return file


def restore(cluster: Cluster, file: Path) -> int:
    return hdfs_restore.restore(file, kubernetes.client.ApiClient(), cluster.said.append)


def test_the_namenode_is_stopped_while_its_volume_is_written_and_started_again(cluster: Cluster, saved: Path) -> None:
    assert restore(cluster, saved) == 1
    assert (cluster.replicas, hdfs_restore.POD in cluster.pods) == (1, False)
    assert cluster.said == [
        "the NameNode stops",
        f"{saved} goes onto the volume of {NAMENODE}-0",
        "the NameNode starts",
    ]
    assert cluster.unpacked == [(f"data-{NAMENODE}-0", f"{NAMENODE}-0", "true")]


@pytest.mark.parametrize("call", ["stop", "create", "unpack", "delete"])
def test_whatever_is_refused_the_namenode_runs_again(cluster: Cluster, saved: Path, call: str) -> None:
    cluster.fails[call] = 403
    with pytest.raises(ApiException) as refused:
        restore(cluster, saved)
    assert (refused.value.status, refused.value.reason) == (403, call)
    assert cluster.replicas == 1


def test_a_namenode_that_does_not_stop_is_not_left_off(cluster: Cluster, saved: Path) -> None:
    cluster.stuck = True
    with pytest.raises(RestoreError, match="the NameNode's pod is gone"):
        restore(cluster, saved)
    assert cluster.replicas == 1


def test_one_that_can_not_be_started_is_said_with_the_way_out(cluster: Cluster, saved: Path) -> None:
    cluster.fails["start"] = 403
    with pytest.raises(RestoreError, match=f"scale statefulset {NAMENODE} --replicas=1"):
        restore(cluster, saved)


def test_what_a_restore_left_behind_that_was_killed_is_no_hindrance(
    monkeypatch: pytest.MonkeyPatch, saved: Path
) -> None:
    cluster = stand_in(monkeypatch, Cluster(ONE, replicas=0))
    cluster.pods.add(hdfs_restore.POD)
    restore(cluster, saved)
    assert (cluster.replicas, cluster.pods) == (1, set())


@pytest.mark.parametrize("replicas", [2, 0])
def test_with_high_availability_both_volumes_are_written_and_the_journal_begins_anew(
    monkeypatch: pytest.MonkeyPatch, saved: Path, replicas: int
) -> None:
    """The number of replicas says nothing of it: a NameNode that was stopped has none."""
    cluster = stand_in(monkeypatch, Cluster(PAIR, replicas))
    assert restore(cluster, saved) == 2
    assert cluster.unpacked == [
        (f"data-{NAMENODE}-1", f"{NAMENODE}-1", "true"),
        (f"data-{NAMENODE}-0", f"{NAMENODE}-0", hdfs_restore.NEW_JOURNAL),
    ]
    assert {"name": HIGH_AVAILABILITY, "value": "true"} in cluster.mounted["containers"][0]["env"]
    assert (cluster.replicas, cluster.pods) == (2, set())


@pytest.mark.parametrize("call", ["stop", "create", "unpack", "delete"])
def test_whatever_is_refused_both_namenodes_run_again(monkeypatch: pytest.MonkeyPatch, saved: Path, call: str) -> None:
    cluster = stand_in(monkeypatch, Cluster(PAIR))
    cluster.fails[call] = 403
    with pytest.raises(ApiException):
        restore(cluster, saved)
    assert cluster.replicas == 2


class TwoNameNodes:
    """Stands in for NameNode: reasons for safe mode by pod, and whether somebody forced them out of it."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        self.pods = list(reasons)

    def safe_mode(self, pod: str) -> str:
        return self.reasons[pod]

    def must(self, *command: str) -> str:
        assert command == ("hdfs", "dfsadmin", "-safemode", "forceExit")
        self.reasons = dict.fromkeys(self.reasons, "")
        return ""


def test_every_namenode_is_out_of_safe_mode_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdfs_restore, "_SECONDS", 0.0)
    late = "Safe mode is ON. Name node detected blocks with generation stamps in future."
    pair: Any = TwoNameNodes({"0": "", "1": late})
    with pytest.raises(RestoreError):  # it is asked once, and was not out then
        hdfs_restore.leave_safe_mode(lambda: pair, 2)
    hdfs_restore.leave_safe_mode(lambda: pair, 2)
    alone: Any = TwoNameNodes({"0": ""})
    with pytest.raises(RestoreError):
        hdfs_restore.leave_safe_mode(lambda: alone, 2)


@pytest.mark.parametrize("name", ["name/current/fsimage", ""])
def test_a_file_that_save_metadata_did_not_write_stops_nothing(cluster: Cluster, tmp_path: Path, name: str) -> None:
    file = tmp_path / "other"
    archive(file, name) if name else file.write_text("no tar file")
    with pytest.raises(RestoreError, match="nothing was touched"):
        restore(cluster, file)
    assert (cluster.replicas, cluster.said) == (1, [])


@pytest.mark.parametrize(("then", "kept"), [("true", True), ("false", False)])
def test_metadata_is_replaced_whole_and_what_was_there_is_kept_or_put_back(
    tmp_path: Path, saved: Path, then: str, kept: bool
) -> None:
    (volume := tmp_path / "volume").mkdir()
    (volume / "name").mkdir()
    (volume / "name" / "before").touch()
    text = base64.b64encode(saved.read_bytes())
    command = hdfs_restore.script(len(text), then).replace("/data", str(volume))
    done = subprocess.run(["bash", "-c", command], input=text + b"more that the stream may bring", check=False)
    assert (done.returncode == 0) is kept
    new, old = volume / "name" / "current" / "VERSION", "name.*/before" if kept else "name/before"
    assert new.exists() is kept
    assert len(list(volume.glob(old))) == 1
    assert len(list(volume.iterdir())) == (2 if kept else 1)
