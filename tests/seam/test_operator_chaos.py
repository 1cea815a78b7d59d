"""An operator in a process of its own on a real API server, disturbed at each step: the breadth of the chaos suite.

No Airflow and no machines: a loop asks the retry policy as Airflow does, and a stand-in for the kubelet runs the pods.
tests/local/test_cloud_job_chaos.py does the same with all of it real. TIDEPOOL_CHAOS_SEED and TIDEPOOL_CHAOS_ROUNDS
mean the same here; 3 rounds are 60 runs.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from infra.local import api_server
from infra.local.pki import Authority, write_kubeconfig
from infra.local.world_kubernetes import ApiServer
from tests.dags.conftest import make_capacity
from tests.local.chaos_gate import GATE, Gate, Stop
from tests.local.chaos_watch import LivePods
from tests.seam.api_server import _binaries
from tests.waiting import wait_until
from tidepool import JobPodOperator
from tidepool import capacity as document
from tidepool.capacity import JOB_PRIORITY_CLASS
from tidepool.outcome import JobFailed

pytestmark = pytest.mark.local_cloud

SEED = 7

DAG, RUN, NAMESPACE, MACHINE = "chaos", "r", "tidepool-analytics", "i-1"
KILLERS = ("worker", "lost_answer", "api_server", "pod")
STEPS = ("before_create", "after_create", "pending", "running", "finishing")
STOPS = {"before_create": "create", "after_create": "created", "pending": "look", "finishing": "delete"}
FAILS, PARALLEL, MOST_ATTEMPTS, LONGEST_SECONDS = 3, 5, 5, 240
AWAY_SECONDS = 3


@dataclass
class Job:
    """One job: what happens to it, and what it ends with."""

    killer: str
    step: str
    number: int
    code: int
    get_logs: bool
    stop: Stop
    go: threading.Event

    @property
    def task(self) -> str:
        return f"{self.killer}.{self.step}.{self.number}".replace("_", "-")


class Kubelet(threading.Thread):
    """Gives pods a machine, and ends those whose job may end, as its programs would; what is deleted goes."""

    def __init__(self, api: client.CoreV1Api, jobs: dict[str, Job]) -> None:
        super().__init__(name="kubelet", daemon=True)
        self._api, self._jobs = api, jobs
        self.ended: dict[str, list[str]] = {}
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.1):
            with contextlib.suppress(ApiException, HTTPError, OSError):
                for pod in self._api.list_namespaced_pod(NAMESPACE, _request_timeout=10).items:
                    with contextlib.suppress(ApiException):
                        self._step(pod)

    def _step(self, pod: Any) -> None:
        name, job = pod.metadata.name, self._jobs[pod.metadata.annotations["tidepool.dev/owner-task"]]
        if pod.metadata.deletion_timestamp is not None:
            self._api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
        elif pod.spec.scheduling_gates or pod.status.phase in ("Succeeded", "Failed"):
            return
        elif not pod.spec.node_name:
            target = client.V1ObjectReference(kind="Node", name=MACHINE)
            binding = client.V1Binding(metadata=client.V1ObjectMeta(name=name), target=target)
            self._api.create_namespaced_binding(NAMESPACE, binding, _preload_content=False)
        elif pod.status.phase == "Pending":
            self._tell(name, "Running", {"running": {"startedAt": now()}})
        elif job.go.is_set():
            told = {"exitCode": job.code, "reason": "Error" if job.code else "Completed", "finishedAt": now()}
            if not job.code:
                self.ended.setdefault(job.task, []).append(name)
                told["message"] = json.dumps(name)
            self._tell(name, "Failed" if job.code else "Succeeded", {"terminated": {**told, "startedAt": now()}})

    def _tell(self, name: str, phase: str, state: dict[str, Any]) -> None:
        container = {"name": "base", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
        status = {"phase": phase, "startTime": now(), "containerStatuses": [container]}
        self._api.patch_namespaced_pod_status(name, NAMESPACE, {"status": status})


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Store:
    """Airflow's task state store, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self._path.read_text()).get(key, default) if self._path.exists() else default

    def set(self, key: str, value: Any, **_: Any) -> None:
        kept = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._path.write_text(json.dumps({**kept, key: value}))


