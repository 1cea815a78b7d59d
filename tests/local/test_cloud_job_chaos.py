"""Whatever dies at whatever step of a job: one live pod, the right result, nothing left, and the end that was injected.

Each killer has a DAG run with a job at each step of an operator, deferrable and not, all on one machine. A gate between
Airflow and the API server stops a job exactly there; what is killed is real.

TIDEPOOL_CHAOS_SEED: the seed of the moments, of what each job ends with, and of what dies with a worker, which is
printed; else the same each time. TIDEPOOL_CHAOS_ROUNDS: how often all of it is run (1).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes
import psutil
import pytest

from infra import naming
from infra.local import addresses, airflow, paths
from infra.local.airflow_api import AirflowApiError, run_path
from infra.local.pki import Authority
from infra.local.progress import Progress
from infra.local.reclaim import reclaim
from tests.local.chaos_gate import GATE, Gate, Stop
from tests.local.chaos_watch import LivePods
from tidepool.ledger.events import Event

pytestmark = pytest.mark.local_cloud

NAMESPACE = naming.tenant_namespace("jobs")
PARTS = {"scheduler": "airflow-scheduler", "triggerer": "airflow-triggerer", "api_server": "kube-apiserver"}
ONE_BY_ONE = ("worker", "lost_answer")
MACHINE = {"reclaim": "evicted", "spot_notice": "spot_reclaim", "node_lost": "node_lost"}
"""Killers of machines, and the cause of what runs there: a drain evicts, one that its node says to be for a spot
machine's notice takes it back, and without either it is lost."""
LATE = {"reclaim": ("node_lost",), "spot_notice": ("node_lost", "evicted")}
"""What a worker finds that looks once the machine is gone, and with it what its node said."""

STEPS = ("before_create", "after_create", "pending", "running", "finishing")
MODES = ("sync", "deferrable")
ENDS = ("ok", "app_error", "out_of_memory", "image_pull", "unschedulable", "timed_out", "cancelled")
STOPS = {"before_create": "create", "after_create": "created", "finishing": "delete"}
FAILS = 3
"""The exit code of a job that is to fail."""

MISREAD = re.compile(r"TaskInstance: chaos_\w+\.(deferrable\S+) (\S+) \[\w+\].* finished with state success, but")
"""What Airflow's scheduler says when it ends an attempt by mistake, as it does on a busy machine: the task came back
from the triggerer before the scheduler had heard that the worker which deferred it had ended (#67287, #72716)."""

MOST_MISREAD = 4

SEED = 7
LEAST_RUNS = 60
LONGEST_RUN_SECONDS = 240
SETTINGS = {
    "parallelism = 4": "parallelism = 14\ndagbag_import_timeout = 120",
    "task_instance_heartbeat_timeout = 60": "task_instance_heartbeat_timeout = 30",
    "[dag_processor]": "[triggerer]\ntriggerer_health_check_threshold = 10\njob_heartbeat_sec = 2\n\n[dag_processor]",
}
"""Of Airflow's configuration: ten jobs are stopped at once, and what is dead is found sooner."""


@dataclasses.dataclass
class Run:
    """One task, and what happens to it. code: its exit code. uid: of its pod on the machine that was taken."""

    killer: str
    mode: str
    step: str
    stop: Stop
    code: int = 0
    parked: float = 0.0
    struck: bool = False
    uid: str = ""
    release_at: float = 0.0
    released: bool = False

    @property
    def task(self) -> str:
        return f"{self.mode}.{self.step}"

    @property
    def dag(self) -> str:
        return f"chaos_{self.killer}"


