"""The Spark operator and the history server."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra import naming
from infra.services import history_server, spark_operator
from infra.services.history_server import HistoryServer, HistoryServerArgs
from infra.services.spark_operator import SparkOperator
from tests.infra import golden, recording
from tests.infra.releases import RELEASE, SYSTEM, pods_of
from tidepool.capacity import DRIVER_SERVICE_ACCOUNT

TENANTS = ["tidepool-default", "tidepool-research"]


def history_args(event_logs: pulumi.Input[str] = "s3a://logs/events", **changes: Any) -> HistoryServerArgs:
    return HistoryServerArgs(
        **{
            "image": "spark:1",
            "event_logs": event_logs,
            "keep_days": 30,
            "placement": SYSTEM,
            "identity": {},
            **changes,
        }
    )


def test_the_operator_heeds_tenants_namespaces_and_no_other() -> None:
    assert spark_operator.values(TENANTS, SYSTEM)["spark"]["jobNamespaces"] == TENANTS
    with pytest.raises(ValueError, match="without one it would watch them all"):
        spark_operator.values([], SYSTEM)


def test_the_chart_makes_no_second_account_for_drivers_beside_the_tenants_own() -> None:
    spark = spark_operator.values(TENANTS, SYSTEM)["spark"]
    assert spark["serviceAccount"] == {"create": False, "name": DRIVER_SERVICE_ACCOUNT}
    assert spark["rbac"] == {"create": False}
    assert DRIVER_SERVICE_ACCOUNT != naming.JOB_SERVICE_ACCOUNT


def test_the_operators_pods_run_on_system_nodes_within_pod_security_restricted() -> None:
    pods = pods_of(spark_operator.values(TENANTS, SYSTEM))
    assert set(pods) == {"controller", "webhook"}
    for pod in pods.values():
        assert pod["nodeSelector"] == {"tidepool.dev/pool": "system"}
        assert pod["podSecurityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_operator_has_a_namespace_of_its_own() -> None:
    made = recording.made_by(lambda: SparkOperator("operator", TENANTS, SYSTEM, {}))
    namespace = made.one(":Namespace")
    labels = namespace.inputs["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert made.one(RELEASE).inputs["namespace"] == namespace.inputs["metadata"]["name"] == "spark-operator"
    assert "operator-namespace" in made.one(RELEASE).depends_on


def test_the_history_servers_objects() -> None:
    made = recording.made_by(lambda: HistoryServer("history", history_args()))
    golden.check_json("history-server.json", {each.name: each.inputs for each in made})


def test_the_history_server_reads_event_logs_and_removes_old_ones() -> None:
    text = history_server.conf_text("s3a://logs/events", 30)
    properties = dict(line.split(" ", 1) for line in text.splitlines())
    assert properties["spark.history.fs.logDirectory"] == "s3a://logs/events"
    assert properties["spark.history.fs.cleaner.enabled"] == "true"
    assert properties["spark.history.fs.cleaner.maxAge"] == "30d"


def test_the_history_server_reads_anew_what_has_changed_in_its_configuration() -> None:
    def digest(**changes: Any) -> str:
        made = recording.made_by(lambda: HistoryServer("history", history_args(**changes)))
        return str(made.one(":Deployment").inputs["spec"]["template"]["metadata"]["annotations"]["tidepool.dev/conf"])

    assert digest() == digest() != digest(keep_days=31)
    assert digest() != digest(hadoop={"fs.defaultFS": "hdfs://hdfs:8020"})


def test_a_cloud_that_binds_by_annotation_finds_the_history_servers_account() -> None:
    made = recording.made_by(lambda: HistoryServer("history", history_args(identity={"a": "b"})))
    assert made.one(":ServiceAccount").inputs["metadata"]["annotations"] == {"a": "b"}


def test_the_history_server_bears_a_place_of_event_logs_that_is_not_known_yet() -> None:
    def build() -> None:
        bucket = pulumi.ComponentResource("test:test:Bucket", "bucket")
        HistoryServer("history", history_args(event_logs=bucket.urn.apply(lambda _: "s3a://logs/events")))

    made = recording.made_by(build, preview=True)
    assert made.one(":Deployment").inputs["spec"]["template"]["spec"]["serviceAccountName"] == "spark-history"
