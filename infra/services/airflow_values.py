"""What Airflow's chart gets, and which Airflow pools there are. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from infra import naming, versions
from infra.services.placement import RESTRICTED_CONTAINER, RESTRICTED_POD, Placement, resources
from infra.settings import model
from tidepool import queues
from tidepool.capacity import PATH_VARIABLE, Capacity

NAMESPACE = naming.PLATFORM_NAMESPACE

DATABASE_SECRET = "airflow-database"  # noqa: S105 (names, as the chart's)
KEYS_SECRET = "airflow-keys"  # noqa: S105
USER_SECRET, KEEPER_USER_SECRET = "airflow-user", "airflow-keeper"
DATABASE_KEY, ASYNC_DATABASE_KEY = "connection", "connection-async"
FERNET_KEY, API_KEY, JWT_KEY = "fernet-key", "api-secret-key", "jwt-secret"
"""The keys that the chart looks for in the Secrets that it is given; for the asynchronous connection we do."""

USER_ID = 50000
"""Of Airflow's official images, whose group is 0; the image `airflow` keeps both."""

CAPACITY_FOLDER = "/etc/tidepool"
DAGS_FOLDER = "/opt/airflow/dags"
"""The image's; with a git repository of DAGs it still holds the library that the image was built with."""
AUTH_MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
SECURITY = {**RESTRICTED_POD, "runAsUser": USER_ID, "runAsGroup": 0, "fsGroup": 0}


@dataclass(frozen=True)
class Image:
    """An image reference in the two halves that charts put together with a colon. Either may be a Pulumi output."""

    repository: Any
    tag: Any


def split_image(reference: str) -> Image:
    """At the last colon, so that the halves always make the same reference again, also with a digest."""
    repository, _, tag = reference.rpartition(":")
    return Image(repository, tag)


def pools(capacity: Capacity) -> str:
    """For `airflow pools import`: the queues of the capacity document.

    A task that is deferred holds its slots too, because its job still has the machine.
    """
    made = {
        name: {"slots": queue.slots, "description": queue.description, "include_deferred": True}
        for name, queue in queues.queues(capacity).items()
    }
    return json.dumps(made, indent=2, sort_keys=True) + "\n"


def values(
    settings: model.Airflow,
    image: Image,
    logs: Any,
    database_secret: str,
    placement: Placement,
    metrics: bool,
    identity: Mapping[str, str],
    has_page: bool = False,
) -> dict[str, Any]:
    """The chart's values.

    logs: URI for task logs, empty for none; may be an output. database_secret: name of the Secret with the connection.
    metrics: something collects them. identity: annotations of the API server's ServiceAccount. has_page: the keeper's
    page is in the menu.
    """
    system = placement.values(naming.PLATFORM_PRIORITY_CLASS)
    priority = {"priorityClassName": system["priorityClassName"]}
    is_kubernetes = settings.executor == "KubernetesExecutor"
    launcher = {"serviceAccount": {"create": False, "name": naming.AIRFLOW_SERVICE_ACCOUNT}}
    executor = {"serviceAccount": {"create": False, "name": naming.AIRFLOW_SCHEDULER_SERVICE_ACCOUNT}}
    bystander = {"serviceAccount": {"create": True, "automountServiceAccountToken": False}}
    is_off = {"enabled": False}
    return {
        "fullnameOverride": "airflow",
        "useStandardNaming": True,
        "airflowVersion": versions.AIRFLOW,
        "defaultAirflowTag": versions.AIRFLOW,
        "images": {"airflow": {"repository": image.repository, "tag": image.tag}},
        "executor": settings.executor,
        "nodeSelector": system["nodeSelector"],
        "tolerations": system["tolerations"],
        "uid": USER_ID,
        "gid": 0,
        "securityContexts": {"pod": SECURITY, "containers": RESTRICTED_CONTAINER},
        # The chart's own rights would let task pods start and enter any pod beside Airflow. Those to launch jobs are
        # given in each tenant's namespace, those of KubernetesExecutor in airflow_executor.
        "rbac": {"create": False},
        "multiNamespaceMode": False,
        "allowPodLaunching": False,
        "env": [{"name": PATH_VARIABLE, "value": f"{CAPACITY_FOLDER}/{naming.CAPACITY_KEY}"}],
        # A folder and not a file: only so does a changed ConfigMap reach pods that run.
        "volumes": [{"name": "capacity", "configMap": {"name": naming.CAPACITY_CONFIG_MAP}}],
        "volumeMounts": [{"name": "capacity", "mountPath": CAPACITY_FOLDER, "readOnly": True}],
        "extraEnv": yaml.safe_dump(async_database(database_secret), sort_keys=False),
        "data": {"metadataSecretName": database_secret},
        # Given by name, all three: what the chart makes up itself changes with every upgrade.
        "fernetKeySecretName": KEYS_SECRET,
        "apiSecretKeySecretName": KEYS_SECRET,
        "jwtSecretName": KEYS_SECRET,
        "config": config(settings, logs),
        "scheduler": {
            # LocalExecutor runs tasks in its pod; with KubernetesExecutor no DAG's code runs there.
            **(executor if is_kubernetes else launcher),
            **priority,
            # LocalExecutor runs tasks in the scheduler's pod, each a process that watches a job.
            "resources": resources("500m", "1Gi", "2Gi") if is_kubernetes else resources("1", "3Gi", "6Gi"),
            "safeToEvict": False,
            "logGroomerSidecar": groomer(),
        },
        "workers": {
            # The chart heeds the one below `kubernetes` only if it is told to (useWorkerDedicatedServiceAccounts).
            **launcher,
            "celery": {"persistence": is_off},
            "kubernetes": {**launcher, **priority, "resources": resources("200m", "512Mi", "1Gi")},
        },
        "triggerer": {
            **launcher,
            **priority,
            "resources": resources("200m", "512Mi", "1Gi"),
            "safeToEvict": False,
            "persistence": is_off,
            "logGroomerSidecar": groomer(),
            # Airflow gives its Python path the DAGs' bundle everywhere but here, where deadlines' callbacks run.
            "env": [{"name": "PYTHONPATH", "value": DAGS_FOLDER}],
        },
        # These two never launch anything. The DAG processor runs everybody's code, the API server is what users reach.
        "dagProcessor": {
            **bystander,
            **priority,
            "resources": resources("500m", "768Mi", "2Gi"),
            "dagBundleConfigList": [bundle(settings.dags)],
            "logGroomerSidecar": groomer(),
        },
        "apiServer": {
            "serviceAccount": {
                "create": True,
                "name": naming.AIRFLOW_API_SERVICE_ACCOUNT,
                "annotations": dict(identity),
                "automountServiceAccountToken": is_kubernetes,  # shows the log of a running task pod
            },
            **priority,
            "resources": resources("500m", "1Gi", "2Gi"),
            "allowPodLogReading": False,
            **({"env": page()} if has_page else {}),
        },
        # No Helm hook: those run after everything is ready, and nothing gets ready before the database is migrated.
        "migrateDatabaseJob": {
            **bystander,
            "resources": resources("200m", "512Mi", "1Gi"),
            "useHelmHooks": False,
            "applyCustomEnv": False,
            "ttlSecondsAfterFinished": 60,  # an upgrade cannot change a Job that is there
        },
        "createUserJob": is_off,  # its password would stand in the release's values
        "statsd": {
            "enabled": metrics,
            **bystander,
            "resources": resources("20m", "64Mi", "128Mi"),
            "securityContexts": {"pod": {**RESTRICTED_POD, "runAsUser": 65534}, "container": RESTRICTED_CONTAINER},
        },
        "postgresql": is_off,
        "pgbouncer": is_off,
        "redis": is_off,
        "flower": is_off,
    }