class Chaos:
    """The cloud with a gate before its API server, a count of live pods, and the seed's choices."""

    def __init__(self, local: Any, gate: Gate, watch: LivePods, seed: int) -> None:
        self.local, self.gate, self.watch = local, gate, watch
        self.random = random.Random(seed)  # noqa: S311 - to be repeated
        self.seed = seed
        self.runs: dict[str, int] = {}
        self.taken: set[str] = set()
        self.misread: list[str] = []
        self.rounds = int(os.environ.get("TIDEPOOL_CHAOS_ROUNDS", "1"))

    def say(self, text: str) -> None:
        print(f"chaos (seed {self.seed}): {text}", flush=True)

    def folder(self, run: str, task: str) -> Any:
        return self.local.folder / "chaos" / run / task

    def states(self, dag: str, run: str) -> dict[str, Any]:
        return {each.task: each for each in self.local.airflow.tasks(dag, run)}

    def pod(self, dag: str, run: str, task: str) -> Any:
        """The task's newest pod, as it is now; None for none."""
        found = [
            pod
            for pod in self.local.api.list_namespaced_pod(NAMESPACE).items
            if (pod.metadata.annotations or {}).get("tidepool.dev/owner-run") == run
            and pod.metadata.annotations["tidepool.dev/owner-dag"] == dag
            and pod.metadata.annotations["tidepool.dev/owner-task"] == task
        ]
        return max(found, key=lambda pod: pod.metadata.creation_timestamp, default=None)

    def result(self, dag: str, run: str, task: str) -> Any:
        path = f"{run_path(dag, run)}/taskInstances/{task}/xcomEntries/return_value"
        with contextlib.suppress(AirflowApiError):  # there is none
            return self.local.airflow._call("GET", path)["value"]
        return None

    def words(self, dag: str, run: str, task: str, attempts: int) -> list[str]:
        """The log of all attempts."""
        found = []
        for attempt in range(1, attempts + 1):
            with contextlib.suppress(Exception):  # a worker that was killed has sent none
                found += self.local.airflow.log(dag, run, task, attempt)
        return found

    def leaves_nothing(self) -> None:
        """No pod of a run that is over stays."""
        pods = lambda: [each.metadata.name for each in self.local.api.list_namespaced_pod(NAMESPACE).items]  # noqa: E731
        self.local.wait_until(lambda: not pods(), 60, f"no pods are left; there is {pods()}")

    def was_misread(self, run: str, task: str) -> bool:
        """Whether Airflow's scheduler ended an attempt of the task by mistake; it counts as no run then."""
        log = (self.local.cloud.state / "log" / "airflow-scheduler.log").read_text(errors="replace")
        is_so = (task, run) in MISREAD.findall(log)
        if is_so:
            self.misread.append(f"{run} {task}")
            self.say(f"{task} had an attempt more, by Airflow's own mistake")
        return is_so

    def ends(self, run: str, task: str) -> list[Event]:
        """What the ledger says of the ends of the task's pods, in their order."""
        return [event for event in self.local.pod_events("pod.ended", run) if event.task == task]

    def causes(self, run: str, task: str) -> list[str]:
        """What the task's pods ended with."""
        return [event.cause for event in self.ends(run, task)]

    def was_taken(self, run: str, task: str) -> bool:
        """Whether a pod of the task got onto a machine that was taken back, if only after that."""
        return any(event.machine in self.taken for event in self.ends(run, task))


@pytest.fixture(scope="module")
def chaos(shared: Any) -> Iterator[Chaos]:
    home = shared.cloud.state / "airflow"
    airflow.prepare(home, paths.REPOSITORY / "tests" / "local" / "dags", paths.cache())
    _configure(home / "airflow.cfg")
    if shared._airflow is not None:
        for process in airflow._PARTS:
            shared.kill(process)
    shared.airflow.wait_ready(120)
    gate = Gate(Authority(shared.cloud.state / "pki"))
    kubeconfig = shared.cloud.airflow_kubeconfig
    own = kubeconfig.read_text()
    kubeconfig.write_text(own.replace(addresses.API_SERVER, gate.url))
    watch = LivePods(shared.api, NAMESPACE)
    watch.start()
    seed = int(os.environ.get("TIDEPOOL_CHAOS_SEED") or SEED)
    made = Chaos(shared, gate, watch, seed)
    try:
        yield made
    finally:
        kubeconfig.write_text(own)
        gate.close()
        watch.stop()
    made.say(f"{sum(made.runs.values())} runs; {len(watch.pods)} tasks had {sum(map(len, watch.pods.values()))} pods")


def _configure(path: Any) -> None:
    text = path.read_text()
    for old, new in SETTINGS.items():
        assert old in text or new in text
        text = text if new in text else text.replace(old, new)
    path.write_text(text)


@pytest.fixture(autouse=True)
def _clean(chaos: Chaos) -> Iterator[None]:
    chaos.local.wait_until(lambda: not chaos.local.api.list_namespaced_pod(NAMESPACE).items, 60, "no pods are left")
    chaos.gate.stops.clear()
    yield
    chaos.local.clear()


