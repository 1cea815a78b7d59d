"""Spark's history server: the web pages of jobs that have ended, from the event logs they left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra import naming
from infra.services import hdfs_config
from infra.services.placement import RESTRICTED_CONTAINER, RESTRICTED_POD, Placement, resources

NAME = naming.HISTORY_SERVICE_ACCOUNT  # of everything here
PORT = 18080
USER_ID = 185
"""Of the image `spark`."""

HEAP = "1g"
CONF_FOLDER = "/etc/spark-history"
LABELS = {"app.kubernetes.io/name": NAME}
SERVICE: Any = {
    "type": "ClusterIP",
    "selector": LABELS,
    "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
}


@dataclass(frozen=True)
class HistoryServerArgs:
    """image: of Spark. event_logs: URI. keep_days: what is older is removed. hadoop: settings of Hadoop's clients.

    identity: annotations of the ServiceAccount, where the cloud binds identities by them.
    """

    image: pulumi.Input[str]
    event_logs: pulumi.Input[str]
    keep_days: int
    placement: Placement
    identity: Mapping[str, str]
    hadoop: Mapping[str, str] = field(default_factory=dict)


class HistoryServer(pulumi.ComponentResource):
    """Deployment and ClusterIP Service in the platform's namespace, reached by `kubectl port-forward`."""

    def __init__(self, name: str, args: HistoryServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:HistoryServer", name, {}, opts)
        inside = pulumi.ResourceOptions(parent=self)
        metadata: Any = {"name": NAME, "namespace": naming.PLATFORM_NAMESPACE}
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata={"name": NAME, "namespace": naming.PLATFORM_NAMESPACE, "annotations": dict(args.identity)},
            automount_service_account_token=False,
            opts=inside,
        )
        conf = pulumi.Output.from_input(args.event_logs).apply(lambda uri: conf_text(uri, args.keep_days))
        core_site = hdfs_config.site_xml(args.hadoop)  # there even if empty: Hadoop's shell ends without one
        files = kubernetes.core.v1.ConfigMap(
            f"{name}-conf", metadata=metadata, data={"core-site.xml": core_site, "history.conf": conf}, opts=inside
        )
        kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=metadata,
            spec=deployment(args, conf.apply(lambda text: naming.digest(text + core_site))),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[account, files]),
        )
        kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=metadata,
            spec=SERVICE,
            opts=inside,
        )
        self.register_outputs({})


def conf_text(event_logs: str, keep_days: int) -> str:
    """The server's properties file."""
    properties = {
        "spark.history.fs.logDirectory": event_logs,
        "spark.history.fs.cleaner.enabled": "true",
        "spark.history.fs.cleaner.interval": "1d",
        "spark.history.fs.cleaner.maxAge": f"{keep_days}d",
        "spark.history.fs.update.interval": "30s",
        "spark.history.ui.port": str(PORT),
    }
    return "".join(f"{key} {value}\n" for key, value in properties.items())


def deployment(args: HistoryServerArgs, conf_digest: pulumi.Input[str]) -> Any:
    """Specification of the Deployment; another digest replaces its pod."""
    metadata = {"labels": LABELS, "annotations": {"tidepool.dev/conf": conf_digest}}
    return {
        "replicas": 1,
        "strategy": {"type": "Recreate"},  # two cleaners at once would be in each other's way
        "selector": {"matchLabels": LABELS},
        "template": {"metadata": metadata, "spec": pod(args.image, args.event_logs, args.placement)},
    }


def pod(image: pulumi.Input[str], event_logs: pulumi.Input[str], placement: Placement) -> dict[str, Any]:
    """Specification of the pod. Its init container makes the folder of event logs: without one, the server ends."""
    container = {
        "image": image,
        "securityContext": {**RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True},
        "resources": resources("200m", "1536Mi", "2Gi"),
        "env": [
            {"name": "SPARK_DAEMON_MEMORY", "value": HEAP},
            {"name": "HADOOP_CONF_DIR", "value": CONF_FOLDER},
        ],
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (in the pod)
            {"name": "conf", "mountPath": CONF_FOLDER, "readOnly": True},
        ],
    }
    make_folder = ["spark-class", "org.apache.hadoop.fs.FsShell", "-mkdir", "-p", event_logs]
    serve = [
        "spark-class",
        "org.apache.spark.deploy.history.HistoryServer",
        "--properties-file",
        f"{CONF_FOLDER}/history.conf",
    ]
    answers = {"httpGet": {"path": "/", "port": "http"}, "timeoutSeconds": 10}
    return {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # Kubernetes' variables for a Service begin with SPARK_ too
        "priorityClassName": naming.PLATFORM_PRIORITY_CLASS,
        "nodeSelector": dict(placement.selector),
        "tolerations": placement.tolerations(),
        "securityContext": {**RESTRICTED_POD, "runAsUser": USER_ID, "runAsGroup": USER_ID},
        "initContainers": [{**container, "name": "folder", "args": make_folder}],
        "containers": [
            {
                **container,
                "name": "history",
                "args": serve,
                "ports": [{"name": "http", "containerPort": PORT}],
                "startupProbe": {**answers, "periodSeconds": 5, "failureThreshold": 60},
                "readinessProbe": {**answers, "periodSeconds": 15},
                "livenessProbe": {**answers, "periodSeconds": 60, "failureThreshold": 5},
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}},
            {"name": "conf", "configMap": {"name": NAME}},
        ],
    }
