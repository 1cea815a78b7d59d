"""SparkApplication as a resource of an API server: the fields of the spark-operator's that we use, and no others."""

from __future__ import annotations

from typing import Any

from kubernetes import client, watch

from tidepool import spark_application

TEXT, NUMBER, BOOLEAN = {"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
POD = {
    "cores": NUMBER,
    "coreRequest": TEXT,
    "memory": TEXT,
    "memoryOverhead": TEXT,
    "serviceAccount": TEXT,
    "labels": TEXTS,
    "template": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
SPEC = {
    "type": {"type": "string", "enum": ["Java", "Python", "Scala", "R"]},
    "pythonVersion": {"type": "string", "enum": ["2", "3"]},
    "mode": {"type": "string", "enum": ["cluster", "client"]},
    "sparkVersion": TEXT,
    "image": TEXT,
    "imagePullPolicy": TEXT,
    "mainApplicationFile": TEXT,
    "arguments": {"type": "array", "items": TEXT},
    "sparkConf": TEXTS,
    "restartPolicy": {
        "type": "object",
        "properties": {"type": {"type": "string", "enum": ["Never", "Always", "OnFailure"]}},
    },
    "timeToLiveSeconds": NUMBER,
    "driver": {"type": "object", "properties": POD},
    "executor": {
        "type": "object",
        "properties": {**POD, "instances": NUMBER, "deleteOnTermination": BOOLEAN},
    },
    "dynamicAllocation": {
        "type": "object",
        "properties": {
            "enabled": BOOLEAN,
            "minExecutors": {"type": "integer"},
            "maxExecutors": {"type": "integer"},
        },
    },
}
"""Of sparkoperator.k8s.io/v1beta2, as its documentation has them."""

GROUP, PLURAL = spark_application.GROUP, spark_application.PLURAL
NAME = f"{PLURAL}.{GROUP}"


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    properties = {
        "spec": {"type": "object", "required": ["driver", "executor", "type"], "properties": SPEC},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    }
    version = {
        "name": spark_application.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        "subresources": {"status": {}},
    }
    names = {"plural": PLURAL, "singular": PLURAL[:-1], "kind": "SparkApplication"}
    annotations = {"api-approved.kubernetes.io": "unapproved, of a test"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME, "annotations": annotations},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def define(api: client.ApiextensionsV1Api) -> None:
    """Make the API server know SparkApplications; returns when it does."""
    api.create_custom_resource_definition(definition())
    listing = {"field_selector": f"metadata.name={NAME}", "timeout_seconds": 30}
    for event in watch.Watch().stream(api.list_custom_resource_definition, **listing):
        conditions = event["object"].status.conditions or []
        if any(each.type == "Established" and each.status == "True" for each in conditions):
            return
    raise TimeoutError(f"{NAME} is not established")