@pytest.mark.parametrize("killer", [*ONE_BY_ONE, *PARTS, *MACHINE])
def test_a_job_ends_once_and_well_at_whatever_step_this_dies(chaos: Chaos, killer: str) -> None:
    for _ in range(chaos.rounds):
        runs = _planned(chaos, killer)
        dag = f"chaos_{killer}"
        run = chaos.local.start(dag)
        for each in runs:
            chaos.gate.expect((dag, each.task), each.stop)
            if each.step != "running":
                _go(chaos, run, each)
        try:
            _drive(chaos, killer, run, runs)
        finally:
            for each in runs:
                each.stop.release()
        problems = [problem for each in runs for problem in _wrong(chaos, run, each)] + chaos.watch.twice
        chaos.runs[killer] = chaos.runs.get(killer, 0) + len(runs)
        assert not problems, "\n".join([f"seed {chaos.seed}:", *problems])
        chaos.leaves_nothing()


def test_every_end_is_named_as_it_was_brought_about(chaos: Chaos) -> None:
    for _ in range(chaos.rounds):
        problems = _brought_about("chaos_ends", chaos.local.start("chaos_ends"), chaos) + chaos.watch.twice
        assert not problems, "\n".join([f"seed {chaos.seed}:", *problems])
        chaos.leaves_nothing()


def test_of_all_those_runs_nothing_is_left(chaos: Chaos) -> None:
    if len(chaos.runs) <= len(PARTS):
        pytest.skip("not all of them were run")
    chaos.say(f"{sum(chaos.runs.values())} runs: {chaos.runs}")
    assert sum(chaos.runs.values()) - len(chaos.misread) >= LEAST_RUNS * chaos.rounds
    assert len(chaos.misread) <= MOST_MISREAD * chaos.rounds, chaos.misread
    # An API server that was started again may not know what it said before.
    assert chaos.watch.gaps <= chaos.rounds, "the count of live pods is of every change"
    chaos.leaves_nothing()
    assert chaos.local.api.list_namespaced_persistent_volume_claim(NAMESPACE).items == []
    chaos.local.drains()


def _brought_about(dag: str, run: str, chaos: Chaos) -> list[str]:
    """Bring every end about; what of it is not named so."""
    local, tasks = chaos.local, [f"{mode}.{end}" for mode in MODES for end in ENDS]
    for task in tasks:
        chaos.gate.expect((dag, task), Stop())
    for mode in MODES:
        (chaos.folder(run, f"{mode}.ok") / "go" / "0").touch()
        (chaos.folder(run, f"{mode}.app_error") / "go" / str(FAILS)).touch()
    for mode, waits in zip(MODES, ("running", "deferred"), strict=True):
        task = f"{mode}.cancelled"
        local.wait_until((chaos.folder(run, task) / "started").names, 90, f"{task} runs")
        local.wait_until(lambda t=task, w=waits: chaos.states(dag, run)[t].state == w, 30, f"{task} is {waits}")
        path = f"{run_path(dag, run)}/taskInstances/{task}"
        local.airflow._call("PATCH", path, {"new_state": "failed"})
    over = lambda: local.airflow.state(dag, run) in ("success", "failed")  # noqa: E731
    with contextlib.suppress(AssertionError):
        local.wait_until(over, 120, f"{dag} is over")
    assert over(), "; ".join(f"{each.task} {each.state}" for each in chaos.states(dag, run).values())
    local.wait_until(lambda: all(chaos.causes(run, task) for task in tasks), 30, "every pod's end was recorded")
    chaos.runs["ends"] = chaos.runs.get("ends", 0) + len(tasks)
    return [problem for task in tasks for problem in _wrong_end(chaos, dag, run, task)]


def _wrong_end(chaos: Chaos, dag: str, run: str, task: str) -> list[str]:
    end = task.split(".")[1]
    state = chaos.states(dag, run)[task]
    found: Found = [("state", state.state, "success" if end == "ok" else "failed")]
    words = chaos.words(dag, run, task, state.attempt)
    told = [word.split(" ended with ")[1].split(":")[0] for word in words if " ended with " in word]
    # A task that was marked as failed may be ended before it says so; of a deferred one nothing runs that could.
    may_be_silent = end in ("ok", "cancelled") and told == []
    found.append(("causes in the log", told, [] if may_be_silent else [end]))
    found.append(("attempts", state.attempt, 1))
    found.append(("pods' ends in the ledger", chaos.causes(run, task), [end]))
    found.append(("pods", len(chaos.watch.pods.get((dag, run, task), [])), 1))
    if not _is_right(found) and chaos.was_misread(run, task):
        found = found[:1]
    return _told(dag, task, found, words)


Found = list[tuple[str, Any, Any]]
"""What was looked at, what it is, and what it should be."""


def _is_right(found: Found) -> bool:
    return all(is_now == wanted for _, is_now, wanted in found)


