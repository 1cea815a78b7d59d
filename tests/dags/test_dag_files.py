from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

DAGS = Path(__file__).resolve().parents[2] / "dags"

BROKEN = """
from airflow.sdk import DAG
from tidepool import SparkPodOperator

with DAG("broken", schedule=None):
    SparkPodOperator(task_id="huge", application="huge.py", memory="9Ti")
"""


@pytest.mark.usefixtures("capacity_file")
def test_every_dag_file_imports_and_nothing_else_is_taken_for_one() -> None:
    bag = DagBag(DAGS, safe_mode=False)
    assert bag.import_errors == {}
    assert "flights_daily" in bag.dags
    assert {Path(dag.fileloc).parent for dag in bag.dags.values()} == {DAGS}


@pytest.mark.usefixtures("capacity_file")
def test_the_flights_are_cleaned_before_they_are_counted_and_modelled() -> None:
    dag = DagBag(DAGS / "flights_daily.py").dags["flights_daily"]
    assert dag.task_dict["clean"].downstream_task_ids == {"delays", "model"}
    assert dag.task_dict["clean"].upstream_task_ids == set()


@pytest.mark.usefixtures("capacity_file")
def test_every_application_of_the_dags_is_a_job_of_the_image() -> None:
    tasks = DagBag(DAGS).dags["flights_daily"].tasks
    files = [task.arguments[-1] for task in tasks]
    assert len(files) == 3
    for file in files:
        assert (DAGS / "jobs" / Path(file).relative_to("/opt/tidepool/jobs")).is_file()


@pytest.mark.usefixtures("capacity_file")
def test_a_broken_dag_is_an_import_error_with_the_reason_and_spares_the_others(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    shutil.copy(DAGS / "flights_daily.py", tmp_path)
    bag = DagBag(tmp_path)
    assert set(bag.dags) == {"flights_daily"}
    ((file, error),) = bag.import_errors.items()
    assert file.endswith("broken.py")
    assert "task 'huge' does not fit any of the job pools (spot-small, on-demand-small)" in error
    assert 'gives a job 2 cores and 6.7 GiB ("6912Mi") of memory' in error


def test_without_a_capacity_document_the_import_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEPOOL_CAPACITY", "/nowhere/capacity.json")
    bag = DagBag(DAGS / "flights_daily.py")
    assert bag.dags == {}
    (error,) = bag.import_errors.values()
    assert "capacity document /nowhere/capacity.json: No such file or directory" in error
