"""The real Airflow, on a port and in a folder of its own: needs neither root nor the rest of the local cloud."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import addresses, airflow, paths
from infra.local.airflow_api import AirflowApi, AirflowApiError
from infra.local.supervisor import Program, minimal_environment
from tests.waiting import wait_until
from tidepool.capacity import Capacity, Pool, Tenant

pytestmark = pytest.mark.local_cloud

STEPS = """\
from airflow.sdk import dag, task

@dag(schedule=None)
def steps():
    @task
    def count() -> int:
        print("counted to three")
        return 3
    @task
    def double(number: int) -> None:
        print(f"doubled: {2 * number}")
    double(count())
steps()
"""
WAITS = """\
import time
from pathlib import Path
from airflow.sdk import dag, task

@dag(schedule=None)
def waits():
    @task
    def wait() -> None:
        Path("FOLDER/started").touch()
        while not Path("FOLDER/go").exists():
            time.sleep(0.1)
    wait()
waits()
"""


QUEUED = """\
import time
from pathlib import Path
from airflow.sdk import dag, task

@dag(schedule=None)
def queued():
    @task(pool="spot-small.research", pool_slots=2)
    def wait() -> None:
        while not Path("FOLDER/room").exists():
            time.sleep(0.1)
    wait.override(task_id="low", priority_weight=0)()
    wait.override(task_id="high", priority_weight=1000)()
queued()
"""
POOL = Pool("spot-small", "spot", True, (), {"p": "s"}, (), 1930, 7 * 2**30, 2**36, 0, "amd64", 2, 50, 0.04, 0.1)
TEAMS = {"research": Tenant("tidepool-research", "job", share_percent=50), "sales": Tenant("tidepool-sales", "job")}


class Host:
    """Airflow's processes, each in a session of its own as supervisord starts them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dags = folder / "dags"
        self.dags.mkdir()
        self.home = folder / "airflow"
        airflow.prepare(self.home, self.dags, paths.cache())
        airflow.set_pools(self.home, Capacity("local", TEAMS, "sales", {}, 60, {POOL.name: POOL}))
        programs = airflow.programs(self.home, folder / "capacity.json", folder / "kubeconfig", "tidepool-jobs")
        self._programs = {program.name: program for program in programs if program.name != airflow.TRIGGERER}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        for name in names or tuple(self._programs):
            program: Program = self._programs[name]
            with (self.folder / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    program.command,
                    env=minimal_environment() | program.environment,
                    cwd=program.directory,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def kill(self, name: str) -> int:
        """kill -9 of the one process; returns the id of its session."""
        process = self._processes.pop(name)
        process.kill()
        process.wait(10)
        return process.pid

    def stop(self) -> None:
        for process in self._processes.values():
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        free.bind(("127.0.0.1", 0))
        patch.setattr(addresses, "AIRFLOW", f"http://127.0.0.1:{free.getsockname()[1]}")
        free.close()
        host = Host(tmp_path_factory.mktemp("host"))
        (host.dags / "steps.py").write_text(STEPS)
        (host.dags / "waits.py").write_text(WAITS.replace("FOLDER", str(host.folder)))
        (host.dags / "queued.py").write_text(QUEUED.replace("FOLDER", str(host.folder)))
        host.start()
        try:
            yield host
        finally:
            host.stop()


@pytest.fixture(scope="module")
def api(host: Host) -> Iterator[AirflowApi]:
    api = AirflowApi.of(host.home)
    api.wait_ready(120)
    yield api
    api.close()


def processes_of(session: int) -> list[str]:
    """The state letters of a session's processes; zombies have ended."""
    listed = subprocess.run(["ps", "-o", "stat=", "-s", str(session)], capture_output=True, text=True, check=False)
    return [line for line in listed.stdout.split() if not line.startswith("Z")]


def test_a_dag_run_is_started_followed_and_read_through_the_rest_api(api: AirflowApi) -> None:
    api.wait_dag("steps", 60)
    run = api.trigger("steps")
    wait_until(lambda: api.state("steps", run) in ("success", "failed"), 60, "the run is over")
    assert api.state("steps", run) == "success"
    assert [(task.task, task.state, task.attempt) for task in api.tasks("steps", run)] == [
        ("count", "success", 1),
        ("double", "success", 1),
    ]
    assert any("doubled: 6" in line for line in api.log("steps", run, "double", 1))


def test_a_task_waits_in_airflow_while_its_teams_share_of_the_machines_is_taken(host: Host, api: AirflowApi) -> None:
    api.wait_dag("queued", 60)
    run = api.trigger("queued")
    wait_until(
        lambda: {task.task: task.state for task in api.tasks("queued", run)}.get("high") == "running",
        60,
        "the important task runs",
    )
    wait_until(lambda: api.tasks("queued", run)[1].state == "scheduled", 10, "the other task is scheduled")
    (host.folder / "room").touch()
    wait_until(lambda: api.state("queued", run) in ("success", "failed"), 60, "the run is over")
    assert api.state("queued", run) == "success"


def test_a_broken_dag_file_is_reported_with_its_name_and_its_error(host: Host, api: AirflowApi) -> None:
    (host.dags / "broken.py").write_text("from airflow.sdk import dag\nmachines = 1 / 0\n")
    with pytest.raises(AirflowApiError, match=r"(?s)broken\.py can't be imported.*ZeroDivisionError"):
        api.wait_dag("broken", 60)


def test_a_dag_that_does_not_exist_is_reported_with_those_that_do(api: AirflowApi) -> None:
    api.wait_dag("steps", 60)
    with pytest.raises(AirflowApiError, match=r"(?s)no DAG nowhere within 1 s.*steps"):
        api.wait_dag("nowhere", 1)


def test_a_scheduler_that_is_killed_takes_its_tasks_along_and_its_successor_runs_them(
    host: Host, api: AirflowApi
) -> None:
    api.wait_dag("waits", 60)
    run = api.trigger("waits")
    wait_until((host.folder / "started").exists, 60, "the task has started")
    session = host.kill("airflow-scheduler")
    wait_until(lambda: not processes_of(session), 10, "no process of the task is left")
    (host.folder / "go").touch()
    host.start("airflow-scheduler")
    wait_until(lambda: api.state("waits", run) in ("success", "failed"), 120, "the run is over")
    assert api.state("waits", run) == "success"
