"""TPC-H on the local cloud: the same program, Spark and data in a pod, in pods of several machines, and in none.

Each mode has as many task threads and as much memory. The pods are the operators' own. The run without a pod is the
same command from the same image's files, on the host, in a control group with the pod's CPU and memory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import naming
from infra.local import cgroups, lake, paths, tpch_answers, waiting
from infra.local.errors import LocalError
from infra.local.kube import core_api
from infra.local.progress import Progress
from infra.local.state import Cloud
from infra.local.tpch_answers import Rows
from infra.services.hdfs_config import NAMENODE
from tidepool import capacity, pod
from tidepool.capacity import POOL_LABEL

POD, EXECUTORS, HOST = "pod", "executors", "host"
MODES = {
    POD: "Spark in one pod",
    EXECUTORS: "driver and 2 executors",
    HOST: "local[2] without a pod",
}
CORES, MEMORY_GIB = 2, 6
DAG = f"""\
from airflow.sdk import DAG
from tidepool import SparkClusterOperator, SparkPodOperator

with DAG("tpch", schedule=None, default_args={{"application": "tpch.py", "application_args": ["$ARGUMENTS"]}}):
    SparkPodOperator(task_id="{POD}", cores={CORES}, memory="{MEMORY_GIB}Gi")
    SparkClusterOperator(
        task_id="{EXECUTORS}", executors={CORES}, cores=1, memory="2Gi", exclusive=False, driver_memory="2Gi"
    )
