"""What the contract reads of DAG files that are written wrongly, or say too little: always sentences with a place."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pytest

from infra import contract, settings
from infra.cli import check
from infra.contract import dag_source
from infra.contract.problem import advised
from infra.contract.shape import malformed
from infra.contract.template import Reading
from tests.infra import recorded

BASE = Path(__file__).with_name("mistakes") / "Pulumi.base.yaml"


def reading(folder: Path, text: str) -> Reading:
    (folder / "dag.py").write_text("from tidepool import SparkPodOperator, SparkClusterOperator\n" + text)
    return dag_source.read(folder, contract.planned(settings.load(BASE)))


def job(more: str) -> str:
    return f"SparkPodOperator(task_id='t', application='a.py', {more})\n"


@pytest.mark.parametrize(
    "value", ["timedelta(hour=1)", "timedelta(hours='1')", "timedelta(days=9999999999)", "timedelta(days=1e400)"]
)
def test_a_time_that_cannot_be_built_is_not_known(tmp_path: Path, value: str) -> None:
    found = reading(tmp_path, job(f"execution_timeout={value}"))
    assert (len(found.templates), found.problems, found.unread) == (1, [], [])
    assert found.templates[0].execution_timeout_seconds is None


@pytest.mark.parametrize(
    "value", ["{[1]: 2}", "{1: 2, **{}}", "-'a'", "1.5 * " + "9" * 400, "dict([1])", "f()", "{{}: 1}"]
)
def test_a_constant_that_cannot_be_built_is_not_known(tmp_path: Path, value: str) -> None:
    found = reading(tmp_path, f"WHAT = {value}\n" + job("") + job("memory=WHAT"))
    assert (len(found.templates), found.problems) == (1, [])
    assert found.unread == [f"{tmp_path.name}/dag.py:4: task 't': memory not known before the file runs"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("volumes=5", "spec.volumes must be a list, not 5"),
        ("volumes=[5]", "spec.volumes[1] must be a map, not 5"),
        ("tolerations='all'", "spec.tolerations must be a list, not 'all'"),
        ("tolerations=[{'key': 1}]", "spec.tolerations[2].key must be text, not 1"),
        ("node_selector=['a']", "spec.nodeSelector must be a map, not ['a']"),
        ("node_selector={'a': True}", "spec.nodeSelector.a must be text, not True"),
        ("annotations='a'", "metadata.annotations must be a map, not 'a'"),
        ("init_containers=5", "spec.initContainers must be a list, not 5"),
        ("init_containers=[{'resources': 5}]", "spec.initContainers[0].resources must be a map, not 5"),
        ("security_context=5", "spec.securityContext must be a map, not 5"),
        ("container_security_context={'capabilities': 5}", "securityContext.capabilities must be a map, not 5"),
        ("priority_class_name=5", "spec.priorityClassName must be text, not 5"),
        ("namespace=5", "metadata.namespace must be text, not 5"),
        ("image=['a']", "spec.containers[0].image must be text, not ['a']"),
        ("image=5", "spec.containers[0].image must be text, not 5"),
    ],
)
def test_a_malformed_pod_is_told_with_its_place(tmp_path: Path, more: str, says: str) -> None:
    found = reading(tmp_path, job(more))
    assert found.templates == []
    (problem,) = found.problems
    assert problem.where == f"{tmp_path.name}/dag.py:2"
    assert problem.rule == "malformed"
    assert problem.what.startswith("task 't': its pod is none: ")
    assert says in problem.what


@pytest.mark.parametrize(
    "more", ["memory=5", "cores='2'", "pool=['a']", "market=5", "gpus='1'", "exclusive=1", "team={}", "machine=5"]
)
def test_an_argument_of_the_wrong_type_is_told_as_the_operator_tells_it(tmp_path: Path, more: str) -> None:
    found = reading(tmp_path, job(more))
    (problem,) = found.problems
    assert (problem.where, problem.rule) == (f"{tmp_path.name}/dag.py:2", "job")
    assert more.partition("=")[0] in problem.what


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("executors=0", "executors must be a number of at least 1"),
        ("executors=(3, 1)", "executors must be a number of at least 1"),
        ("executors='2'", "executors must be a number of at least 1"),
        ("driver_memory='2'", "did you mean"),
        ("driver_market='spott'", "market must be"),
        ("memory='64Gi'", "does not fit any of the job pools"),
        ("pool='gpu-large'", "there is no pool 'gpu-large'"),
        ("machine='m5.metal'", "machine='m5.metal', but no pool that the job may use has such machines"),
    ],
)
def test_what_is_wrong_with_a_job_of_several_pods_is_found_in_the_source(tmp_path: Path, more: str, says: str) -> None:
    found = reading(tmp_path, f"SparkClusterOperator(task_id='t', application='a.py', {more})\n")
    (problem,) = found.problems
    assert says in problem.what


def test_a_task_whose_name_only_a_run_tells_has_a_question_mark(tmp_path: Path) -> None:
    found = reading(
        tmp_path, "for i in range(2):\n    SparkPodOperator(task_id=f't{i}', application='a.py', memory=i)\n"
    )
    assert found.unread == [f"{tmp_path.name}/dag.py:3: task '?': memory not known before the file runs"]
    found = reading(tmp_path, "for i in range(2):\n    SparkPodOperator(task_id=f't{i}', application='a.py')\n")
    assert [each.subject for each in found.templates] == ["task '?'"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff", "it is not Python"),
        (b"a = 'x\0'", "it is not Python"),
        (b"a = (", "it is not Python"),
        (b"a = " + b"-" * 50_000 + b"1", "it is not Python|too deep"),
        (b"a = 1" + b" * 1" * 20_000, "too deep"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_and_the_others_are_read(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.py").write_bytes(data)
    found = reading(tmp_path, job(""))
    (problem,) = found.problems
    assert problem.where.startswith(f"{tmp_path.name}/a.py:")
    assert any(each in problem.what for each in says.split("|")), problem
    assert len(found.templates) == 1
    assert dag_source.lines(tmp_path) == {(f"{tmp_path.name}/dag.py", "t"): 2}


def test_a_link_to_nothing_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "dag.py").write_text(
        "from airflow.sdk import DAG\nfrom tidepool import SparkPodOperator\n"
        "with DAG(dag_id='a', schedule=None):\n    " + job("")
    )
    (result,) = check.run([BASE], tmp_path)
    assert [str(each) for each in result.problems] == [
        f"{tmp_path.name}/gone.py:1: it cannot be read: No such file or directory. Correct the file, or remove it. "
        "[dag-import]"
    ]
    assert result.jobs == 1


def test_a_pod_that_says_nothing_is_well_formed() -> None:
    assert malformed({}) == malformed({"metadata": None, "spec": {"containers": None}}) == []


def test_advice_is_given_once() -> None:
    assert advised("a:1", "job", "it is too large. Ask for less.", "Correct it").do == "Ask for less"
    assert advised("a:1", "job", "it is 1.5 times too large", "Correct it").do == "Correct it"


def test_preview_warns_of_what_it_could_not_check(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    warn = pulumi.log.warn
    monkeypatch.setattr(pulumi.log, "warn", lambda text: (told.append(text), warn(text)))
    unread = "dags/a.py:3: task '?': memory not known before the file runs"
    monkeypatch.setattr(dag_source, "read", lambda dags, capacity: Reading(unread=[unread]))
    recorded.record_file(BASE, preview=True)
    assert told == [f"not checked here, but by `tidepool check`: {unread}"]
