"""HDFS on the local cloud: whichever of its servers is lost, no byte is; and its commands do what they say."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import re
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from infra.cli.namenode import NameNode
from infra.local import cgroups, lake, paths
from infra.local import status as cloud_status
from infra.local.webhdfs import HdfsError, NotThereError, WebHdfs

pytestmark = pytest.mark.local_cloud

NAMESPACE = "tidepool"
NAMENODE, DATANODES = "hdfs-namenode-0", ("hdfs-datanode-0", "hdfs-datanode-1")
BLOCK_BYTES = 1024**2  # the smallest that the NameNode takes
SIZE = 5 * BLOCK_BYTES + 12345


class Hdfs:
    """The shared cloud's HDFS, and what tests do to it."""

    def __init__(self, local: Any) -> None:
        self.local = local
        self.files: WebHdfs = lake.hdfs(local.cloud)
        self.wait_until: Callable[..., Any] = local.wait_until

    def write(self, path: str, seed: int, only_on: str = "") -> str:
        """Write a random file of several blocks; its checksum. only_on: the one DataNode that gets it; else all do."""
        content = random.Random(seed).randbytes(SIZE)  # noqa: S311 - to be written and read, not to be kept secret
        parameters = {"blocksize": str(BLOCK_BYTES)} | ({"replication": "1"} if only_on else {})

        def place() -> str:
            """Where the NameNode says to write: some DataNode, which keeps the first copy itself."""
            told = self.files._namenode("PUT", path, "CREATE", overwrite="true", noredirect="true", **parameters)
            return str(told["Location"]) if only_on in told["Location"] else ""

        self.files._datanode("PUT", self.wait_until(place, 30, f"a write to {only_on or 'any DataNode'}"), content)
        return hashlib.sha256(content).hexdigest()

    def checksum(self, path: str) -> str:
        """Of what is read."""
        return hashlib.sha256(self.files.read(path)).hexdigest()

    def reads(self, path: str, limit: float = 90) -> str:
        """The checksum of what is read as soon as something is, while servers come back."""

        def attempt() -> str:
            with contextlib.suppress(HdfsError):
                return self.checksum(path)
            return ""

        return str(self.wait_until(attempt, limit, f"{path} is read"))

    def well(self, limit: float = 120) -> None:
        """Wait until nothing is wrong: out of safe mode, all DataNodes live, every block with all its replicas."""

        def attempt() -> bool:
            with contextlib.suppress(HdfsError):
                state, blocks = self.files.figures("FSNamesystemState"), self.files.figures("FSNamesystem")
                stale = state["NumStaleDataNodes"]
                return not cloud_status.hdfs_problems(state, blocks, len(DATANODES)) and not stale
            return False

        self.wait_until(attempt, limit, "HDFS is well again")

    def uid(self, pod: str) -> str:
        """The pod's uid; empty while it is not there or not ready."""
        try:
            found = self.local.api.read_namespaced_pod(pod, NAMESPACE)
        except kubernetes.client.ApiException as error:
            if error.status != 404:
                raise
            return ""
        ready = all(status.ready for status in found.status.container_statuses or [])
        return str(found.metadata.uid) if ready and found.status.container_statuses else ""

    def delete(self, pod: str) -> None:
        """Delete a pod at once, without a chance to say good-bye."""
        self.local.api.delete_namespaced_pod(pod, NAMESPACE, grace_period_seconds=0)

    def scale(self, datanodes: int) -> None:
        """As many DataNodes as this, as a deployment would have it; waits until the others are gone or back."""
        apps = kubernetes.client.AppsV1Api(self.local.api.api_client)
        apps.patch_namespaced_stateful_set_scale("hdfs-datanode", NAMESPACE, {"spec": {"replicas": datanodes}})

        def there() -> bool:
            return [bool(self.uid(pod)) for pod in DATANODES] == [place < datanodes for place in range(len(DATANODES))]

        self.wait_until(there, 120, f"there are {datanodes} DataNodes")

    def replicate(self, copies: int) -> None:
        """As many copies of every file, and what `tidepool hdfs decommission` takes for as many as are wanted."""
        maps, name = self.local.api, "hdfs-config"
        data = dict(maps.read_namespaced_config_map(name, NAMESPACE).data)
        data["hdfs-site.xml"], changed = re.subn(
            r"(<name>dfs.replication</name><value>)\d+", rf"\g<1>{copies}", data["hdfs-site.xml"]
        )
        assert changed == 1
        maps.patch_namespaced_config_map(name, NAMESPACE, {"data": data})
        namenode = NameNode(self.local.cloud.kubeconfig, None)
        namenode.must("hdfs", "dfs", "-setrep", "-R", str(copies), "/")
        asked = ("hdfs", "getconf", "-confKey", "dfs.replication")
        # The kubelet brings a changed ConfigMap into a pod that runs within a minute or two, or when the pod changes.
        noted = {"metadata": {"annotations": {"tests/replication": str(copies)}}}
        maps.patch_namespaced_pod(NAMENODE, NAMESPACE, noted)
        self.wait_until(lambda: namenode.must(*asked).strip() == str(copies), 180, "the NameNode's pod has the change")

    def kill(self, pod: str, server: str) -> None:
        """kill -9 the server's process itself."""
        uid = self.local.api.read_namespaced_pod(pod, NAMESPACE).metadata.uid
        found = [
            pid
            for pid in cgroups.pids()
            if uid in Path(f"/proc/{pid}/cgroup").read_text()
            and server.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
            and b"java" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        ]
        assert len(found) == 1, f"one {server} runs in {pod}"
        os.kill(found[0], signal.SIGKILL)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`tidepool hdfs …` against this cloud."""
        whole = [str(paths.REPOSITORY / "tidepool"), "hdfs", *words, "--kubeconfig", str(self.local.cloud.kubeconfig)]
        return subprocess.run(whole, capture_output=True, text=True, timeout=180)


@pytest.fixture
def hdfs(local: Any) -> Iterator[Hdfs]:
    found = Hdfs(local)
    found.well()
    yield found
    found.well()


def test_no_byte_is_lost_with_a_datanode_and_a_restarted_namenode(hdfs: Hdfs) -> None:
    path = f"{hdfs.local.folder.path}/kept"
    written = hdfs.write(path, seed=1)
    assert hdfs.files.figures("FSNamesystem")["UnderReplicatedBlocks"] == 0

    first = hdfs.uid(DATANODES[0])
    hdfs.delete(DATANODES[0])
    assert hdfs.reads(path) == written, "the other DataNode has all of it"
    hdfs.wait_until(lambda: hdfs.uid(DATANODES[0]) not in ("", first), 60, "the DataNode is back")

    hdfs.kill(DATANODES[1], "DataNode")
    assert hdfs.reads(path) == written, "what is back serves what it had: its volume came with it"

    namenode = hdfs.uid(NAMENODE)
    hdfs.delete(NAMENODE)
    hdfs.wait_until(lambda: hdfs.uid(NAMENODE) not in ("", namenode), 120, "the NameNode is back, out of safe mode")
    assert hdfs.reads(path) == written
    hdfs.kill(NAMENODE, "NameNode")
    hdfs.well()
    assert hdfs.checksum(path) == written


def test_a_file_that_is_there_is_whole_though_the_namenode_dies_right_after(hdfs: Hdfs) -> None:
    paths_ = [f"{hdfs.local.folder.path}/many-{number}" for number in range(5)]
    written = [hdfs.write(path, seed) for seed, path in enumerate(paths_)]
    hdfs.kill(NAMENODE, "NameNode")
    assert [hdfs.reads(path) for path in paths_] == written


def test_status_shows_replication_and_safe_mode(hdfs: Hdfs) -> None:
    found = cloud_status.read(hdfs.local.cloud)
    assert found.problems == []
    (row,) = found.hdfs
    assert (row["safe mode"], row["live"], row["dead"], row["replication"]) == ("off", 2, 0, 2)
    assert (row["under-replicated"], row["missing"]) == (0, 0)
    assert row["blocks"] >= 5, "the flights"
    assert [each["datanode"] for each in found.datanodes] == list(DATANODES)

    try:
        assert "Safe mode is ON" in _safe_mode(hdfs, "enter")
        assert any("safe mode" in problem for problem in cloud_status.read(hdfs.local.cloud).problems)
    finally:
        assert "Safe mode is OFF" in _safe_mode(hdfs, "leave")


def test_the_namenode_shows_a_page(hdfs: Hdfs) -> None:
    page = hdfs.files._ask("GET", NAMENODE, 9870, "/index.html").decode()
    assert "<h2>DataNodes</h2>" in page
    assert {"Safemode", "LiveNodes", "DeadNodes", "Used", "Free", "Total"} <= set(hdfs.files.figures("NameNodeInfo"))


def test_commands_report_check_and_save(hdfs: Hdfs, tmp_path: Path) -> None:
    report = hdfs.command("report")
    assert report.returncode == 0
    assert "Live datanodes (2)" in report.stdout
    listed = hdfs.command("dfs", "-ls", "/lake/raw/nycflights13")
    assert (listed.returncode, listed.stdout.count(".csv")) == (0, 5), listed.stdout + listed.stderr
    checked = hdfs.command("fsck", "/lake/raw")
    assert (checked.returncode, "is HEALTHY" in checked.stdout) == (0, True), checked.stdout + checked.stderr
    balanced = hdfs.command("balancer", "--threshold", "50")
    assert balanced.returncode == 0, balanced.stdout + balanced.stderr

    saved = tmp_path / "metadata.tar"
    assert hdfs.command("save-metadata", str(saved)).returncode == 0
    with tarfile.open(fileobj=io.BytesIO(saved.read_bytes())) as archive:
        names = {Path(name).name.split("_")[0] for name in archive.getnames()}
    assert {"VERSION", "fsimage", "seen"} <= names
    assert hdfs.files.figures("FSNamesystemState")["FSState"] == "Operational", "files can be written again"


def test_saved_metadata_is_put_back_and_what_came_later_is_gone(hdfs: Hdfs, tmp_path: Path) -> None:
    before, later = f"{hdfs.local.folder.path}/before", f"{hdfs.local.folder.path}/later"
    written = hdfs.write(before, seed=7)
    saved = tmp_path / "metadata.tar"
    assert hdfs.command("save-metadata", str(saved)).returncode == 0
    hdfs.write(later, seed=8)
    restored = hdfs.command("restore-metadata", str(saved), "--yes")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    hdfs.well()
    assert hdfs.checksum(before) == written
    assert not hdfs.files.exists(later)
    rewritten = hdfs.write(later, seed=10)  # its blocks have the numbers of those that were lost
    assert hdfs.checksum(later) == rewritten


def test_a_datanode_that_replicas_need_is_not_decommissioned(hdfs: Hdfs) -> None:
    refused = hdfs.command("decommission", DATANODES[1])
    assert refused.returncode == 1
    assert "1 DataNodes would be left for 2 replicas" in refused.stderr
    unknown = hdfs.command("decommission", "hdfs-datanode-7")
    assert unknown.returncode == 1
    assert "there are hdfs-datanode-0, hdfs-datanode-1" in unknown.stderr


def test_a_datanode_that_was_decommissioned_goes_without_a_byte_and_comes_back(hdfs: Hdfs) -> None:
    path, leaving = f"{hdfs.local.folder.path}/moved", DATANODES[1]
    try:
        hdfs.replicate(1)
        written = hdfs.write(path, seed=9, only_on=leaving)
        left = hdfs.command("decommission", leaving)
        assert left.returncode == 0, left.stdout + left.stderr
        assert left.stdout.splitlines()[-1] == f"{leaving}: Decommissioned"

        hdfs.scale(1)
        assert hdfs.reads(path) == written, "the other one has what was only there"
        checked = hdfs.command("fsck", path)
        assert (checked.returncode, "is HEALTHY" in checked.stdout) == (0, True), checked.stdout + checked.stderr

        hdfs.scale(2)
        back = hdfs.command("decommission", leaving, "--undo")
        assert back.returncode == 0, back.stdout + back.stderr
        assert back.stdout.splitlines()[-1] == f"{leaving}: In Service"
    finally:
        hdfs.scale(2)
        hdfs.command("decommission", leaving, "--undo")
        hdfs.replicate(2)
    hdfs.well()
    assert hdfs.checksum(path) == written


def test_a_file_that_is_not_there_is_said(hdfs: Hdfs) -> None:
    with pytest.raises(NotThereError, match="not found"):
        hdfs.files.read("/lake/none")


def _safe_mode(hdfs: Hdfs, change: str) -> str:
    return NameNode(hdfs.local.cloud.kubeconfig, None).must("hdfs", "dfsadmin", "-safemode", change)
