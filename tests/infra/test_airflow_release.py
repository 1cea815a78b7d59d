from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pulumi
import pulumi_random as random
import pytest
from pulumi.output import Unknown

from infra.services.airflow import Airflow, AirflowArgs
from tests.infra import golden, recording
from tests.infra.releases import AIRFLOW, DOCUMENT, FERNET, PASSWORD, RANDOM, RELEASE, has_secret, revealed

URL = "postgresql://airflow:secret@database.example/airflow"


def made_by(args: AirflowArgs = AIRFLOW, *, preview: bool = False, **outputs: Any) -> recording.Made:
    """outputs: arguments that are Pulumi outputs, made where Pulumi runs."""

    def build() -> None:
        Airflow("airflow", dataclasses.replace(args, **{name: make() for name, make in outputs.items()}))

    return recording.made_by(build, preview=preview, computed=RANDOM)


def secret(made: recording.Made, name: str) -> Any:
    found = next(each for each in made.of(":Secret").values() if each.inputs["metadata"]["name"] == name)
    return revealed(found.inputs["stringData"])


def test_the_objects_besides_the_chart() -> None:
    made = made_by()
    golden.check_json("airflow-setup-job.json", made.one(":Job").inputs["spec"])


def test_the_fernet_key_is_32_bytes_in_the_alphabet_that_airflow_reads() -> None:
    key = secret(made_by(), "airflow-keys")["fernet-key"]
    assert base64.urlsafe_b64decode(key) == base64.b64decode(FERNET)
    assert not set("+/") & set(key)


def test_keys_and_passwords_are_secrets_and_never_values() -> None:
    made = made_by(database_connection=lambda: pulumi.Output.secret(URL))
    assert set(secret(made, "airflow-keys")) == {"fernet-key", "api-secret-key", "jwt-secret"}
    assert secret(made, "airflow-user") == {"username": "admin", "password": PASSWORD}
    assert secret(made, "airflow-database") == {
        "connection": URL,
        "connection-async": "postgresql+asyncpg://airflow:secret@database.example/airflow",
    }
    for each in (made.one(RELEASE).inputs["values"], made.one(":Job").inputs, made.one(":ConfigMap").inputs):
        assert not has_secret(each)
        assert "database.example" not in str(each)


def test_a_database_of_the_clouds_own_or_one_that_is_there() -> None:
    data = made_by().one(RELEASE).inputs["values"]["data"]
    assert data == {"metadataSecretName": "airflow-connection"}
    made = made_by(
        dataclasses.replace(AIRFLOW, database_secret=""), database_connection=lambda: pulumi.Output.secret(URL)
    )
    assert made.one(RELEASE).inputs["values"]["data"] == {"metadataSecretName": "airflow-database"}
    with pytest.raises(ValueError, match="no database"):
        made_by(dataclasses.replace(AIRFLOW, database_secret=""))


def test_secrets_come_before_the_release_and_the_setup_after_it() -> None:
    made = made_by(database_connection=lambda: pulumi.Output.secret(URL))
    assert {"airflow-keys", "airflow-user", "airflow-database"} <= made.one(RELEASE).depends_on
    assert {"airflow-release", "airflow-setup-files"} <= made.one(":Job").depends_on


def test_prometheus_gets_in_only_where_there_is_one() -> None:
    assert not made_by().of(":NetworkPolicy")
    policy = made_by(dataclasses.replace(AIRFLOW, metrics=True)).one(":NetworkPolicy").inputs["spec"]
    assert policy["podSelector"] == {"matchLabels": {"component": "statsd"}}


def test_the_setup_runs_again_when_pools_change() -> None:
    def digest(document: str) -> str:
        job = made_by(dataclasses.replace(AIRFLOW, capacity=document)).one(":Job")
        return str(job.inputs["spec"]["template"]["metadata"]["annotations"]["tidepool.dev/pools"])

    pools = '"pools": {"spot": {"architecture": "amd64", "cpu_millis": 1, "ephemeral_storage_bytes": 1, "gpus": 0, '
    pools += '"instance_types": [], "jobs": true, "labels": {"pool": "spot"}, "market": "spot", "max_machines": 5, '
    pools += '"memory_bytes": 1, '
    pools += '"on_demand_usd_per_hour": 1, "priority": 1, "taints": [], "usd_per_hour": 1}}'
    assert digest(DOCUMENT) != digest(DOCUMENT.replace('"pools": {}', pools))


def test_what_is_not_known_before_a_first_deployment_is_borne() -> None:
    def later(name: str, value: str) -> Any:
        return lambda: random.RandomPassword(name, length=1).result.apply(lambda _: value)

    made = made_by(
        preview=True,
        image=later("image", "registry.example/airflow:abc"),
        logs=later("logs", "s3://logs/airflow"),
        capacity=later("capacity", DOCUMENT),
        database_connection=lambda: pulumi.Output.secret(URL),
    )
    values = made.one(RELEASE).inputs["values"]
    assert values["executor"] == "LocalExecutor"
    assert isinstance(values["images"]["airflow"]["repository"], Unknown)
    assert values["config"]["logging"]["remote_logging"] == "True"


def test_an_image_that_is_an_output_reaches_the_chart() -> None:
    made = made_by(image=lambda: pulumi.Output.from_input("registry.example/airflow:def"))
    assert made.one(RELEASE).inputs["values"]["images"]["airflow"] == {
        "repository": "registry.example/airflow",
        "tag": "def",
    }
