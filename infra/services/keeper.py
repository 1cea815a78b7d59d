"""The keeper: records what happens to machines and pods, removes what belongs to nobody, and shows what it all cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random

from infra import naming
from infra.services import keeper_pods
from infra.services.airflow_values import DATABASE_KEY
from infra.services.keeper_pods import DATABASE_SECRET, LABELS, NAME, PAGE_KEY, PAGE_SECRET
from infra.services.placement import Placement
from infra.settings import model

READ_RULES: dict[str, list[str]] = {
    "nodes": ["get", "list", "watch"],
    "nodes/stats": ["get"],  # what pods used; unlike nodes/proxy it runs nothing in them
    "pods": ["get", "list", "watch"],
    "persistentvolumeclaims": ["get", "list"],
    "events": ["list", "watch"],
}
"""Of the whole cluster: machines are nobody's namespace, and whether one is idle depends on everybody's pods."""

REMOVE_RULES: dict[str, list[str]] = {"pods": ["delete"], "persistentvolumeclaims": ["delete"]}
"""In the teams' namespaces only."""

NODE_LEASES = "kube-node-lease"


@dataclass(frozen=True)
class KeeperArgs:
    """image: of the keeper; none is needed where the settings have no replicas. namespaces: of the teams.

    database_connection: SQLAlchemy URL, a secret; database_secret: the Secret that holds it instead; with neither the
    ledger is a file on a volume of `storage_class`. has_airflow: the environment's own. metrics: a Prometheus in the
    namespace `monitoring` collects them. identity: annotations of the ServiceAccount, where the cloud binds identities
    by them. arguments: more of the command line, such as what the cloud can be asked.
    """

    settings: model.Keeper
    image: pulumi.Input[str] | None
    namespaces: Iterable[str]
    database_connection: pulumi.Input[str] | None
    database_secret: str
    storage_class: str
    placement: Placement
    has_airflow: bool
    metrics: bool
    identity: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[pulumi.Input[str], ...] = ()


