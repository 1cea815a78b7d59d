"""Airflow by its official chart: keys and passwords, the Release, and a Job for pools and the first user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from infra import charts, naming
from infra.services import airflow_executor, airflow_setup, airflow_values
from infra.services.airflow_values import (
    API_KEY,
    ASYNC_DATABASE_KEY,
    DATABASE_KEY,
    DATABASE_SECRET,
    FERNET_KEY,
    JWT_KEY,
    KEEPER_USER_SECRET,
    KEYS_SECRET,
    NAMESPACE,
    USER_SECRET,
)
from infra.services.placement import RESTRICTED_CONTAINER, Placement, resources
from infra.settings import model
from tidepool import capacity

SETUP_FOLDER = "/etc/tidepool-setup"
SETUP_SECONDS = 900

METRICS_POLICY: Any = {
    "podSelector": {"matchLabels": {"component": "statsd"}},
    "policyTypes": ["Ingress"],
    "ingress": [
        {
            "from": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": naming.MONITORING_NAMESPACE}}}
            ],
            "ports": [{"port": 9102, "protocol": "TCP"}],
        }
    ],
}
"""Lets Prometheus in, which the platform's namespace keeps out otherwise."""


@dataclass(frozen=True)
class AirflowArgs:
    """image: of Airflow with the DAGs and the library. logs: URI for task logs, empty for none.

    capacity: the document's text; its ConfigMap is the platform's. database_connection: SQLAlchemy URL, secret; None
    where the Secret `database_secret` holds it. metrics: a Prometheus in the namespace `monitoring` collects them.
    identity: annotations of the API server's ServiceAccount, where the cloud binds identities by them. has_page: the
    environment's keeper has a page.
    """

    settings: model.Airflow
    image: pulumi.Input[str]
    logs: pulumi.Input[str]
    capacity: pulumi.Input[str]
    database_connection: pulumi.Input[str] | None
    database_secret: str
    placement: Placement
    metrics: bool
    chart_sources: Mapping[str, str]
    identity: Mapping[str, str] = field(default_factory=dict)
    has_page: bool = False


class Airflow(pulumi.ComponentResource):
    """The Release and what it needs in the platform's namespace; the ServiceAccount that launches jobs is there.

    Raises ValueError without a database.
    """

    def __init__(self, name: str, args: AirflowArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:Airflow", name, {}, opts)
        if args.database_connection is None and not args.database_secret:
            raise ValueError(
                "Airflow has no database: give the environment one, or name the Secret with its connection"
            )
        self._name, self._inside = name, pulumi.ResourceOptions(parent=self)
        secrets: list[pulumi.Resource] = [
            self._keys(),
            self._user("", USER_SECRET, airflow_setup.USER),
            self._user("keeper-", KEEPER_USER_SECRET, airflow_setup.KEEPER_USER),
        ]
        database_secret = args.database_secret or DATABASE_SECRET
        if args.database_connection is not None:
            given = pulumi.Output.secret(args.database_connection)
            urls = {DATABASE_KEY: given, ASYNC_DATABASE_KEY: given.apply(airflow_values.async_connection)}
            secrets.append(self._secret("database", DATABASE_SECRET, urls))
            database_secret = DATABASE_SECRET
        if args.metrics:
            self._let_prometheus_in()
        before = secrets
        if args.settings.executor == "KubernetesExecutor":
            before = [*secrets, *self._executor([database_secret, KEYS_SECRET])]
        release = kubernetes.helm.v3.Release(
            f"{name}-release",
            kubernetes.helm.v3.ReleaseArgs(
                **charts.release(
                    charts.AIRFLOW,
                    namespace=NAMESPACE,
                    values=airflow_values.values(
                        args.settings,
                        image=_halves(args.image),
                        logs=args.logs,
                        database_secret=database_secret,
                        placement=args.placement,
                        metrics=args.metrics,
                        identity=args.identity,
                        has_page=args.has_page,
                    ),
                    sources=args.chart_sources,
                    timeout_seconds=1200,  # the image is large and the database is migrated
                )
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=before),
        )
        self._set_up(args, database_secret, release)
        self.register_outputs({})

    def _keys(self) -> kubernetes.core.v1.Secret:
        """Fernet key for connections in the database, key of web sessions, key that signs tasks' tokens."""
        fernet = random.RandomBytes(f"{self._name}-fernet", length=32, opts=self._inside)
        texts = {
            key: random.RandomPassword(f"{self._name}-{key}", length=length, special=False, opts=self._inside).result
            for key, length in ((API_KEY, 48), (JWT_KEY, 64))
        }
        return self._secret("keys", KEYS_SECRET, {FERNET_KEY: fernet.base64.apply(url_safe), **texts})

    def _user(self, prefix: str, secret: str, user: str) -> kubernetes.core.v1.Secret:
        password = random.RandomPassword(f"{self._name}-{prefix}password", length=24, special=False, opts=self._inside)
        return self._secret(f"{prefix}user", secret, {"username": user, "password": password.result})

    def _secret(self, suffix: str, secret: str, data: Mapping[str, pulumi.Input[str]]) -> kubernetes.core.v1.Secret:
        return kubernetes.core.v1.Secret(
            f"{self._name}-{suffix}",
            metadata={"name": secret, "namespace": NAMESPACE},
            string_data=data,
            opts=self._inside,
        )

    def _executor(self, secrets: list[str]) -> list[pulumi.Resource]:
        """The scheduler's account and right to make task pods, the API server's to read their logs, and the limits."""
        account = kubernetes.core.v1.ServiceAccount(
            f"{self._name}-scheduler",
            metadata={"name": naming.AIRFLOW_SCHEDULER_SERVICE_ACCOUNT, "namespace": NAMESPACE},
            opts=self._inside,
        )
        policy = kubernetes.admissionregistration.v1.ValidatingAdmissionPolicy(
            f"{self._name}-task-pods",
            metadata={"name": airflow_executor.POLICY},
            spec=cast(Any, airflow_executor.admission_policy(secrets)),
            opts=self._inside,
        )
        binding = kubernetes.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{self._name}-task-pods",
            metadata={"name": airflow_executor.POLICY},
            spec=cast(Any, airflow_executor.admission_binding()),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )
        return [
            account,
            binding,
            *self._right("executor", naming.AIRFLOW_SCHEDULER_SERVICE_ACCOUNT, airflow_executor.EXECUTOR_RULES),
            *self._right("task-reader", naming.AIRFLOW_API_SERVICE_ACCOUNT, airflow_executor.READER_RULES),
        ]

    def _right(self, suffix: str, account: str, allowed: dict[str, list[str]]) -> list[pulumi.Resource]:
        name = f"{self._name}-{suffix}"
        metadata: Any = {"name": name, "namespace": NAMESPACE}
        rules = cast(Any, airflow_executor.rules(allowed))
        role = kubernetes.rbac.v1.Role(name, metadata=metadata, rules=rules, opts=self._inside)
        binding = kubernetes.rbac.v1.RoleBinding(
            name,
            metadata=metadata,
            role_ref=kubernetes.rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.name
            ),
            subjects=[kubernetes.rbac.v1.SubjectArgs(kind="ServiceAccount", name=account, namespace=NAMESPACE)],
            opts=self._inside,
        )
        return [role, binding]

    def _let_prometheus_in(self) -> None:
        kubernetes.networking.v1.NetworkPolicy(
            f"{self._name}-metrics",
            metadata={"name": "airflow-metrics", "namespace": NAMESPACE},
            spec=METRICS_POLICY,
            opts=self._inside,
        )

    def _set_up(self, args: AirflowArgs, database_secret: str, release: pulumi.Resource) -> None:
        """Pools and the first user; done again whenever the pools change."""
        pools = pulumi.Output.from_input(args.capacity).apply(pools_of)
        files = kubernetes.core.v1.ConfigMap(
            f"{self._name}-setup-files",
            metadata={"name": "airflow-setup", "namespace": NAMESPACE},
            data={"setup.py": Path(airflow_setup.__file__).read_text(encoding="utf-8"), "pools.json": pools},
            opts=self._inside,
        )
        kubernetes.batch.v1.Job(
            f"{self._name}-setup",
            metadata={"name": "airflow-setup", "namespace": NAMESPACE},
            spec=setup_job(args.image, database_secret, args.placement, pools.apply(naming.digest)),
            # A Job's pod cannot be changed, and its name is fixed.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[release, files], delete_before_replace=True),
        )