def _told(dag: str, task: str, found: Found, words: list[str]) -> list[str]:
    """What is not as it should be, with the end of the log."""
    wrong = [f"{dag} {task}: {what} {is_now!r}, not {wanted!r}" for what, is_now, wanted in found if is_now != wanted]
    return [*wrong, *(f"    {word}" for word in words[-60:] if wrong)]


def _planned(chaos: Chaos, killer: str) -> list[Run]:
    runs = []
    for mode in MODES:
        for step in STEPS:
            stop = Stop(STOPS.get(step, ""))
            if killer == "worker" and mode == "deferrable" and step in ("pending", "running"):
                continue  # nothing of it runs in a worker then
            if killer == "lost_answer" and step == "finishing":
                stop.at = "deleted"
            if step == "pending":
                stop.place = "init" if killer in MACHINE else "gate"
                stop.at = "look" if mode == "sync" else ""
            # A job that has failed and whose worker dies before it could say so is run again: nobody was told.
            code = 0 if step == "finishing" else chaos.random.choice((0, 0, 0, FAILS))
            runs.append(Run(killer, mode, step, stop, code))
    return runs


def _go(chaos: Chaos, run: str, each: Run) -> None:
    (chaos.folder(run, each.task) / "go" / str(each.code)).touch()


def _drive(chaos: Chaos, killer: str, run: str, runs: list[Run]) -> None:
    """Park every job at its step, strike, let go, and wait for the end."""
    dag, limit = f"chaos_{killer}", time.monotonic() + LONGEST_RUN_SECONDS
    strike_at = 0.0
    while True:
        now = time.monotonic()
        assert now < limit, f"seed {chaos.seed}: {dag} is not over: " + "; ".join(_where(chaos, run, runs))
        states = chaos.states(dag, run)
        for each in runs:
            if not each.parked and _is_parked(chaos, run, each, states[each.task]):
                each.parked = now
                each.release_at = chaos.random.uniform(0, 1.5)
            if each.parked and not each.struck and killer in ONE_BY_ONE and now >= each.parked + each.release_at:
                _strike_one(chaos, killer, each)
                _struck(chaos, each)
        if killer not in ONE_BY_ONE and all(each.parked for each in runs) and not runs[0].struck:
            strike_at = strike_at or now + chaos.random.uniform(0, 2)
            if now >= strike_at:
                chaos.say(f"{killer} after {LONGEST_RUN_SECONDS - limit + now:.0f} s")
                _strike_all(chaos, killer, run, runs)
        for each in runs:
            if each.struck and not each.released and time.monotonic() >= each.release_at:
                _release(chaos, run, each)
        if all(each.released for each in runs) and chaos.local.airflow.state(dag, run) in ("success", "failed"):
            chaos.say(f"{dag} is over after {LONGEST_RUN_SECONDS - limit + now:.0f} s")
            return
        time.sleep(0.3)


def _where(chaos: Chaos, run: str, runs: list[Run]) -> list[str]:
    states = chaos.states(runs[0].dag, run)
    return [
        f"{each.task} {states[each.task].state} at try {states[each.task].attempt}, "
        f"parked {bool(each.parked)}, struck {each.struck}, released {each.released}"
        for each in runs
    ]


def _is_parked(chaos: Chaos, run: str, each: Run, state: Any) -> bool:
    if each.stop.at and each.killer not in MACHINE:
        return each.stop.reached.is_set()
    if each.stop.at in ("create", "created", "delete"):
        return each.stop.reached.is_set()
    waits = state.state == ("running" if each.mode == "sync" else "deferred")
    if each.step == "running":
        return waits and bool((chaos.folder(run, each.task) / "started").names())
    pod = chaos.pod(each.dag, run, each.task)
    if each.killer in MACHINE:  # its pod has a machine, where it waits in its init container
        running = [status for status in (pod and pod.status.init_container_statuses) or [] if status.state.running]
        return waits and bool(running)
    return waits and pod is not None


def _struck(chaos: Chaos, each: Run) -> None:
    """What was stopped is lost with the process that asked, or goes on; what was not goes on in a while."""
    each.struck = True
    dead = each.killer in ("worker", "lost_answer") or (each.killer == "scheduler" and each.stop.at)
    if each.killer == "api_server":
        dead = chaos.random.random() < 0.5
    each.stop.release(lost=bool(dead))
    each.release_at = time.monotonic() + chaos.random.choice((0.0, chaos.random.uniform(0, 20)))