def attempt(task: str, get_logs: bool, number: int, kubeconfig: str, capacity: str, folder: str) -> None:
    """One attempt, in a process of its own as Airflow's are; its end is in `folder`."""
    os.environ["TIDEPOOL_CAPACITY"] = capacity
    api = client.CoreV1Api(config.new_client_from_config(kubeconfig))
    operator = JobPodOperator(
        task_id=task,
        image="spark",
        memory="1Gi",
        market="spot",
        retries=0,
        memory_retries=0,
        do_xcom_push=True,
        get_logs=get_logs,
        startup_check_interval_seconds=1,
        log_events_on_startup=False,
    )
    operator.hook = mock.MagicMock(is_in_cluster=False, core_v1_client=api)
    owner = {"dag_id": DAG, "task_id": task, "run_id": RUN, "map_index": -1}
    ti = mock.MagicMock(**owner, try_number=number, max_tries=operator.retries)
    context = {"ti": ti, "run_id": RUN, "dag": None, "task_state_store": Store(Path(folder) / "store")}
    end = Path(folder) / str(number)
    try:
        said: dict[str, Any] = {"result": operator.execute(context), "cause": "ok", "retry": False}
    except Exception as error:  # noqa: BLE001 - whatever it was is the attempt's end
        policy: Any = operator.retry_policy
        decision = policy.evaluate(error, number, operator.retries, context)
        cause = str(error.cause) if isinstance(error, JobFailed) else repr(error)
        said = {"cause": cause, "words": str(error)[:500], "retry": decision.action.name == "RETRY"}
    end.with_suffix(".new").write_text(json.dumps(said))
    end.with_suffix(".new").rename(end)


