"""The shape of a DAG: what its next run is estimated from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidepool.operators.dag_shape import shapes

GIB = 1 << 30
FILE = """
from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from tidepool import SparkClusterOperator, SparkPodOperator

with DAG("d", schedule=None):
    alone = SparkPodOperator(task_id="alone", application="a.py", execution_timeout=timedelta(hours=1))
    part = SparkPodOperator(task_id="part", application="a.py", exclusive=False, cores=1, market="on-demand")
    many = SparkPodOperator.partial(task_id="many", application="a.py").expand(application_args=[["1"], ["2"], ["3"]])
    unknown = SparkPodOperator.partial(task_id="unknown", application="a.py").expand(application_args=alone.output)
    cluster = SparkClusterOperator(task_id="cluster", application="a.py", executors=2)
    alone >> [part, many, unknown] >> cluster >> EmptyOperator(task_id="done")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("dags")
    (made / "d.py").write_text(FILE)
    return made


@pytest.fixture
def found(folder: Path, capacity_file: Path) -> dict[str, dict[str, Any]]:
    return {shape["task"]: shape for shape in shapes(folder, "d")["shapes"]}


def test_each_job_has_its_pods_on_the_pool_of_its_first_attempt(found: dict[str, dict[str, Any]]) -> None:
    (main,) = found["alone"]["pods"]
    assert (main["pool"], main["market"], main["part"], main["count"]) == ("spot-small", "spot", 1.0, 1)
    assert (main["usd_per_hour"], found["alone"]["limit_seconds"], found["alone"]["team"]) == (0.04, 3600, "analytics")
    (shared,) = found["part"]["pods"]
    assert shared["pool"] == "on-demand-small"
    assert 0.4 < shared["part"] < 0.6


def test_a_job_of_several_pods_has_them_all(found: dict[str, dict[str, Any]]) -> None:
    driver, executors = found["cluster"]["pods"]
    assert (driver["count"], driver["pool"], executors["count"], executors["pool"]) == (
        1,
        "on-demand-small",
        2,
        "spot-small",
    )


def test_a_mapped_task_has_as_many_copies_as_its_file_lists(found: dict[str, dict[str, Any]]) -> None:
    assert (found["many"]["copies"], len(found["many"]["pods"])) == (3, 1)
    assert found["unknown"]["pods"] == ()
    assert found["unknown"]["unknown"] == "mapped over application_args, which only a run knows: it is not counted"


def test_what_comes_after_what_is_the_dags(found: dict[str, dict[str, Any]]) -> None:
    assert found["alone"]["downstream"] == ("many", "part", "unknown")
    assert (found["cluster"]["downstream"], found["done"]["pods"]) == (("done",), ())


def test_a_dag_that_is_not_there_is_an_answer_with_those_that_are(folder: Path, capacity_file: Path) -> None:
    assert shapes(folder, "e")["error"] == {"what": "dag", "dags": ["d"], "files": {}}