def async_database(secret: str) -> list[dict[str, Any]]:
    """The variable with the asynchronous connection. Where the Secret has none, Airflow makes one of the other."""
    reference = {"name": secret, "key": ASYNC_DATABASE_KEY, "optional": True}
    return [{"name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", "valueFrom": {"secretKeyRef": reference}}]


def async_connection(connection: str) -> str:
    """The URL of the same PostgreSQL for asyncpg, which takes libpq's `sslmode` as `ssl` only, and refuses the other.

    Airflow changes nothing but the driver.
    """
    server, _, parameters = connection.partition(":")[2].partition("?")
    changed = "&".join(re.sub("^sslmode=", "ssl=", each) for each in parameters.split("&"))
    return f"postgresql+asyncpg:{server}{'?' if changed else ''}{changed}"


def page() -> list[dict[str, Any]]:
    """Variables of the API server alone, for images/airflow/plugins: nobody's DAG is in it."""
    secret = {"name": naming.KEEPER_PAGE_SECRET, "key": naming.KEEPER_PAGE_KEY}
    return [
        {"name": "TIDEPOOL_KEEPER_URL", "value": f"http://{naming.KEEPER_SERVICE_ACCOUNT}:{naming.KEEPER_PORT}"},
        {"name": "TIDEPOOL_PAGE_TOKEN", "valueFrom": {"secretKeyRef": secret}},
    ]


def config(settings: model.Airflow, logs: Any) -> dict[str, Any]:
    """The sections of airflow.cfg that differ from the chart's and Airflow's own."""
    is_remote = not isinstance(logs, str) or logs != ""
    return {
        "core": {
            "auth_manager": AUTH_MANAGER,
            "load_examples": "False",
            "parallelism": 128 if settings.executor == "KubernetesExecutor" else 32,
            "execution_api_server_url": "http://airflow-api-server:8080/execution/",
            # A Deployment's pods have no name in DNS, and the API server fetches the log of a running task from them.
            "hostname_callable": "airflow.utils.net.get_host_ip_address",
        },
        "logging": {
            "remote_logging": "True" if is_remote else "False",
            **({"remote_base_log_folder": logs, "delete_local_logs": "True"} if is_remote else {}),
        },
        "kubernetes_executor": {"worker_pods_creation_batch_size": 16},  # 1 at a time by default
    }


def bundle(dags: model.GitDags | None) -> dict[str, Any]:
    """Where DAGs come from: the image's own folder, or a git repository."""
    if dags is None:
        return {"name": "dags", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}}
    connection = {"git_conn_id": dags.connection} if dags.connection else {}
    return {
        "name": "dags",
        "classpath": "airflow.providers.git.bundles.git.GitDagBundle",
        "kwargs": {
            "repo_url": dags.repository,
            "tracking_ref": dags.ref,
            "subdir": dags.folder,
            "refresh_interval": 60,
            **connection,
        },
    }


def groomer() -> dict[str, Any]:
    """The sidecar that removes old local logs; task logs are elsewhere by then."""
    return {"retentionDays": 3, "resources": resources("20m", "64Mi", "128Mi")}