"""
"""Two executors with a core and 2 GiB each, which one machine has room for, and a driver with 2 GiB: as much as the
one pod. Each program is given its arguments instead of the placeholder."""

QUERIES = paths.REPOSITORY / "dags" / "jobs" / "tpch.sql"
LIMIT_SECONDS = 1800.0
_LOOK_SECONDS = 0.1
_HOST_GROUP = "tpch-host"


class TpchError(LocalError):
    """A run failed or answered wrongly; the message says which and how."""


@dataclass(frozen=True)
class Run:
    """One run of all queries, in seconds. queries: of each by its number.

    waited: from the submission to the program's start, a machine bought in between; started: until Spark was there,
    with its executors; whole: from the submission to the end.
    """

    mode: str
    waited: float
    started: float
    queries: Mapping[int, float]
    whole: float

    @property
    def querying(self) -> float:
        """All queries together."""
        return sum(self.queries.values())


class Bench:
    """TPC-H of one scale factor on a local cloud that is up. pods: the modes' pods as the operators make them."""

    def __init__(self, there: Cloud, scale: float, pods: Mapping[str, Mapping[str, Any]], progress: Progress) -> None:
        self._there, self._scale, self._pods = there, scale, pods
        self._api = core_api(there.kubeconfig)
        self._files, self._top = lake.hdfs(there), lake.folder(there)
        self._data = f"{self._top}/raw/tpch/sf{scale:g}"
        with progress.step(f"TPC-H's tables of scale factor {scale:g}"):
            folder = generated(scale)
            self._upload(folder)
            self._answers = tpch_answers.answers(tpch_answers.queries(QUERIES, scale), folder)

    def run(self, mode: str) -> Run:
        """Run it once, from no machine for jobs. Raises TpchError where it fails or an answer is not right."""
        self._drained()
        result = f"{self._top}/tpch/{mode}.json"
        self._files.delete(result)
        submitted = time.time()
        if mode == HOST:
            self._on_host(result)
        else:
            self._in_pods(mode, result)
        over = time.time()
        told = json.loads(self._files.read(result))
        rows: dict[int, Rows] = {int(number): each["rows"] for number, each in told["queries"].items()}
        if wrong := tpch_answers.differences(rows, self._answers):
            raise TpchError(f"{MODES[mode]}: {'; '.join(wrong)}")
        if told["cores"] != CORES:
            raise TpchError(f"{MODES[mode]}: Spark had {told['cores']} task threads instead of {CORES}")
        return Run(
            mode,
            waited=told["started"] - submitted,
            started=told["ready"] - told["started"],
            queries={int(number): each["seconds"] for number, each in told["queries"].items()},
            whole=over - submitted,
        )

    def _upload(self, folder: Path) -> None:
        if self._files.exists(self._data):
            return
        making = f"{self._data}.making"
        self._files.delete(making)
        self._files.make_folder(making)
        for file in sorted(folder.glob("*.parquet")):
            with file.open("rb") as content:
                self._files.write(f"{making}/{file.name}", content)
        self._files.rename(making, self._data)

    def _arguments(self, mode: str, lake_uri: str, result: str) -> list[str]:
        """The command line of the mode's pod; the host's is that of the one pod."""
        [container] = self._pods[POD if mode == HOST else mode]["spec"]["containers"]
        uri = lake_uri.removesuffix(self._top)
        arguments = [str(each) for each in container["args"]]
        if arguments[-1] != "$ARGUMENTS":
            raise TpchError(f"the pod of {MODES[mode]} does not end with its program's arguments: {arguments}")
        return [*arguments[:-1], f"{self._scale:g}", f"{uri}{self._data}", f"{uri}{result}"]

    def _in_pods(self, mode: str, result: str) -> None:
        document = capacity.load(self._there.capacity)
        manifest = json.loads(json.dumps(self._pods[mode]))
        namespace, name = manifest["metadata"]["namespace"], f"tpch-{mode}"
        labels, _ = pod.owner("tpch", mode, "bench", 1, document.default_tenant)
        manifest["metadata"] |= {"name": name, "labels": {**manifest["metadata"]["labels"], **labels}}
        if document.lake is None:
            raise TpchError("the local cloud has no lake")
        manifest["spec"]["containers"][0]["args"] = self._arguments(mode, document.lake.uri, result)
        self._api.create_namespaced_pod(namespace, manifest)
        try:
            self._ends(name, namespace, mode)
        finally:
            self._api.delete_namespaced_pod(name, namespace, grace_period_seconds=0)

    def _ends(self, name: str, namespace: str, mode: str) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while (phase := self._api.read_namespaced_pod(name, namespace).status.phase) != "Succeeded":
            if phase == "Failed":
                log = self._api.read_namespaced_pod_log(name, namespace, tail_lines=20)
                raise TpchError(f"{MODES[mode]} failed; the end of its log:\n{log}")
            if time.monotonic() > deadline:
                raise TpchError(f"{MODES[mode]} is {phase} after {LIMIT_SECONDS:.0f} s")
            time.sleep(_LOOK_SECONDS)

    def _drained(self) -> None:
        """Until there is no machine for jobs, so that every run buys its own."""
        jobs = {each.name for each in capacity.load(self._there.capacity).pools.values() if each.jobs}

        def gone() -> bool:
            nodes = self._api.list_node().items
            return not any((node.metadata.labels or {}).get(POOL_LABEL) in jobs for node in nodes)

        failure = TpchError(f"machines for jobs are still there after {LIMIT_SECONDS:.0f} s: `tidepool local logs`")
        waiting.until(gone, LIMIT_SECONDS, failure, _LOOK_SECONDS)

    def _on_host(self, result: str) -> None:
        """The one pod's command on this host, in the image's files, with the pod's CPU, memory and user."""
        namenode = self._api.read_namespaced_pod(f"{NAMENODE}-0", naming.PLATFORM_NAMESPACE).status.pod_ip
        command = self._arguments(HOST, f"hdfs://{namenode}:8020{self._top}", result)  # no cluster DNS here
        [container] = self._pods[POD]["spec"]["containers"]
        root, log = paths.RUN / "tpch", self._there.state / "log" / "tpch-host.log"
        containerd = self._containerd()
        root.mkdir(parents=True, exist_ok=True)
        images = ["ctr", "--address", str(containerd), "--namespace", "k8s.io", "images"]
        scratch = Path(tempfile.mkdtemp(prefix="tpch-", dir=self._there.state))
        scratch.chmod(0o777)
        try:
            subprocess.run([*images, "mount", container["image"], str(root)], check=True, capture_output=True)
            with log.open("wb") as output:
                done = subprocess.run(
                    [*_bounded(), *_inside(root, scratch), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=LIMIT_SECONDS,
                )
        finally:
            cgroups.kill(_HOST_GROUP)
            subprocess.run([*images, "unmount", "--rm", str(root)], capture_output=True)
            shutil.rmtree(scratch)
        if done.returncode:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise TpchError(f"{MODES[HOST]} failed; the end of {log}:\n{last}")

    def _containerd(self) -> Path:
        """The containerd of a machine that stays: it has the image."""
        for folder in sorted((self._there.state / "machines").iterdir()):
            if json.loads((folder / "machine.json").read_text())["instance"]["pool"] == "system":
                return paths.RUN / folder.name / "containerd.sock"
        raise TpchError("the local cloud has no system machine: `tidepool local status`")


def generated(scale: float) -> Path:
    """The folder with <table>.parquet of this scale factor; made once. Raises TpchError."""
    folder = paths.cache() / "tpch" / f"sf{scale:g}"
    if folder.exists():
        return folder
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    generator = str(Path(sys.executable).with_name("tpchgen-cli"))
    command = [generator, "parquet", "--scale-factor", f"{scale:g}", "--quiet", "--output-dir", str(making)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise TpchError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    making.rename(folder)
    return folder


def _bounded() -> list[str]:
    """The beginning of a command line whose process has the pod's CPU and memory, and no more."""
    cgroups.create(_HOST_GROUP, cpus=CORES)
    limit, group = str(MEMORY_GIB * 1024**3), Path(cgroups.NAME) / _HOST_GROUP
    if cgroups.version() == 2:
        groups = [cgroups.ROOT / group]
        (groups[0] / "memory.max").write_text(limit)
    else:
        groups = [cgroups.tracking() / _HOST_GROUP, cgroups.ROOT / "cpu" / group, cgroups.ROOT / "memory" / group]
        (groups[-1] / "memory.limit_in_bytes").write_text(limit)
    enter = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
    return ["sh", "-c", enter, "sh", *map(str, groups), "--"]


def _inside(root: Path, scratch: Path) -> list[str]:
    """… and sees the image's files, with mounts that are gone with it, a folder of its own as /tmp, and its user."""
    mounts = f"mount --bind {scratch} {root}{pod.SCRATCH_FOLDER} && mount -t proc proc {root}/proc"
    mounts += f" && mount --bind /dev {root}/dev && mount --bind /etc/hosts {root}/etc/hosts"
    environment = ["env", "-i", f"HOME={pod.SCRATCH_FOLDER}", "PYTHONUNBUFFERED=1", "LANG=C.UTF-8"]
    environment += ["PATH=/opt/spark/bin:/usr/local/bin:/usr/bin:/bin"]
    environment += ["SPARK_LOCAL_IP=127.0.0.1", "SPARK_LOCAL_HOSTNAME=localhost"]  # the host's name may not be in hosts
    become = ["chroot", f"--userspec={pod.USER_ID}:{pod.USER_ID}", str(root), *environment]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mounts} && exec "$@"', "sh", *become]
