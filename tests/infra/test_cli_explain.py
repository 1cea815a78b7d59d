"""`tidepool explain` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import V1ConfigMap, V1ObjectMeta
from typer.testing import CliRunner, Result

from infra.cli import dag_pods, main
from infra.cli.overrides import Overrides
from tests.dags.fake_kubernetes import Kubernetes
from tidepool.capacity import OVERRIDES_CONFIG_MAP
from tidepool.overrides import Override, dump, key

FIGURES: dict[str, Any] = {
    "dag": "d",
    "task": "t",
    "team": "jobs",
    "namespace": "tidepool-jobs",
    "parts": [],
    "ladder": [],
    "retries": None,
    "deadline": None,
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main.app, ["explain", *arguments])


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Airflow's process answers: importing it takes seconds. Filled by the test."""
    given: dict[str, Any] = {"figures": FIGURES}

    def run_airflow(module: str, dags: Path, arguments: list[str], home: Path, variables: dict[str, str]) -> None:
        assert module == "tidepool.operators.explanation"
        given["asked"] = arguments[:2]
        given["cluster"] = json.loads(Path(variables["TIDEPOOL_CAPACITY"]).read_text())["cluster"]
        given["overrides"] = json.loads(Path(variables["TIDEPOOL_OVERRIDES"]).read_text())
        Path(arguments[2]).write_text(json.dumps(given))

    monkeypatch.setattr(dag_pods, "run_airflow", run_airflow)
    return given


def test_the_words_are_for_people_and_the_figures_for_machines(answer: dict[str, Any]) -> None:
    assert run("d", "t").output.startswith("Task t, of team jobs, in namespace tidepool-jobs.\n")
    assert answer["asked"] == ["d", "t"]
    assert json.loads(run("d", "t", "--json").output) == FIGURES


@pytest.mark.parametrize("stack", ["local", "prod"])
def test_the_pools_are_the_stacks(answer: dict[str, Any], stack: str) -> None:
    assert run("d", "t", "--stack", stack).exit_code == 0
    assert stack in answer["cluster"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            {"what": "dag", "dags": ["flights_daily"], "files": {"bad.py": "JobError: too large"}},
            ["there is no DAG 'flights_daly' in ", "(did you mean flights_daily?)", "  bad.py: JobError: too large"],
        ),
        (
            {"what": "task", "tasks": ["clean", "model"], "files": {}},
            ["DAG 'flights_daly' has no task 'clan' (did you mean clean?); its tasks are: clean, model"],
        ),
        (
            {"what": "no-job", "kind": "BashOperator", "tasks": [], "files": {}},
            ["task 'clan' of DAG 'flights_daly' is not a job of tidepool's but a BashOperator; the DAG's jobs are: "],
        ),
        ({"what": "mapped", "message": "mapped over x, which only a run knows", "files": {}}, ["mapped over x"]),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_is(
    answer: dict[str, Any], error: dict[str, Any], words: list[str]
) -> None:
    answer["error"] = error
    done = run("flights_daly", "clan")
    assert done.exit_code == 1
    for each in words:
        assert each in done.stderr
    assert done.stdout == ""


def test_a_stack_that_is_not_there_is_said_with_those_that_are() -> None:
    done = run("d", "t", "--stack", "lokal")
    assert done.exit_code == 2
    assert "there is no stack 'lokal' (did you mean local?)" in done.output


def test_the_overrides_of_the_named_cluster_count(
    answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kubernetes = Kubernetes()
    monkeypatch.setattr("kubernetes.config.new_client_from_config", lambda *_: None)
    monkeypatch.setattr("kubernetes.client.CoreV1Api", lambda _: kubernetes)
    (tmp_path / "kubeconfig").touch()
    asked = ("d", "t", "--kubeconfig", str(tmp_path / "kubeconfig"))
    missing = run(*asked)
    assert (missing.exit_code, "there is no ConfigMap" in missing.stderr) == (1, True)
    kubernetes.create_namespaced_config_map(
        "ns", V1ConfigMap(metadata=V1ObjectMeta(name=OVERRIDES_CONFIG_MAP), data={})
    )
    override = Override("d", "t", memory="2Gi")
    Overrides(None).write("tidepool-jobs", override)
    assert run(*asked).exit_code == 0
    assert answer["overrides"] == {"tidepool-jobs": {key("d", "t"): dump(override)}}


def test_the_help_has_examples() -> None:
    assert "tidepool explain flights_daily clean --stack prod" in run("--help").output


def test_a_real_task_is_explained_from_its_dag_file() -> None:
    done = run("flights_daily", "clean")
    assert done.exit_code == 0, done.output
    assert "Memory in MiB: heap 1934 + JVM overhead 384 + Python 600 + margin 154 = 3072, the limit" in done.output
