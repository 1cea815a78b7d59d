"""`tidepool check` as its user meets it: what it prints, what it ends with, and what DAG files get to see."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra import contract, settings
from infra.cli import check, dag_pods, main, stacks
from infra.cli.check import Result as Checked

BASE = Path(__file__).with_name("mistakes") / "Pulumi.base.yaml"
SELECTOR = Path(__file__).with_name("mistakes") / "selector-that-no-pool-carries"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main.app, ["check", *arguments])


@pytest.fixture
def without_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The DAG files are read and not run: that takes Airflow seconds, and is tested in test_contract."""
    monkeypatch.setattr(check.importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    folder = tmp_path / "dags"
    folder.mkdir()
    shutil.copy(next(SELECTOR.glob("*.py")), folder)
    return folder


@pytest.mark.usefixtures("without_airflow")
def test_a_problem_is_shown_with_its_place_what_it_is_and_what_to_do(dags: Path) -> None:
    done = run(str(BASE), "--dags", str(dags))
    assert done.exit_code == 1
    first, where, what, do, *rest = done.output.splitlines()
    assert first == "base: 1 problem (1 job)"
    assert where == "  dags/selector_that_no_pool_carries.py:15  [unschedulable]"
    assert what.startswith("    task 'load': no machine of any job pool would ever take its pod (spot-small, on-demand")
    assert do == (
        "    Correct the pod (tidepool's operators choose the pool themselves), or the pools' labels and taints."
    )
    assert rest == []


@pytest.mark.usefixtures("without_airflow")
def test_json_has_the_same_for_machines(dags: Path) -> None:
    done = run(str(BASE), "--dags", str(dags), "--json")
    assert done.exit_code == 1
    (found,) = json.loads(done.output)["stacks"]
    assert {key: found[key] for key in ("stack", "jobs", "unread")} == {"stack": "base", "jobs": 1, "unread": []}
    (problem,) = found["problems"]
    assert problem["rule"] == "unschedulable"
    assert set(problem) == {"where", "rule", "what", "do"}


@pytest.mark.usefixtures("without_airflow")
def test_all_stacks_are_checked_where_none_is_named() -> None:
    done = run()
    assert done.exit_code == 0, done.output
    names = sorted(path.name.split(".")[1] for path in stacks.STACKS.glob("Pulumi.*.yaml"))
    assert [line.partition(":")[0] for line in done.output.splitlines()] == names
    assert all(line.endswith(": ok (3 jobs)") for line in done.output.splitlines())


@pytest.mark.usefixtures("without_airflow")
def test_one_stack_is_checked_by_its_name() -> None:
    done = run("local")
    assert (done.exit_code, done.output) == (0, "local: ok (3 jobs)\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lokal"], "there is no stack 'lokal' (did you mean local?); the stacks are"),
        (["elsewhere/Pulumi.x.yaml"], "there is no file elsewhere/Pulumi.x.yaml"),
        (["local", "--dags", "nowhere"], "'nowhere' does not exist"),
        (["local", "prod"], "unexpected extra argument"),
        ([""], "there is no stack ''; the stacks are"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_ends_with_2(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert says in " ".join(done.output.split())


@pytest.mark.usefixtures("without_airflow")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("config: [", "not YAML"),
        ("config: {tidepool:owner: a}", "tidepool:cluster"),
        ("- a\n", "must be a map"),
    ],
)
def test_a_broken_stack_file_is_a_problem_of_that_stack_alone(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "Pulumi.broken.yaml"
    file.write_text(text)
    done = run(str(file))
    assert done.exit_code == 1
    assert done.output.startswith("broken: ")
    assert str(file) in done.output
    assert says in done.output


def test_help_says_what_it_needs_and_shows_how() -> None:
    done = run("--help")
    assert done.exit_code == 0
    assert "no cluster and no credentials" in " ".join(done.output.split())
    assert "tidepool check prod" in done.output


def test_a_job_that_cannot_be_read_is_listed() -> None:
    shown = check._shown(Checked("dev", "stacks/Pulumi.dev.yaml", jobs=1, unread=["a.py: d.t: mapped over x"]))
    assert shown.splitlines() == ["dev: ok (1 job)", "  not checked: a.py: d.t: mapped over x"]


def test_dag_files_see_neither_the_environment_nor_the_home_of_who_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    (tmp_path / "spy.py").write_text(
        "import os\n"
        "from airflow.sdk import DAG\n"
        "raise ValueError(sorted(name for name in os.environ if 'AWS' in name or 'PULUMI' in name)"
        " + [os.path.expanduser('~')])\n"
    )
    base = settings.load(BASE)
    (problem,) = dag_pods.read(tmp_path, {"base": contract.planned(base)})["base"].problems
    assert problem.where == f"{tmp_path.name}/spy.py:3"
    assert problem.what.startswith("Airflow cannot import it: ValueError: ['/")
    assert str(Path.home()) not in problem.what


def test_dag_files_that_never_end_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "endless.py").write_text("from airflow.sdk import DAG\nimport time\ntime.sleep(3600)\n")
    monkeypatch.setattr(dag_pods, "LIMIT_SECONDS", 0.5)
    started = time.monotonic()
    (result,) = check.run([BASE], tmp_path)
    assert time.monotonic() - started < 10
    (problem,) = result.problems
    assert problem.what.endswith(f"importing the DAG files of {tmp_path} took more than 0.5 s")


