"""The tests' own local cloud: started once, used by every test of it, gone at the end.

Its state lies in a folder of its own beside the cache (the same disk: machines are hard links), so that a developer's
lake and events stay as they are. Tests on it come last: others start API servers too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from urllib3.exceptions import HTTPError

from infra import naming
from infra.local import cloud, lake, network, paths
from infra.local.airflow_api import AirflowApi, run_path
from infra.local.aws import Aws, Group
from infra.local.cloud import Cloud
from infra.local.kube import api_client, core_api
from infra.local.progress import Progress
from infra.local.webhdfs import NotThereError, WebHdfs
from tests import waiting
from tidepool import capacity as document
from tidepool import pod as pods
from tidepool.capacity import BREAKERS_CONFIG_MAP
from tidepool.job import Job
from tidepool.ledger import tail
from tidepool.ledger.events import Event
from tidepool.sizing import place

DAGS = Path(__file__).parent / "dags"
SPOT, ON_DEMAND, GPU = "spot-small", "on-demand-small", "gpu"
NAMESPACE = naming.tenant_namespace("jobs")
UNNEEDED_SECONDS = 4
"""How long a machine of the tests' job pools may idle: less than the stack's 10 s, as every test waits for it."""

UNNEEDED_TAG = "k8s.io/cluster-autoscaler/node-template/autoscaling-options/scaledownunneededtime"
FURTHER_IMAGES = ("dask", "h2o", "keeper")
"""What machines have for the tests of the job kinds, and of the keeper in its pod."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "state_home" in getattr(item, "fixturenames", ()))


def wait_until(condition: Callable[[], Any], limit: float, what: str) -> Any:
    """What `condition` returns once that is true; an API server may be away."""
    return waiting.wait_until(condition, limit, what, away=(HTTPError, kubernetes.client.ApiException, OSError))


@pytest.fixture(name="wait_until")
def patience() -> Callable[..., Any]:
    return wait_until


class LakePath:
    """A path in the lake, as jobs see it; a folder's children by `/`."""

    def __init__(self, files: WebHdfs, path: str) -> None:
        self.files, self.path = files, path

    def __truediv__(self, name: str) -> LakePath:
        return LakePath(self.files, f"{self.path}/{name.replace(':', '-')}")  # HDFS has no colons in names

    def names(self) -> list[str]:
        """What is in this folder; nothing if it is not there."""
        try:
            return self.files.names(self.path)
        except NotThereError:
            return []

    def read(self) -> bytes:
        return self.files.read(self.path)

    def touch(self) -> None:
        """Make an empty file."""
        self.files.write(self.path, b"")


