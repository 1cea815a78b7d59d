"""What tests of Helm releases share: nodes, an Airflow, outputs of random resources, a look for secrets in values."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from infra import naming
from infra.services.airflow import AirflowArgs
from infra.services.placement import Placement
from infra.settings import model
from tidepool.capacity import Capacity, Tenant, dumps

SYSTEM = Placement(selector=naming.node_labels(naming.SYSTEM_POOL), taints=naming.SYSTEM_TAINTS)

FERNET = "+/" * 21 + "A="
PASSWORD = "generated-password"
RANDOM = {
    "random:index/randomBytes:RandomBytes": {"base64": FERNET},
    "random:index/randomPassword:RandomPassword": {"result": PASSWORD},
}
"""Outputs, by type, that `recording.made_by` cannot take from inputs."""

RELEASE = "helm.sh/v3:Release"

DOCUMENT = dumps(Capacity("dev", {"default": Tenant("tidepool-default", "job")}, "default", {}, 60, {}))

AIRFLOW = AirflowArgs(
    settings=model.Airflow(executor="LocalExecutor", dags=None),
    image="registry.example/airflow:abc",
    logs="s3://logs/airflow",
    capacity=DOCUMENT,
    database_connection=None,
    database_secret="airflow-connection",
    placement=SYSTEM,
    metrics=False,
    chart_sources={},
)
WHOLE_AIRFLOW = dataclasses.replace(
    AIRFLOW, database_connection="postgresql://database.example/airflow", database_secret="", metrics=True
)
"""With every object that it can have."""


def has_secret(values: Any) -> bool:
    """Whether one of the generated values stands in it."""
    text = json.dumps(values)
    return any(secret in text for secret in (FERNET, FERNET.replace("+", "-").replace("/", "_"), PASSWORD))


def pods_of(values: Any, path: str = "") -> dict[str, Any]:
    """Every part of a chart's values that says what its pods may use, by path."""
    found = {path: values} if isinstance(values, dict) and "limits" in values.get("resources", {}) else {}
    if isinstance(values, dict):
        for key, value in values.items():
            found |= pods_of(value, f"{path}.{key}" if path else key)
    return found


def revealed(value: Any) -> Any:
    """What Pulumi keeps as a secret, encrypted in its state; fails for what it would keep in plain text."""
    assert value.get("4dabf18193072939515e22adb298388d") == "1b47061264138c4ac30d75fd1eb44270", f"no secret: {value}"
    return value["value"]
