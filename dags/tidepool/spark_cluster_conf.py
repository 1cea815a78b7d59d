"""Spark on its Kubernetes scheduler: the driver in the job's pod, in client mode, executors in pods of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tidepool import spark_conf
from tidepool.capacity import DRIVER_SERVICE_ACCOUNT, LABEL_PREFIX
from tidepool.cluster import GRACE_SECONDS, POD_IP_VARIABLE, POD_NAME_VARIABLE, knowing_itself
from tidepool.job import JobError
from tidepool.pod import SCRATCH_FOLDER
from tidepool.sizing import Placement, SparkMemory

ROLE = "executor"
TEMPLATE_ANNOTATION = LABEL_PREFIX + "executor-template"
"""Of the driver's pod: the executors' pod as JSON, which the driver reads as a file."""

TEMPLATE_FOLDER = "/etc/tidepool"
_TEMPLATE = "executor-template"
_TEMPLATE_FILE = "executor.json"

DERIVED = {
    "spark.master": "Kubernetes",
    "spark.driver.memory": "driver_memory",
    "spark.driver.cores": "driver_cores",
    "spark.executor.memory": "memory",
    "spark.executor.memoryOverhead": "memory",
    "spark.executor.cores": "cores",
    "spark.executor.instances": "executors",
    "spark.dynamicAllocation.enabled": "executors",
    "spark.dynamicAllocation.minExecutors": "executors",
    "spark.dynamicAllocation.maxExecutors": "executors",
    "spark.kubernetes.executor.podTemplateFile": "the job's pod",
    "spark.kubernetes.executor.request.cores": "cores",
}
"""Settings that follow from what the job asks for: by hand they would break the fit into pod and machine."""

_DECOMMISSION = {
    # A machine that is about to be taken back: its executor takes no more tasks and hands its blocks to others.
    "spark.decommission.enabled": "true",
    "spark.storage.decommission.enabled": "true",
    "spark.storage.decommission.rddBlocks.enabled": "true",
    "spark.storage.decommission.shuffleBlocks.enabled": "true",
    "spark.executor.decommission.forceKillTimeout": f"{GRACE_SECONDS}s",
    "spark.stage.ignoreDecommissionFetchFailure": "true",
    "spark.kubernetes.decommission.script": "/usr/local/bin/decommission",
    "spark.kubernetes.executor.terminationGracePeriodSeconds": f"{GRACE_SECONDS}s",
    # Executors that are reclaimed are no fault of the program: only many in a short time end it.
    "spark.executor.failuresValidityInterval": "1h",
}

_POLLING = {
    # Its watch asks for what etcd before 3.5 lacks, and then fails once a second; looking now and then does as well.
    "spark.kubernetes.executor.enableApiWatcher": "false",
    "spark.kubernetes.executor.apiPollingInterval": "10s",
}

_NOTHING_BESIDE_PODS = {
    # The driver may make pods and nothing else: no Service (its address is its pod's), ConfigMap or volume claim.
    "spark.kubernetes.executor.disableConfigMap": "true",
    "spark.kubernetes.driver.service.deleteOnTermination": "false",
    "spark.kubernetes.driver.ownPersistentVolumeClaim": "false",
    "spark.kubernetes.driver.reusePersistentVolumeClaim": "false",
    "spark.kubernetes.driver.waitToReusePersistentVolumeClaim": "false",
}


def executor_count(task: str, executors: int | tuple[int, int]) -> tuple[int, int]:
    """The fewest and the most executors; equal where their number is fixed. Raises JobError."""
    fewest, most = executors if isinstance(executors, tuple) and len(executors) == 2 else (executors, executors)
    if type(fewest) is not int or type(most) is not int or not 0 <= fewest <= most or most < 1:
        raise JobError(
            f"task {task!r}: executors must be a number of at least 1, or the fewest and the most, such as (1, 8), not "
            f"{executors!r}"
        )
    return fewest, most


def settings(
    task: str,
    image: str,
    executors: tuple[int, int],
    placement: Placement,
    memory: SparkMemory,
    driver_memory: SparkMemory,
    schedule_timeout_seconds: int,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """Spark's settings. placement, memory: of each executor. `extra` are the author's and win, save over what derives.

    Raises JobError where `extra` has what derives.
    """
    spark_conf.refuse_derived(task, extra, DERIVED)
    fewest, most = executors
    size = {
        "spark.driver.memory": f"{driver_memory.heap}m",
        "spark.executor.memory": f"{memory.heap}m",
        # Spark adds this to the heap for the pod's memory: the sum is what the machine has for it.
        "spark.executor.memoryOverhead": f"{memory.overhead + memory.python + memory.margin}m",
        "spark.executor.cores": str(placement.cores),
        "spark.kubernetes.executor.request.cores": f"{placement.cpu_millis}m",
        "spark.executor.instances": str(most),
    }
    if fewest != most:
        size |= {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
            "spark.dynamicAllocation.minExecutors": str(fewest),
            "spark.dynamicAllocation.maxExecutors": str(most),
            "spark.executor.instances": str(max(1, fewest)),
        }
    return {
        "spark.master": "k8s://https://kubernetes.default.svc",
        "spark.submit.deployMode": "client",
        "spark.kubernetes.namespace": placement.tenant.namespace,
        "spark.kubernetes.container.image": image,
        "spark.kubernetes.container.image.pullPolicy": "IfNotPresent",
        "spark.kubernetes.authenticate.executor.serviceAccountName": placement.tenant.service_account,
        "spark.kubernetes.driver.pod.name": f"$({POD_NAME_VARIABLE})",
        "spark.kubernetes.executor.podTemplateFile": f"{TEMPLATE_FOLDER}/{_TEMPLATE_FILE}",
        # An executor waits for its machine to be bought, as a job does.
        "spark.kubernetes.allocation.executor.timeout": f"{schedule_timeout_seconds}s",
        "spark.driver.host": f"$({POD_IP_VARIABLE})",
        "spark.driver.bindAddress": f"$({POD_IP_VARIABLE})",
        **_NOTHING_BESIDE_PODS,
        **_POLLING,
        **_DECOMMISSION,
        **size,
        "spark.sql.warehouse.dir": f"file:{SCRATCH_FOLDER}/warehouse",
        "spark.ui.enabled": "false",
        "spark.log.level": "WARN",
        "spark.sql.adaptive.enabled": "true",
        "spark.sql.shuffle.partitions": str(spark_conf.SHUFFLE_PARTITIONS_PER_CORE * placement.cores * most),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        **extra,
    }


def driver(main: Mapping[str, Any], executor: Mapping[str, Any]) -> dict[str, Any]:
    """The driver's pod from the job's: with its rights, its own name and address, and its executors' pod as a file.

    That file is an annotation of the pod, so that there is nothing besides the pod to make and to remove.
    """
    made = knowing_itself(main)
    metadata, spec = made["metadata"], made["spec"]
    metadata["annotations"] = {**metadata.get("annotations", {}), TEMPLATE_ANNOTATION: _template(executor)}
    spec |= {"serviceAccountName": DRIVER_SERVICE_ACCOUNT, "automountServiceAccountToken": True}
    source = {"fieldPath": f"metadata.annotations['{TEMPLATE_ANNOTATION}']"}
    items = [{"path": _TEMPLATE_FILE, "fieldRef": source}]
    spec["volumes"] = [*(spec.get("volumes") or []), {"name": _TEMPLATE, "downwardAPI": {"items": items}}]
    container = spec["containers"][0]
    mount = {"name": _TEMPLATE, "mountPath": TEMPLATE_FOLDER, "readOnly": True}
    container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]
    return made


def _template(executor: Mapping[str, Any]) -> str:
    """The executors' pod as JSON, which YAML readers take too. Spark adds name, owner, command, and from the settings
    what it requests."""
    [container] = executor["spec"]["containers"]
    container = {key: value for key, value in container.items() if key != "resources"}
    return json.dumps({**executor, "spec": {**executor["spec"], "containers": [container]}}, sort_keys=True)
