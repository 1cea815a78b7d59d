import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import demo, flights, run
from infra.cli.dag_run import Finished
from infra.cli.main import app
from infra.cli.view import MachineNow
from infra.local import cloud
from infra.local.airflow_api import AirflowApiError
from tidepool.capacity import Capacity, Tenant
from tidepool.report import timeline

LEFT = MachineNow("i-1", "spot-small", "spot", "m5.large", "idle", 0)
EMPTY = timeline.report([], Capacity("local", {"jobs": Tenant("tidepool-jobs", "job")}, "jobs", {}, 1800, {}), 0)


class World:
    """The local cloud's calls, without a cloud: what was called, and how the DAG run ends."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_up = False
        self.autoscaler: Path | None = None
        self.end: Callable[[], Finished] = lambda: finished("success")

    def up(self, progress: object, autoscaler: Path | None = None) -> cloud.Cloud:
        self.calls.append("up")
        self.autoscaler = autoscaler
        return cloud.Cloud(Path("/nowhere"))

    def down(self, progress: object) -> None:
        self.calls.append("down")

    def attach(self) -> cloud.Cloud:
        if not self.is_up:
            raise cloud.CloudError("the local cloud is not up")
        return cloud.Cloud(Path("/nowhere"))

    def run_dag(self, there: cloud.Cloud, dag: str, progress: object) -> tuple[Finished, timeline.Report]:
        self.calls.append(f"run {dag}")
        return self.end(), EMPTY


def finished(state: str, *left: MachineNow) -> Finished:
    return Finished("flights_daily", "manual__1", state, 0.0, (), left)


def raises(error: BaseException) -> Callable[[], Finished]:
    def end() -> Finished:
        raise error

    return end


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    for name in ("up", "down", "attach"):
        monkeypatch.setattr(cloud, name, getattr(world, name))
    monkeypatch.setattr(cloud, "warn_if_stale", lambda there, progress: None)
    for module in (demo, run):
        monkeypatch.setattr(module, "run_dag", world.run_dag)
    monkeypatch.setattr(flights, "read", lambda folder: {"delays": [], "model": {}})
    monkeypatch.setattr(flights, "show", lambda folder, console: world.calls.append("show"))
    return world


def tidepool(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout


def test_the_demo_comes_up_runs_shows_and_goes_down(world: World) -> None:
    assert tidepool("demo")[0] == 0
    assert world.calls == ["up", "run flights_daily", "show", "down"]


@pytest.mark.parametrize("end", [finished("failed"), finished("success", LEFT)])
def test_a_failed_job_or_a_machine_that_is_left_is_no_success(world: World, end: Finished) -> None:
    world.end = lambda: end
    assert tidepool("demo")[0] == 1
    assert world.calls[-1] == "down"


def test_keep_leaves_the_cloud_up(world: World) -> None:
    assert tidepool("demo", "--keep")[0] == 0
    assert "down" not in world.calls


def test_a_cloud_that_was_up_before_stays_up(world: World) -> None:
    world.is_up = True
    assert tidepool("demo")[0] == 0
    assert "down" not in world.calls


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (AirflowApiError("flights_daily.py can't be imported"), 1), (OSError("disk"), 1)],
)
def test_whatever_goes_wrong_the_cloud_goes_down(world: World, error: BaseException, code: int) -> None:
    world.end = raises(error)
    assert tidepool("demo")[0] == code
    assert world.calls[-1] == "down"


def test_a_cloud_that_does_not_come_up_is_reported_and_not_taken_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(progress: object, autoscaler: Path | None = None) -> cloud.Cloud:
        raise cloud.CloudError("the local cloud needs root")

    monkeypatch.setattr(cloud, "up", refuse)
    result = CliRunner().invoke(app, ["demo"])
    assert (result.exit_code, world.calls) == (1, [])
    assert "the local cloud needs root" in result.stderr


def test_an_autoscaler_of_ones_own_is_passed_on_and_must_exist(world: World, tmp_path: Path) -> None:
    binary = tmp_path / "cluster-autoscaler"
    binary.touch()
    assert tidepool("demo", "--autoscaler", str(binary))[0] == 0
    assert world.autoscaler == binary
    assert tidepool("demo", "--autoscaler", str(tmp_path / "none"))[0] == 2


def test_json_is_all_that_is_on_standard_output(world: World) -> None:
    code, out = tidepool("demo", "--json")
    found = json.loads(out)
    assert (code, found["succeeded"], found["dag"]) == (0, True, "flights_daily")
    assert found["results"] == {"delays": [], "model": {}}


def test_run_needs_a_cloud_that_is_up(world: World) -> None:
    assert tidepool("local", "run", "flights_daily")[0] == 1
    world.is_up = True
    code, out = tidepool("local", "run", "flights_daily", "--json")
    assert (code, json.loads(out)["state"]) == (0, "success")
    assert world.calls == ["run flights_daily"]
