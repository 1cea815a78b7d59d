from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc

from infra.aws.database import Database, DatabaseArgs, connection_url
from infra.settings.model_aws import RdsDatabase
from tests.infra.recording import Made, made_by
from tests.infra.samples import TAGS

INSTANCE = "aws:rds/instance:Instance"
PASSWORD = "pa55word"
COMPUTED = {
    INSTANCE: {"endpoint": "db.example:5432"},
    "random:index/randomPassword:RandomPassword": {"result": PASSWORD},
}


def build(protect: bool = True, **changes: Any) -> Database:
    settings = {"instance_class": "db.t4g.small", "storage_gib": 20, "backup_days": 7, "multi_zone": True} | changes
    return Database(
        "database",
        DatabaseArgs(
            cluster="dev",
            vpc_id="vpc-1",
            subnet_ids=["subnet-a", "subnet-b"],
            clients="sg-cluster",
            database=RdsDatabase(**settings),
            protect=protect,
            tags=TAGS,
        ),
    )


def made(protect: bool = True, preview: bool = False, **changes: Any) -> Made:
    return made_by(lambda: build(protect, **changes), computed=COMPUTED, preview=preview)


def is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value.get(rpc._special_sig_key) == rpc._special_secret_sig


def plain_texts(value: Any) -> list[str]:
    """Every text in a resource's inputs that is not inside of a secret."""
    if is_secret(value):
        return []
    if isinstance(value, dict):
        return [text for each in value.values() for text in plain_texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in plain_texts(each)]
    return [str(value)]


def test_the_password_is_nowhere_but_in_secrets() -> None:
    recorded = made()
    assert is_secret(recorded.one(INSTANCE).inputs["password"])
    assert is_secret(recorded.one("secretVersion:SecretVersion").inputs["secretString"])
    for resource in recorded:
        assert not [text for text in plain_texts(resource.inputs) if PASSWORD in text], resource.name


def test_the_connection_is_a_secret_and_the_endpoint_is_none() -> None:
    secret: list[bool] = []
    urls: list[str] = []

    async def both(database: Database) -> None:
        secret.extend([await database.connection.is_secret(), await database.endpoint.is_secret()])

    def program() -> Any:
        database = build()
        return pulumi.Output.all(both(database), database.connection.apply(urls.append))

    made_by(program, computed=COMPUTED)
    assert secret == [True, False]
    assert urls == [f"postgresql+psycopg2://tidepool:{PASSWORD}@db.example:5432/airflow?sslmode=require"]


def test_secrets_manager_has_what_a_client_needs() -> None:
    version = made().one("secretVersion:SecretVersion").inputs
    assert json.loads(version["secretString"]["value"]) == {
        "username": "tidepool",
        "password": PASSWORD,
        "connection": connection_url(PASSWORD, "db.example:5432"),
    }


def test_only_the_cluster_reaches_it_and_only_over_tls() -> None:
    recorded = made()
    assert recorded.one(INSTANCE).inputs["publiclyAccessible"] is False
    assert recorded.one(INSTANCE).inputs["vpcSecurityGroupIds"] == ["database-security-group-id"]
    rule = recorded.one("vpc/securityGroupIngressRule:SecurityGroupIngressRule").inputs
    assert rule["referencedSecurityGroupId"] == "sg-cluster"
    assert (rule["ipProtocol"], rule["fromPort"], rule["toPort"]) == ("tcp", 5432, 5432)
    group = recorded.one("ec2/securityGroup:SecurityGroup").inputs
    assert "ingress" not in group
    assert "egress" not in group
    (parameter,) = recorded.one("rds/parameterGroup:ParameterGroup").inputs["parameters"]
    assert (parameter["name"], parameter["value"]) == ("rds.force_ssl", "1")
    assert recorded.one("rds/subnetGroup:SubnetGroup").inputs["subnetIds"] == ["subnet-a", "subnet-b"]


def test_it_is_as_large_and_as_safe_as_its_settings_say() -> None:
    instance = made(multi_zone=True, storage_gib=50, backup_days=14).one(INSTANCE).inputs
    assert (instance["allocatedStorage"], instance["storageType"], instance["storageEncrypted"]) == (50, "gp3", True)
    assert (instance["multiAz"], instance["backupRetentionPeriod"]) == (True, 14)
    assert instance["autoMinorVersionUpgrade"] is True
    assert instance["tags"] == TAGS


@pytest.mark.parametrize("protect", [True, False])
def test_only_an_unprotected_database_goes_without_a_trace(protect: bool) -> None:
    recorded = made(protect)
    instance = recorded.one(INSTANCE).inputs
    assert recorded.one(INSTANCE).protect is protect
    assert instance["deletionProtection"] is protect
    assert instance["skipFinalSnapshot"] is not protect
    assert instance["deleteAutomatedBackups"] is not protect
    assert instance.get("finalSnapshotIdentifier") == ("dev-postgres-final" if protect else None)
    assert recorded.one("secretsmanager/secret:Secret").inputs["recoveryWindowInDays"] == (30 if protect else 0)


def test_a_preview_needs_neither_password_nor_endpoint() -> None:
    assert made(preview=True).one(INSTANCE).inputs["identifier"] == "dev-postgres"