class World:
    """An API server behind a gate, and jobs on it."""

    def __init__(self, kubeconfig: Path, gate: Gate, folder: Path) -> None:
        self.gate, self.folder = gate, folder
        self.api = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        self.kubeconfig = folder / "gate.kubeconfig"
        self.capacity = folder / "capacity.json"
        self.capacity.write_text(document.dumps(make_capacity()))
        self.jobs: dict[str, Job] = {}
        self.kubelet = Kubelet(client.CoreV1Api(config.new_client_from_config(str(kubeconfig))), self.jobs)
        self.watch = LivePods(client.CoreV1Api(config.new_client_from_config(str(kubeconfig))), NAMESPACE)
        self.processes = multiprocessing.get_context("forkserver")

    def runs(self, job: Job) -> list[str]:
        """Run a job as Airflow would, and disturb its first attempt; what is not as it should be."""
        folder = self.folder / job.task
        folder.mkdir()
        self.jobs[job.task] = job
        self.gate.expect((DAG, job.task), job.stop)
        if job.step != "running":
            job.go.set()
        limit, ends = time.monotonic() + LONGEST_SECONDS, []
        for number in range(1, MOST_ATTEMPTS + 1):
            arguments = (job.task, job.get_logs, number, str(self.kubeconfig), str(self.capacity), str(folder))
            process = self.processes.Process(target=attempt, args=arguments, daemon=True)
            process.start()
            if number == 1:
                self._disturb(job, process)
            process.join(max(1.0, limit - time.monotonic()))
            if process.is_alive():
                process.kill()
                return [f"{job.task}: attempt {number} does not end"]
            path = folder / str(number)
            if not path.exists():
                ends.append({"cause": "killed", "retry": True})
                continue
            ends.append(json.loads(path.read_text()))
            if not ends[-1]["retry"]:
                break
        return self._wrong(job, ends)

    def _disturb(self, job: Job, process: Any) -> None:
        if job.step == "running":
            wait_until(lambda: self._pods(job, "Running"), 60, f"{job.task} runs")
        else:
            assert job.stop.reached.wait(60), f"{job.task} does not come to {job.step}"
        if job.killer == "worker":
            os.kill(process.pid, signal.SIGKILL)
            process.join(10)
        elif job.killer == "api_server":
            self.gate.go_away()
        elif job.killer == "pod":
            for pod in self._pods(job):
                with contextlib.suppress(ApiException):
                    self.api.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
        elif job.step == "running":
            self.gate.lose((DAG, job.task))
        job.stop.release(lost=job.killer in ("worker", "lost_answer", "api_server"))
        if job.killer == "api_server":
            time.sleep(AWAY_SECONDS)  # the length of the outage, not a wait for anything
            self.gate.is_away = False
        if job.stop.place == "gate":
            self._ungate(job)
        job.go.set()

    def _ungate(self, job: Job) -> None:
        for pod in self._pods(job):
            body = {"spec": {"schedulingGates": [{"$patch": "delete", "name": GATE}]}}
            with contextlib.suppress(ApiException):
                self.api.patch_namespaced_pod(pod.metadata.name, NAMESPACE, body)

    def _pods(self, job: Job, phase: str = "") -> list[Any]:
        found = self.api.list_namespaced_pod(NAMESPACE).items
        mine = [pod for pod in found if pod.metadata.annotations["tidepool.dev/owner-task"] == job.task]
        return [pod for pod in mine if phase in ("", pod.status.phase)]

    def _wrong(self, job: Job, ends: list[dict[str, Any]]) -> list[str]:
        cause = "app_error" if job.code else "ok"
        causes = [end["cause"] for end in ends]
        ended = self.kubelet.ended.get(job.task, [])
        pods = self.watch.pods.get((DAG, RUN, job.task), [])
        found: list[tuple[str, Any, Any]] = [("last cause", causes[-1], cause)]
        before, most = {"killed"} if job.killer == "worker" else set(), 1
        if job.killer == "pod":
            # Deleted by somebody it is cancelled, for good; with neither mark nor machine left, it is unknown, and run
            # again; one that had just come to its end has that.
            before, most = {"unknown"}, 2
            found = [("last cause", causes[-1] in (cause, "cancelled"), True)]
        found += [("causes before", set(causes[:-1]) <= before, True), ("pods", 1 <= len(pods) <= most, True)]
        if causes[-1] == "ok":
            found += [("result", ends[-1]["result"], ended[-1] if ended else None), ("work done", len(ended), 1)]
        wait_until(lambda: not self._pods(job), 60, f"no pod of {job.task} is left")
        wrong = [f"{job.task}: {what} {is_now!r}, not {wanted!r}" for what, is_now, wanted in found if is_now != wanted]
        return [*wrong, *(f"    {end}" for end in ends if wrong)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("chaos")
    etcd, binaries = shutil.which("etcd"), _binaries()
    if etcd is None or binaries is None:
        pytest.skip("etcd or kube-apiserver is not here; `tidepool local up` gets them")
    # The gate ends TLS, and with it the clients' certificates: they have a token instead.
    tokens = folder / "tokens"
    tokens.write_text("chaos,chaos,1,system:masters\n")
    with api_server.started(folder, etcd, binaries, flags=(f"--token-auth-file={tokens}",)) as kubeconfig:
        server = ApiServer(kubeconfig, seconds=90)
        for manifest in (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": JOB_PRIORITY_CLASS},
                "value": 0,
            },
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "job", "namespace": NAMESPACE}},
        ):
            server.apply(manifest)
        authority = Authority(folder / "pki")
        upstream = config.new_client_from_config(str(kubeconfig)).configuration.host
        gate = Gate(authority, upstream)
        write_kubeconfig(folder / "gate.kubeconfig", gate.url, authority.certificate.read_bytes(), {"token": "chaos"})
        made = World(kubeconfig, gate, folder)
        ready = {"type": "Ready", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": now()}
        made.api.create_node({"metadata": {"name": MACHINE}, "status": {"conditions": [ready]}})
        made.api.patch_node_status(MACHINE, {"status": {"conditions": [ready]}})
        made.api.patch_node(MACHINE, {"spec": {"taints": None}})
        made.processes.set_forkserver_preload(["tests.seam.test_operator_chaos"])
        made.kubelet.start()
        made.watch.start()
        yield made
        made.kubelet.done.set()
        made.watch.stop()
        gate.close()


def planned(chance: random.Random, number: int) -> list[Job]:
    jobs = []
    for killer in KILLERS:
        for step in STEPS:
            stop = Stop(STOPS.get(step, ""), "gate" if step == "pending" else "")
            if (killer, step) == ("lost_answer", "finishing"):
                stop.at = "deleted"
            code = 0 if step == "finishing" else chance.choice((0, 0, 0, FAILS))
            jobs.append(Job(killer, step, number, code, chance.random() < 0.3, stop, threading.Event()))
    chance.shuffle(jobs)
    return jobs


def test_one_pod_and_its_result_whatever_dies_at_whatever_step(world: World) -> None:
    seed = int(os.environ.get("TIDEPOOL_CHAOS_SEED") or SEED)
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    rounds = int(os.environ.get("TIDEPOOL_CHAOS_ROUNDS", "1"))
    jobs = [job for number in range(rounds) for job in planned(chance, number)]
    together = [job for job in jobs if job.killer != "api_server"]
    began = time.monotonic()
    problems: list[str] = []
    # An API server that is away is away for all: these are together, and after the others.
    for group in (together, [job for job in jobs if job.killer == "api_server"]):
        with ThreadPoolExecutor(PARALLEL) as workers:
            problems += [problem for found in workers.map(world.runs, group) for problem in found]
    print(f"chaos (seed {seed}): {len(jobs)} runs in {time.monotonic() - began:.0f} s")
    assert not problems + world.watch.twice, "\n".join([f"seed {seed}:", *problems, *world.watch.twice])
    assert world.watch.gaps == 0