class Keeper(pulumi.ComponentResource):
    """The rights, and with replicas the Deployment with its Service, connections and volume.

    Raises ValueError for replicas without an image.
    """

    def __init__(self, name: str, args: KeeperArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:Keeper", name, {}, opts)
        self._name, self._inside = name, pulumi.ResourceOptions(parent=self)
        self._rights(args)
        if args.settings.replicas:
            if args.image is None:
                raise ValueError("the keeper has no image: name one under images.references, or build them")
            self._connections(args.metrics)
            self._deploy(args, args.image)
        self.register_outputs({})

    def _rights(self, args: KeeperArgs) -> None:
        metadata: Any = {**_named(), "annotations": dict(args.identity)}
        kubernetes.core.v1.ServiceAccount(
            f"{self._name}-account",
            metadata=metadata,
            automount_service_account_token=False,  # its pod mounts it
            opts=self._inside,
        )
        role = kubernetes.rbac.v1.ClusterRole(
            f"{self._name}-reader",
            metadata={"name": "tidepool-keeper"},
            rules=_rules(READ_RULES),
            opts=self._inside,
        )
        kubernetes.rbac.v1.ClusterRoleBinding(
            f"{self._name}-reader",
            metadata={"name": "tidepool-keeper"},
            role_ref=_reference("ClusterRole", role.metadata.name),
            subjects=[_subject()],
            opts=self._inside,
        )
        for namespace in args.namespaces:
            self._role(f"remover-{namespace}", namespace, _rules(REMOVE_RULES))
        self._role("node-leases", NODE_LEASES, [_rule("leases", ["get", "list"], "coordination.k8s.io")])
        # What is to be created has no name yet, so that `create` can't be bound to one.
        own = _rule("leases", ["get", "update"], "coordination.k8s.io", names=[naming.KEEPER_LEASE])
        self._role("lease", naming.PLATFORM_NAMESPACE, [_rule("leases", ["create"], "coordination.k8s.io"), own])

    def _role(self, suffix: str, namespace: str, rules: list[kubernetes.rbac.v1.PolicyRuleArgs]) -> None:
        metadata: Any = {"name": "tidepool-keeper", "namespace": namespace}
        role = kubernetes.rbac.v1.Role(f"{self._name}-{suffix}", metadata=metadata, rules=rules, opts=self._inside)
        kubernetes.rbac.v1.RoleBinding(
            f"{self._name}-{suffix}",
            metadata=metadata,
            role_ref=_reference("Role", role.metadata.name),
            subjects=[_subject()],
            opts=self._inside,
        )

    def _connections(self, metrics: bool) -> None:
        for policy, spec in keeper_pods.policies(metrics).items():
            kubernetes.networking.v1.NetworkPolicy(
                f"{self._name}-{policy}",
                metadata={"name": policy, "namespace": naming.PLATFORM_NAMESPACE},
                spec=spec,
                opts=self._inside,
            )
        kubernetes.core.v1.Service(
            f"{self._name}-service", metadata=_named(), spec=keeper_pods.service(), opts=self._inside
        )
        kubernetes.policy.v1.PodDisruptionBudget(
            f"{self._name}-budget",
            metadata=_named(),
            spec={"max_unavailable": 1, "selector": {"match_labels": LABELS}},
            opts=self._inside,
        )

    def _deploy(self, args: KeeperArgs, image: pulumi.Input[str]) -> None:
        before: list[pulumi.Resource] = [self._token()]
        database = args.database_secret
        if args.database_connection is not None:
            database = DATABASE_SECRET
            before.append(
                kubernetes.core.v1.Secret(
                    f"{self._name}-database",
                    metadata={"name": database, "namespace": naming.PLATFORM_NAMESPACE},
                    string_data={DATABASE_KEY: args.database_connection},
                    opts=self._inside,
                )
            )
        if not database:
            before.append(
                kubernetes.core.v1.PersistentVolumeClaim(
                    f"{self._name}-ledger",
                    metadata={"name": "keeper-ledger", "namespace": naming.PLATFORM_NAMESPACE},
                    spec=keeper_pods.claim(args.settings.volume_gib, args.storage_class),
                    # It waits for its pod, and what it holds outlives the keeper.
                    opts=pulumi.ResourceOptions(
                        parent=self,
                        retain_on_delete=True,
                    ),
                )
            )
        made_of = keeper_pods.PodArgs(args.settings, image, database, args.placement, args.has_airflow, args.arguments)
        kubernetes.apps.v1.Deployment(
            f"{self._name}-deployment",
            metadata=_named(),
            spec=keeper_pods.deployment(made_of),
            opts=pulumi.ResourceOptions(parent=self, depends_on=before),
        )

    def _token(self) -> kubernetes.core.v1.Secret:
        """Whoever knows it sees the page; Airflow's menu passes it on."""
        token = random.RandomPassword(f"{self._name}-token", length=48, special=False, opts=self._inside)
        return kubernetes.core.v1.Secret(
            f"{self._name}-page",
            metadata={"name": PAGE_SECRET, "namespace": naming.PLATFORM_NAMESPACE},
            string_data={PAGE_KEY: token.result},
            opts=self._inside,
        )


def _named() -> Any:
    return {"name": NAME, "namespace": naming.PLATFORM_NAMESPACE}


def _rules(verbs: Mapping[str, list[str]]) -> list[kubernetes.rbac.v1.PolicyRuleArgs]:
    return [_rule(resource, allowed) for resource, allowed in verbs.items()]


def _rule(
    resource: str, verbs: list[str], group: str = "", names: list[str] | None = None
) -> kubernetes.rbac.v1.PolicyRuleArgs:
    return kubernetes.rbac.v1.PolicyRuleArgs(
        api_groups=[group], resources=[resource], verbs=verbs, resource_names=names
    )


def _reference(kind: str, name: pulumi.Input[str]) -> kubernetes.rbac.v1.RoleRefArgs:
    return kubernetes.rbac.v1.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind=kind, name=name)


def _subject() -> kubernetes.rbac.v1.SubjectArgs:
    return kubernetes.rbac.v1.SubjectArgs(
        kind="ServiceAccount", name=naming.KEEPER_SERVICE_ACCOUNT, namespace=naming.PLATFORM_NAMESPACE
    )
