from __future__ import annotations

import pytest

from infra import charts
from tests.infra import golden


def test_every_chart_is_pinned_and_known_by_its_own_name() -> None:
    golden.check_json(
        "charts.json", {name: [chart.name, chart.version, chart.source] for name, chart in charts.CHARTS.items()}
    )


def test_a_release_names_repository_chart_and_version() -> None:
    made = charts.release(charts.AIRFLOW, namespace="tidepool", values={"a": 1}, sources={})
    assert made["chart"] == made["name"] == "airflow"
    assert made["repository_opts"] == {"repo": "https://airflow.apache.org"}
    assert (made["version"], made["namespace"], made["values"]) == (charts.AIRFLOW.version, "tidepool", {"a": 1})


def test_a_chart_in_a_registry_is_named_by_its_whole_reference() -> None:
    made = charts.release(charts.NODE_TERMINATION_HANDLER, namespace="kube-system", values={}, sources={})
    assert made["chart"] == "oci://public.ecr.aws/aws-ec2/helm/aws-node-termination-handler"
    assert made["repository_opts"] is None


@pytest.mark.parametrize(
    ("mirror", "chart", "repository"),
    [
        ("https://mirror.example/helm/", "airflow", {"repo": "https://mirror.example/helm"}),
        ("oci://mirror.example/helm/", "oci://mirror.example/helm/airflow", None),
    ],
)
def test_a_mirror_takes_a_charts_place_and_leaves_the_others_alone(
    mirror: str, chart: str, repository: dict[str, str] | None
) -> None:
    made = charts.release(charts.AIRFLOW, namespace="tidepool", values={}, sources={"airflow": mirror})
    assert (made["chart"], made["repository_opts"]) == (chart, repository)
    assert made["version"] == charts.AIRFLOW.version
    other = charts.release(charts.SPARK_OPERATOR, namespace="x", values={}, sources={"airflow": mirror})
    assert other["repository_opts"] == {"repo": charts.SPARK_OPERATOR.source}


def test_an_upgrade_that_fails_leaves_what_was_there() -> None:
    made = charts.release(charts.AIRFLOW, namespace="tidepool", values={}, sources={})
    assert made["atomic"]