@pytest.mark.parametrize("how", ["os._exit(0)", "os._exit(3)", "os.kill(os.getpid(), 9)", "raise SystemExit(0)"])
def test_a_dag_file_that_ends_the_process_is_named_and_the_others_are_read(tmp_path: Path, how: str) -> None:
    (tmp_path / "a.py").write_text(
        "from airflow.sdk import DAG\nfrom tidepool import SparkPodOperator\n"
        "with DAG(dag_id='a', schedule=None):\n    SparkPodOperator(task_id='t', application='a.py')\n"
    )
    (tmp_path / "ends.py").write_text(f"from airflow.sdk import DAG\nimport os\n{how}\n")
    (result,) = check.run([BASE], tmp_path)
    (problem,) = result.problems
    assert problem.where.startswith(f"{tmp_path.name}/ends.py:")
    assert problem.rule == "dag-import"
    assert result.jobs == 1


def test_a_folder_without_dag_files_does_not_pass(tmp_path: Path) -> None:
    done = run("dev", "--dags", str(tmp_path))
    assert done.exit_code == 1
    assert f"there are no DAG files in {tmp_path}" in " ".join(done.output.split())
    (found,) = json.loads(run("dev", "--dags", str(tmp_path), "--json").output)["stacks"]
    assert [each["rule"] for each in found["problems"]] == ["dags"]


def test_an_import_error_that_has_its_advice_gets_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "from airflow.sdk import DAG\nfrom tidepool import SparkPodOperator\n"
        "with DAG(dag_id='a', schedule=None):\n    SparkPodOperator(task_id='t', application='a.py', memory='64Gi')\n"
    )
    (result,) = check.run([BASE], tmp_path)
    assert [each.do for each in result.problems] == ["Ask for less, or for a pool of larger machines in stacks/"]


@pytest.mark.usefixtures("without_airflow")
def test_json_is_whole_whatever_a_dag_file_has_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "from datetime import timedelta\nfrom tidepool import SparkPodOperator\nA = {[1]: 2}\n"
        "SparkPodOperator(task_id='t', application='a.py', volumes=5, execution_timeout=timedelta(hour=1))\n"
    )
    (tmp_path / "b.py").symlink_to("nowhere")
    (found,) = json.loads(run("dev", "--dags", str(tmp_path), "--json").output)["stacks"]
    assert [each["where"] for each in found["problems"]] == [f"{tmp_path.name}/a.py:4", f"{tmp_path.name}/b.py:1"]
