"""A Spark job as the custom resource that kubeflow's spark-operator heeds: SparkApplication, sparkoperator.k8s.io."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidepool.capacity import DRIVER_SERVICE_ACCOUNT
from tidepool.sizing import Placement, SparkMemory

GROUP, VERSION, PLURAL = "sparkoperator.k8s.io", "v1beta2", "sparkapplications"
SPARK_VERSION = "4.3.0"
"""Of the image spark; the spark-operator wants to be told."""

KEPT_SECONDS = 24 * 3600
"""After its end an application that nobody has removed is removed by the spark-operator."""

FAILED_STATES = ("FAILED", "SUBMISSION_FAILED")

_OPERATORS_OWN = (
    "spark.master",
    "spark.submit.deployMode",
    "spark.driver.memory",
    "spark.driver.host",
    "spark.driver.bindAddress",
    "spark.executor.memory",
    "spark.executor.memoryOverhead",
    "spark.executor.cores",
    "spark.executor.instances",
    "spark.dynamicAllocation.enabled",
    "spark.dynamicAllocation.minExecutors",
    "spark.dynamicAllocation.maxExecutors",
    "spark.kubernetes.executor.podTemplateFile",
    "spark.kubernetes.executor.request.cores",
    "spark.kubernetes.namespace",
    "spark.kubernetes.container.image",
    "spark.kubernetes.container.image.pullPolicy",
    "spark.kubernetes.authenticate.executor.serviceAccountName",
)
"""Settings that the spark-operator makes of the resource's fields."""


_WITHOUT = "org.apache.spark.deploy.k8s.features.NetworkPolicyFeatureStep"
"""Spark 4.3's cluster mode makes a NetworkPolicy for each application, which whoever submits may not; the team's own
hold for its pods."""


def manifest(
    main: Mapping[str, Any],
    executor: Mapping[str, Any],
    executors: tuple[int, int],
    driver_size: tuple[Placement, SparkMemory],
    executor_size: tuple[Placement, SparkMemory],
) -> dict[str, Any]:
    """The resource for a job. main: the job's pod as it would be without the operator, which runs spark-submit itself.

    executor: an executor's pod. The driver's pod gets the name of `main`, and so does the resource.
    """
    name, namespace = main["metadata"]["name"], main["metadata"]["namespace"]
    fewest, most = executors
    conf, (application, *args) = _parsed(main["spec"]["containers"][0]["args"])
    settings = {key: value for key, value in conf.items() if key not in _OPERATORS_OWN}
    spec: dict[str, Any] = {
        "type": "Python",
        "pythonVersion": "3",
        "mode": "cluster",
        "sparkVersion": SPARK_VERSION,
        "image": main["spec"]["containers"][0]["image"],
        "imagePullPolicy": "IfNotPresent",
        "mainApplicationFile": f"local://{application}",
        "arguments": args,
        "sparkConf": {
            "spark.kubernetes.driver.pod.excludedFeatureSteps": _WITHOUT,
            **settings,
            "spark.kubernetes.driver.pod.name": name,
        },
        # Another attempt is Airflow's to decide, by the cause.
        "restartPolicy": {"type": "Never"},
        "timeToLiveSeconds": KEPT_SECONDS,
        "driver": {**_pod(main, *driver_size), "serviceAccount": DRIVER_SERVICE_ACCOUNT},
        "executor": {**_pod(executor, *executor_size), "instances": max(1, fewest), "deleteOnTermination": True},
    }
    driver = spec["driver"]["template"]["spec"]
    driver |= {"serviceAccountName": DRIVER_SERVICE_ACCOUNT, "automountServiceAccountToken": True}
    if fewest != most:
        spec["dynamicAllocation"] = {"enabled": True, "minExecutors": fewest, "maxExecutors": most}
    # The spark-operator puts the resource's labels on driver and executors, over those of their templates.
    shared = executor["metadata"]["labels"].items() & main["metadata"]["labels"].items()
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "SparkApplication",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(sorted(shared))},
        "spec": spec,
    }


def state(application: Mapping[str, Any]) -> tuple[str, str]:
    """State and error message of an application, as the spark-operator last said; empty before it has."""
    said = (application.get("status") or {}).get("applicationState") or {}
    return str(said.get("state") or ""), str(said.get("errorMessage") or "")


def driver_labels(application: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels that the driver's pod of an application has, or is to have."""
    labels: Mapping[str, str] = application["spec"]["driver"]["template"]["metadata"]["labels"]
    return labels


def _parsed(command: Sequence[str]) -> tuple[dict[str, str], Sequence[str]]:
    """The settings of a spark-submit command line, and the program with its arguments."""
    rest = list(command[1:])
    conf = {}
    while rest[0].startswith("--"):
        option, value, *rest = rest
        if option == "--conf":
            key, _, conf[key] = value.partition("=")
    return conf, rest


def _pod(pod: Mapping[str, Any], placement: Placement, memory: SparkMemory) -> dict[str, Any]:
    """The fields that driver and executor share. Spark adds heap and overhead to what the pod requests and may have."""
    container = {
        key: value for key, value in pod["spec"]["containers"][0].items() if key not in ("args", "command", "resources")
    }
    metadata = {key: pod["metadata"].get(key) or {} for key in ("labels", "annotations")}
    return {
        "cores": placement.cores,
        "coreRequest": f"{placement.cpu_millis}m",
        "memory": f"{memory.heap}m",
        "memoryOverhead": f"{memory.overhead + memory.python + memory.margin}m",
        "template": {"metadata": metadata, "spec": {**pod["spec"], "containers": [container]}},
    }