def _strike_one(chaos: Chaos, killer: str, each: Run) -> None:
    key = (each.dag, each.task)
    if killer == "lost_answer":
        if not each.stop.at:
            chaos.gate.lose(key)
        return
    pid = chaos.local.wait_until(lambda: chaos.gate.pid(key), 20, f"the process of {each.task} asks for its pod")
    process = psutil.Process(pid)
    supervisor = process.parent()
    assert "airflow" in " ".join([*process.cmdline(), process.name()]), process
    victim = chaos.random.choice((process, supervisor))
    chaos.say(f"{each.task}: {'its process' if victim is process else 'its worker'} is killed")
    victim.send_signal(signal.SIGKILL)


def _strike_all(chaos: Chaos, killer: str, run: str, runs: list[Run]) -> None:
    local = chaos.local
    if killer in PARTS:
        old = local.pid(PARTS[killer])
        os.kill(old, signal.SIGKILL)
        for each in runs:
            _struck(chaos, each)
        local.wait_until(lambda: local.pid(PARTS[killer]) not in (0, old), 30, f"{killer} was started again")
        return
    for each in runs:
        pod = chaos.pod(each.dag, run, each.task)
        if pod and pod.spec.node_name and pod.status.phase in ("Pending", "Running"):
            each.uid = pod.metadata.uid
    for machine in local.group("spot-small").instances:
        chaos.taken.add(machine)
        notice, is_announced = 0 if killer == "node_lost" else 60, killer == "spot_notice"
        reclaim(local.cloud, machine, notice, Progress(), is_announced)
    for each in runs:
        _struck(chaos, each)


def _release(chaos: Chaos, run: str, each: Run) -> None:
    if each.stop.place == "gate":
        pod = chaos.pod(each.dag, run, each.task)
        if pod is None:
            return
        try:
            chaos.local.api.patch_namespaced_pod(
                pod.metadata.name, NAMESPACE, {"spec": {"schedulingGates": [{"$patch": "delete", "name": GATE}]}}
            )
        except (kubernetes.client.ApiException, OSError):
            return
    if each.step == "running":
        pod = chaos.pod(each.dag, run, each.task)
        runs_on = pod and pod.status.phase == "Running" and not pod.metadata.deletion_timestamp
        if runs_on and pod.metadata.uid == each.uid:
            return  # it would end by itself before the machine is gone
        _go(chaos, run, each)
    each.released = True


def _wrong(chaos: Chaos, run: str, each: Run) -> list[str]:
    """What is not as it should be after the run, in words."""
    dag, task = each.dag, each.task
    state = chaos.states(dag, run)[task]
    cause = "ok" if each.code == 0 else "app_error"
    is_hit = bool(each.uid) or (each.step == "before_create" and chaos.was_taken(run, task))
    expected = [MACHINE[each.killer], cause] if is_hit else [cause]
    if is_hit and each.step in ("before_create", "after_create") and chaos.causes(run, task) == [cause]:
        expected = [cause]  # it ended by itself just before
    ended = (chaos.folder(run, task) / "ended").names()
    found: Found = [("state", state.state, "success" if each.code == 0 else "failed")]
    causes: Callable[[], Any] = lambda: chaos.causes(run, task)  # noqa: E731
    with contextlib.suppress(AssertionError):
        chaos.local.wait_until(lambda: len(causes()) >= len(expected), 15, "the ends were recorded")
    found.append(("pods' ends in the ledger", causes(), expected))
    found.append(("pods", len(chaos.watch.pods.get((dag, run, task), [])), len(expected)))
    found.append(("attempts that did their work", len(ended), 1 if each.code == 0 else 0))
    if each.code == 0 and state.state == "success" and ended:
        folder = str(chaos.folder(run, task).path)
        found.append(("result", chaos.result(dag, run, task), {"pod": ended[0], "folder": folder}))
    words = chaos.words(dag, run, task, state.attempt)
    classified = [word.split(" ended with ")[1].split(":")[0] for word in words if " ended with " in word]
    told = [each for each in dict.fromkeys(classified) if each != "ok"]
    # A deferred task's worker looks only afterwards, and so does one that was stopped before its job ran.
    if is_hit and (each.mode == "deferrable" or (each.killer == "spot_notice" and each.step != "running")):
        told = [expected[0] if cause in LATE.get(each.killer, ()) else cause for cause in told]
    found.append(("causes in the log", told, [each for each in expected if each != "ok"]))
    if not _is_right(found) and each.killer != "worker" and chaos.was_misread(run, task):
        result = chaos.result(dag, run, task) or {}
        found = [found[0], ("its result is of a pod that did its work", result.get("pod") in ended, each.code == 0)]
    return _told(dag, task, found, words)