class Local:
    """A local cloud that is up, with Airflow on the tests' DAGs, and what tests do with it."""

    wait_until = staticmethod(wait_until)

    def __init__(self, up: Cloud) -> None:
        self.cloud = up
        self.aws = Aws()
        self.api = core_api(up.kubeconfig)
        self.capacity = document.load(up.capacity)
        self.lake = LakePath(WebHdfs(api_client(up.kubeconfig), user="spark"), lake.folder(up))
        self.folder = self.lake / "tests"
        self.lake.files.make_folder(self.folder.path)
        self._airflow: AirflowApi | None = None

    @property
    def airflow(self) -> AirflowApi:
        """Airflow's API, which starts with its first use."""
        if self._airflow is None:
            self.cloud.start_airflow(DAGS)
            self._airflow = AirflowApi.of(self.cloud.state / "airflow")
            self._airflow.wait_ready(120)
        return self._airflow

    def start(self, dag: str) -> str:
        """Start a run of one of the tests' DAGs; its run id."""
        self.airflow.wait_dag(dag, 60)
        return self.airflow.trigger(dag)

    def succeeds(self, dag: str, run: str, limit: float) -> None:
        """Wait until the DAG run has succeeded; one that failed is shown with the end of its tasks' logs."""
        state = wait_until(lambda: self._over(dag, run), limit, f"{dag} {run} is over; it is {self._tasks(dag, run)}")
        assert state == "success", "\n".join(self._tasks(dag, run))

    def _over(self, dag: str, run: str) -> str:
        state = self.airflow.state(dag, run)
        return state if state in ("success", "failed") else ""

    def _tasks(self, dag: str, run: str) -> list[str]:
        told = []
        for task in self.airflow.tasks(dag, run):
            log = self.airflow.log(dag, run, task.task, task.attempt)[-15:] if task.attempt else []
            told += [f"{task.task}: {task.state} at try {task.attempt}", *log]
        return told

    def group(self, pool: str) -> Group:
        """The pool's Auto Scaling Group as it is now."""
        groups = self.aws.groups(self.cloud.cluster)
        return next(group for group in groups if group.labels[document.POOL_LABEL] == pool)

    def node(self, name: str) -> Any:
        """A machine's Node object, or None."""
        return next((node for node in self.api.list_node().items if node.metadata.name == name), None)

    def job_machines(self) -> list[str]:
        """The instances of all job pools."""
        return [one for pool in (SPOT, ON_DEMAND, GPU) for one in self.group(pool).instances]

    def drained(self) -> bool:
        """Whether the job pools are empty everywhere: desired capacity, instances, Node objects, processes, files."""
        groups = [self.group(pool) for pool in (SPOT, ON_DEMAND, GPU)]
        nodes = {node.metadata.labels[document.POOL_LABEL] for node in self.api.list_node().items}
        machines = list((self.cloud.state / "machines").iterdir())
        return not any(group.desired or group.instances for group in groups) and nodes == {"system"} == {
            json.loads((folder / "machine.json").read_text())["instance"]["pool"] for folder in machines
        }

    def drains(self, limit: float = 60) -> None:
        """Wait until it is drained."""
        wait_until(self.drained, limit, "every job machine was given back")

    def machines_asked(self) -> set[str]:
        """Every machine that was ever bought, by the record."""
        return {event.machine for event in tail.read(self.cloud.events) if event.kind == "machine.asked"}

    def pod_events(self, kind: str, run: str) -> list[Event]:
        """What the record says of the pods of a DAG run."""
        return [event for event in tail.read(self.cloud.events) if event.kind == kind and event.run == run]

    def pid(self, process: str) -> int:
        """The id of one of the cloud's processes; 0 while it does not run."""
        rows = {row["name"]: row for row in self.cloud.supervisor.status()}
        return int(rows[process]["pid"]) if rows[process]["statename"] == "RUNNING" else 0

    def kill(self, process: str) -> None:
        """kill -9, and wait until it was started again."""
        old = self.pid(process)
        assert old, f"{process} does not run"
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: self.pid(process) not in (0, old), 30, f"{process} was started again")

    def job_pod(self, name: str, code: str, **asked: Any) -> dict[str, Any]:
        """The manifest of a job's pod, as the operators make it, that runs a Python program."""
        placement = place(Job(task=name, **asked), self.capacity)
        manifest = pods.manifest(placement, self.capacity.images["spark"], self.capacity)
        manifest["metadata"]["name"] = name
        container = manifest["spec"]["containers"][0]
        container["args"] = ["python3", "-c", code]
        return manifest

    def create(self, manifest: dict[str, Any]) -> None:
        """Create a pod among the jobs."""
        self.api.create_namespaced_pod(NAMESPACE, manifest)

    def pod(self, name: str) -> Any:
        """A job's pod, or None."""
        found = self.api.list_namespaced_pod(NAMESPACE, field_selector=f"metadata.name={name}").items
        return found[0] if found else None

    def runs(self, name: str, limit: float = 40) -> str:
        """Wait until the pod runs; the machine that it runs on."""
        return str(wait_until(lambda: self._machine(name), limit, f"pod {name} runs"))

    def _machine(self, name: str) -> str:
        found = self.pod(name)
        return found.spec.node_name if found and found.status.phase == "Running" else ""

    def delete(self, *names: str) -> None:
        """Delete pods at once and wait until they are gone."""
        for name in names:
            with contextlib.suppress(kubernetes.client.ApiException):
                self.api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
        wait_until(lambda: not any(self.pod(name) for name in names), 30, f"pods {', '.join(names)} are gone")

    def clear(self) -> None:
        """End every DAG run, which would launch again and again what a failed test waited for, and delete all pods."""
        if self._airflow is not None:
            for run in self._airflow._call("GET", "/api/v2/dags/~/dagRuns?state=running&state=queued")["dag_runs"]:
                self._airflow._call("PATCH", run_path(run["dag_id"], run["dag_run_id"]), {"state": "failed"})
        self.delete(*(pod.metadata.name for pod in self.api.list_namespaced_pod(NAMESPACE).items))


@pytest.fixture(scope="session")
def state_home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An XDG_STATE_HOME of the tests' own, for all that they start; its logs are kept after a failure."""
    if found := cloud.leftovers():
        pytest.fail(f"a local cloud is up: `./tidepool local down` first; there is {', '.join(found[:5])}")
    namespaces = network.ip("netns", "list")
    home = paths.cache() / "tests-state"
    shutil.rmtree(home, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        try:
            yield home
        finally:
            cloud.down(Progress())
            if not request.session.testsfailed:
                shutil.rmtree(home)
    assert cloud.leftovers() == []
    assert network.ip("netns", "list") == namespaces, "no network namespace of any name stays"


@pytest.fixture(scope="session")
def shared(state_home: Path) -> Iterator[Local]:
    """The cloud that most tests share; TIDEPOOL_AUTOSCALER names a cluster-autoscaler binary for it."""
    given = os.environ.get("TIDEPOOL_AUTOSCALER")
    up = cloud.up(Progress(), Path(given) if given else None, FURTHER_IMAGES)
    lake.fill(up, Progress())
    local = Local(up)
    for pool in (SPOT, ON_DEMAND, GPU):
        tag = {"ResourceId": naming.group_name(up.cluster, pool), "ResourceType": "auto-scaling-group"}
        tag |= {"Key": UNNEEDED_TAG, "Value": f"{UNNEEDED_SECONDS}s", "PropagateAtLaunch": False}
        local.aws.autoscaling.create_or_update_tags(Tags=[tag])
    yield local
    if local._airflow is not None:
        local._airflow.close()


@pytest.fixture
def local(shared: Local) -> Iterator[Local]:
    """The shared cloud, drained and without a word on any pool before the test, and cleared of its pods after it."""
    shared.drains()
    shared.api.patch_namespaced_config_map(BREAKERS_CONFIG_MAP, NAMESPACE, {"data": None})
    yield shared
    shared.clear()
