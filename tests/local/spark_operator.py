"""A stand-in for kubeflow's spark-operator, for tests: no chart and no image of it can be had here.

It does what the operator's controller does with a SparkApplication of ours (its internal/controller/sparkapplication,
2.x): spark-submit in cluster mode with the settings that it makes of the resource's fields, in a pod, since there is
Spark in it; the application as the driver's owner; and the application's state from what becomes of the driver. The
driver, its Service and its executors are then Spark's own work.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

from kubernetes import client

from infra import naming
from infra.services import tenants
from infra.services.placement import RESTRICTED_CONTAINER, RESTRICTED_POD
from tests.seam import spark_applications
from tidepool import spark_application
from tidepool.capacity import POOL_LABEL

NAME = "spark-operator"
OWN = "sparkoperator.k8s.io"
RULES = {"pods", "services", "configmaps", "persistentvolumeclaims"}
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
FOLDER = "/tmp"  # noqa: S108 - in the pod
SUBMIT = f'echo "$DRIVER" > {FOLDER}/driver.yaml && echo "$EXECUTOR" > {FOLDER}/executor.yaml && exec spark-submit "$@"'
LOOK_SECONDS = 0.3


def submission(application: dict[str, Any]) -> list[str]:
    """The arguments of spark-submit for an application."""
    metadata, spec = application["metadata"], application["spec"]
    conf = {
        "spark.kubernetes.namespace": metadata["namespace"],
        "spark.kubernetes.submission.waitAppCompletion": "false",
        **spec["sparkConf"],
        "spark.kubernetes.container.image": spec["image"],
        "spark.kubernetes.container.image.pullPolicy": spec["imagePullPolicy"],
        "spark.executor.instances": spec["executor"]["instances"],
        "spark.kubernetes.executor.deleteOnTermination": str(spec["executor"]["deleteOnTermination"]).lower(),
    }
    for part, container in (("driver", "spark-kubernetes-driver"), ("executor", "spark-kubernetes-executor")):
        asked, prefix = spec[part], f"spark.kubernetes.{part}"
        labels = {f"{OWN}/app-name": metadata["name"], f"{OWN}/launched-by-spark-operator": "true"}
        labels |= metadata["labels"] | asked.get("labels", {})
        conf |= {f"{prefix}.label.{key}": value for key, value in labels.items()}
        conf |= {
            f"{prefix}.podTemplateFile": f"{FOLDER}/{part}.yaml",
            f"{prefix}.podTemplateContainerName": container,
            f"{prefix}.request.cores": asked["coreRequest"],
            f"spark.{part}.cores": asked["cores"],
            f"spark.{part}.memory": asked["memory"],
            f"spark.{part}.memoryOverhead": asked["memoryOverhead"],
        }
        if "serviceAccount" in asked:
            conf[f"spark.kubernetes.authenticate.{part}.serviceAccountName"] = asked["serviceAccount"]
    if dynamic := spec.get("dynamicAllocation"):
        conf |= {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.minExecutors": dynamic["minExecutors"],
            "spark.dynamicAllocation.maxExecutors": dynamic["maxExecutors"],
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        }
    options = [word for key, value in sorted(conf.items()) for word in ("--conf", f"{key}={value}")]
    name = ["--master", "k8s://https://kubernetes.default.svc", "--deploy-mode", spec["mode"], "--name"]
    return [*name, metadata["name"], *options, spec["mainApplicationFile"], *spec["arguments"]]


class SparkOperator:
    """The stand-in in a local cloud: it heeds the applications of one namespace while it is `running`."""

    def __init__(self, local: Any, namespace: str) -> None:
        self._namespace, self._image = namespace, local.capacity.images["spark"]
        api = local.api.api_client
        self._core, self._rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
        self._definitions, self._custom = client.ApiextensionsV1Api(api), client.CustomObjectsApi(api)
        self._resource = (OWN, spark_application.VERSION, namespace, spark_application.PLURAL)
        self.states: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Install it, heed what comes, and leave nothing of it."""
        stop, errors = threading.Event(), list[Exception]()

        def heed() -> None:
            while not stop.wait(LOOK_SECONDS):
                try:
                    self._step()
                except Exception as error:  # noqa: BLE001 - the test shows it
                    errors.append(error)
                    return

        thread = threading.Thread(target=heed)
        try:
            self._install()
            thread.start()
            yield
        finally:
            stop.set()
            if thread.ident:
                thread.join()
            self._remove()
        assert errors == []

    def _install(self) -> None:
        spark_applications.define(self._definitions)
        labels = naming.pod_security_labels("restricted")
        self._core.create_namespace({"metadata": {"name": NAME, "labels": labels}})
        self._core.create_namespaced_service_account(NAME, {"metadata": {"name": NAME}})
        rules = [{"apiGroups": [""], "resources": sorted(RULES), "verbs": VERBS}]
        self._rbac.create_namespaced_role(self._namespace, {"metadata": {"name": NAME}, "rules": rules})
        self._bind(NAME, {"kind": "ServiceAccount", "name": NAME, "namespace": NAME})
        # What the program gives to Airflow where an environment has the spark-operator.
        group = {"apiGroups": [OWN], "resources": [spark_application.PLURAL], "verbs": tenants.APPLICATION_VERBS}
        self._rbac.create_namespaced_role(self._namespace, {"metadata": {"name": f"{NAME}-jobs"}, "rules": [group]})
        launcher = {"name": naming.AIRFLOW_SERVICE_ACCOUNT, "namespace": naming.PLATFORM_NAMESPACE}
        self._bind(f"{NAME}-jobs", {"kind": "ServiceAccount", **launcher})

    def _bind(self, role: str, subject: dict[str, str]) -> None:
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
        body = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject]}
        self._rbac.create_namespaced_role_binding(self._namespace, body)

    def _remove(self) -> None:
        for call, *arguments in (
            (self._definitions.delete_custom_resource_definition, spark_applications.NAME),
            (self._core.delete_namespace, NAME),
            *(
                (delete, name, self._namespace)
                for delete in (self._rbac.delete_namespaced_role_binding, self._rbac.delete_namespaced_role)
                for name in (NAME, f"{NAME}-jobs")
            ),
        ):
            with contextlib.suppress(client.ApiException):
                call(*arguments)

    def _step(self) -> None:
        for application in self._custom.list_namespaced_custom_object(*self._resource)["items"]:
            name = application["metadata"]["name"]
            state = spark_application.state(application)[0]
            if not state:
                self._core.create_namespaced_pod(NAME, self._submitter(application))
                self._say(name, "SUBMITTED")
            elif state in ("SUBMITTED", "RUNNING"):
                self._follow(name, state)

    def _follow(self, name: str, state: str) -> None:
        listed = self._core.list_namespaced_pod(self._namespace, field_selector=f"metadata.name={name}").items
        if listed:
            phase = {"Pending": "SUBMITTED", "Running": "RUNNING", "Succeeded": "COMPLETED", "Failed": "FAILED"}
            found = phase[listed[0].status.phase]
            if found != state:
                self._say(name, found)
        elif self._core.read_namespaced_pod(name, NAME).status.phase == "Failed":
            self._say(name, "FAILED", f"failed to run spark-submit: {self._core.read_namespaced_pod_log(name, NAME)}")

    def _say(self, name: str, state: str, message: str = "") -> None:
        self.states.setdefault(name, []).append(state)
        status = {"status": {"applicationState": {"state": state, "errorMessage": message}}}
        with contextlib.suppress(client.ApiException):  # its task may just have deleted it
            self._custom.patch_namespaced_custom_object_status(*self._resource, name, status)

    def _submitter(self, application: dict[str, Any]) -> dict[str, Any]:
        """The pod that submits it."""
        metadata, spec = application["metadata"], application["spec"]
        owner = {"apiVersion": application["apiVersion"], "kind": application["kind"], "controller": True}
        driver = spec["driver"]["template"]
        driver["metadata"]["ownerReferences"] = [{**owner, "name": metadata["name"], "uid": metadata["uid"]}]
        templates = {"DRIVER": driver, "EXECUTOR": spec["executor"]["template"]}
        container = {
            "name": "submit",
            "image": self._image,
            "args": ["sh", "-c", SUBMIT, "sh", *submission(application)],
            "env": [{"name": key, "value": json.dumps(each)} for key, each in templates.items()],
            "securityContext": {**RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True},
            "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
            "volumeMounts": [{"name": "tmp", "mountPath": FOLDER}],
        }
        return {
            "metadata": {"name": metadata["name"]},
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": NAME,
                "enableServiceLinks": False,
                "nodeSelector": {POOL_LABEL: naming.SYSTEM_POOL},
                "tolerations": [each.toleration() for each in naming.SYSTEM_TAINTS],
                "securityContext": {**RESTRICTED_POD, "runAsUser": 185, "runAsGroup": 185},
                "containers": [container],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        }
