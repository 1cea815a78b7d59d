"""Whose application it was stands in Spark's own records, whichever way Spark runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from tests.dags.submitted import conf_of
from tidepool import SparkApplicationOperator, SparkClusterOperator, SparklingWaterPodOperator, SparkPodOperator

pytestmark = pytest.mark.usefixtures("capacity_file")

RUN = "scheduled__2026-11-30T20:00:00+00:00"


@pytest.mark.parametrize("asked", [{}, {"team": "research"}], ids=str)
@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (SparkPodOperator, {"executors": 0}),
        (SparkPodOperator, {"executors": 1}),
        (SparkClusterOperator, {}),
        (SparkApplicationOperator, {}),
        (SparklingWaterPodOperator, {"image": "h2o:1"}),
    ],
)
def test_dag_task_run_and_team_are_in_sparks_own_configuration(kind: Any, what: dict[str, Any], asked: Any) -> None:
    operator = kind(task_id="clean", application="clean.py", **what, **asked)
    operator.hook = mock.MagicMock(is_in_cluster=False)
    ti = SimpleNamespace(dag_id="flights", task_id="clean", run_id=RUN, try_number=1, map_index=-1)
    context = {"ti": ti, "run_id": RUN, "dag": None}
    operator.arguments = operator.render_template(operator.arguments, context)
    pod = operator.build_pod_request_obj(context)
    is_application = kind is SparkApplicationOperator
    conf = operator._application_of(pod)["spec"]["sparkConf"] if is_application else conf_of(operator)
    assert {key: value for key, value in conf.items() if key.startswith("spark.tidepool.")} == {
        "spark.tidepool.dag": "flights",
        "spark.tidepool.task": "clean",
        "spark.tidepool.run": RUN,
        "spark.tidepool.team": asked.get("team", "analytics"),
    }
