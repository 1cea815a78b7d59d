"""The keeper's pods and what is around them, as `kubectl` takes it: Deployment, Service, policies, claim. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra import naming
from infra.services import network_policies
from infra.services.airflow_values import DATABASE_KEY, KEEPER_USER_SECRET
from infra.services.placement import RESTRICTED_CONTAINER, RESTRICTED_POD, Placement, resources
from infra.settings import model

NAME = naming.KEEPER_SERVICE_ACCOUNT  # of everything here
PORT = naming.KEEPER_PORT
USER_ID = 187
"""Of the image `keeper`."""

KUBELET_PORT = 10250
AIRFLOW_URL = "http://airflow-api-server:8080"
DATABASE_SECRET, PAGE_SECRET, PAGE_KEY = "keeper-database", naming.KEEPER_PAGE_SECRET, naming.KEEPER_PAGE_KEY
CAPACITY_FOLDER, DATA_FOLDER = "/etc/tidepool", "/data"
LABELS = {"app.kubernetes.io/name": NAME}

Text = Any  # text, or an output of Pulumi that is only passed on


@dataclass(frozen=True)
class PodArgs:
    """What the keeper's pods are made of. database: name of the Secret with its URL; empty: a file on the volume.

    has_airflow: the environment's own. arguments: more of the command line.
    """

    settings: model.Keeper
    image: Text
    database: str
    placement: Placement
    has_airflow: bool
    arguments: tuple[Text, ...]


def service() -> Any:
    """Specification of the Service: the page, the metrics and whether it is well."""
    return {"type": "ClusterIP", "selector": LABELS, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]}


def policies(metrics: bool) -> dict[str, Any]:
    """Specifications of NetworkPolicies by name, beside the namespace's own: to kubelets, and for Prometheus."""
    outside = {"ipBlock": {"cidr": "0.0.0.0/0", "except": [network_policies.LINK_LOCAL]}}
    found: dict[str, Any] = {
        "keeper-kubelets": {
            "podSelector": {"matchLabels": LABELS},
            "policyTypes": ["Egress"],
            "egress": [{"to": [outside], "ports": [{"port": KUBELET_PORT, "protocol": "TCP"}]}],
        }
    }
    if metrics:
        monitoring = {network_policies.NAMESPACE_NAME_LABEL: naming.MONITORING_NAMESPACE}
        found["keeper-metrics"] = {
            "podSelector": {"matchLabels": LABELS},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"namespaceSelector": {"matchLabels": monitoring}}],
                    "ports": [{"port": PORT, "protocol": "TCP"}],
                }
            ],
        }
    return found


def claim(gib: int, storage_class: str) -> Any:
    """Specification of the claim of the ledger's volume."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{gib}Gi"}},
    }
    return spec | ({"storageClassName": storage_class} if storage_class else {})


def deployment(args: PodArgs) -> Any:
    """Specification of the Deployment."""
    one_at_a_time = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    return {
        "replicas": args.settings.replicas,
        "strategy": one_at_a_time if args.database else {"type": "Recreate"},
        "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": LABELS}, "spec": pod(args)},
    }


def pod(args: PodArgs) -> dict[str, Any]:
    """Specification of the pod."""
    answers = {"httpGet": {"path": "/healthz", "port": "http"}, "timeoutSeconds": 5}
    data = [] if args.database else [{"name": "data", "mountPath": DATA_FOLDER}]
    volumes = [] if args.database else [{"name": "data", "persistentVolumeClaim": {"claimName": "keeper-ledger"}}]
    return {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "priorityClassName": naming.PLATFORM_PRIORITY_CLASS,
        "nodeSelector": dict(args.placement.selector),
        "tolerations": args.placement.tolerations(),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": LABELS},
            }
        ],
        "securityContext": {**RESTRICTED_POD, "runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID},
        "containers": [
            {
                "name": NAME,
                "image": args.image,
                "args": command(args),
                "env": environment(args),
                "ports": [{"name": "http", "containerPort": PORT}],
                "securityContext": {**RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True},
                "resources": resources("100m", "512Mi", "1Gi"),
                "startupProbe": {**answers, "periodSeconds": 2, "failureThreshold": 60},
                "readinessProbe": {**answers, "periodSeconds": 10},
                "livenessProbe": {**answers, "periodSeconds": 20, "failureThreshold": 6},
                "volumeMounts": [
                    {"name": "capacity", "mountPath": CAPACITY_FOLDER, "readOnly": True},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (in the pod)
                    *data,
                ],
            }
        ],
        "volumes": [
            {"name": "capacity", "configMap": {"name": naming.CAPACITY_CONFIG_MAP}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
            *volumes,
        ],
    }


def command(args: PodArgs) -> list[Text]:
    """The container's command line."""
    words: list[Text] = ["python", "-m", "tidepool.keeper", "--listen", f"0.0.0.0:{PORT}"]
    words += ["--database", "env" if args.database else f"{DATA_FOLDER}/ledger.db"]
    words += ["--lease", f"{naming.PLATFORM_NAMESPACE}/{naming.KEEPER_LEASE}"]
    if args.settings.airflow is not None:
        words += ["--airflow", args.settings.airflow.url]
    elif args.has_airflow:
        words += ["--airflow", AIRFLOW_URL]
    return [*words, *(["--dry-run"] if args.settings.dry_run else []), *args.arguments]


def environment(args: PodArgs) -> list[dict[str, Any]]:
    """The container's variables; what is secret comes from Secrets."""
    secrets = {"TIDEPOOL_PAGE_TOKEN": (PAGE_SECRET, PAGE_KEY)}
    secrets |= {"TIDEPOOL_LEDGER": (args.database, DATABASE_KEY)} if args.database else {}
    airflow = args.settings.airflow.secret if args.settings.airflow else KEEPER_USER_SECRET if args.has_airflow else ""
    if airflow:
        secrets |= {"TIDEPOOL_AIRFLOW_USER": (airflow, "username"), "TIDEPOOL_AIRFLOW_PASSWORD": (airflow, "password")}
    return [
        {"name": "TIDEPOOL_CAPACITY", "value": f"{CAPACITY_FOLDER}/{naming.CAPACITY_KEY}"},
        *(
            {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
            for variable, (secret, key) in secrets.items()
        ),
    ]