def setup_job(
    image: pulumi.Input[str], database_secret: str, placement: Placement, pools_digest: pulumi.Input[str]
) -> Any:
    """Specification of the Job that runs airflow_setup.py; another digest makes it another Job."""
    return {
        "backoffLimit": 4,
        "activeDeadlineSeconds": SETUP_SECONDS,
        "template": {
            "metadata": {"annotations": {"tidepool.dev/pools": pools_digest}},
            "spec": setup_pod(image, database_secret, placement),
        },
    }


def setup_pod(image: pulumi.Input[str], database_secret: str, placement: Placement) -> dict[str, Any]:
    """Specification of the pod that runs airflow_setup.py."""
    secrets = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (database_secret, DATABASE_KEY),
        "AIRFLOW__CORE__FERNET_KEY": (KEYS_SECRET, FERNET_KEY),
        "AIRFLOW__API__SECRET_KEY": (KEYS_SECRET, API_KEY),
        "AIRFLOW_FIRST_PASSWORD": (USER_SECRET, "password"),
        "AIRFLOW_KEEPER_PASSWORD": (KEEPER_USER_SECRET, "password"),
    }
    return {
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": naming.PLATFORM_PRIORITY_CLASS,
        "nodeSelector": dict(placement.selector),
        "tolerations": placement.tolerations(),
        "securityContext": airflow_values.SECURITY,
        "containers": [
            {
                "name": "setup",
                "image": image,
                "command": ["python", f"{SETUP_FOLDER}/setup.py", f"{SETUP_FOLDER}/pools.json"],
                "env": [
                    {"name": "AIRFLOW__CORE__AUTH_MANAGER", "value": airflow_values.AUTH_MANAGER},
                    *(
                        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
                        for variable, (secret, key) in secrets.items()
                    ),
                ],
                "resources": resources("200m", "512Mi", "1Gi"),
                "securityContext": RESTRICTED_CONTAINER,
                "volumeMounts": [{"name": "files", "mountPath": SETUP_FOLDER, "readOnly": True}],
            }
        ],
        "volumes": [{"name": "files", "configMap": {"name": "airflow-setup"}}],
    }


def url_safe(base64: str) -> str:
    """The same bytes in the alphabet that a Fernet key is written in."""
    return base64.replace("+", "-").replace("/", "_")


def pools_of(document: str) -> str:
    """Airflow's pools for the text of a capacity document. Raises CapacityError as `capacity.loads` does."""
    return airflow_values.pools(capacity.loads(document))


def _halves(image: pulumi.Input[str]) -> airflow_values.Image:
    halves = pulumi.Output.from_input(image).apply(airflow_values.split_image)
    return airflow_values.Image(halves.apply(lambda it: it.repository), halves.apply(lambda it: it.tag))
