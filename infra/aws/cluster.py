"""The EKS cluster: its control plane, who may reach it, its encryption and its logs. Machines and addons come after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks

from infra.aws import access, kubeconfig, subnets
from infra.settings.model_aws import EksCluster

LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
KEY_DELETION_DAYS = 30  # the longest that AWS allows


@dataclass(frozen=True)
class ClusterArgs:
    """Inputs of a cluster. subnet_ids: private ones; node_role_arn: of machines that EKS does not manage itself.

    protect: it can't be destroyed before a deployment has taken this back.
    """

    cluster: EksCluster
    region: str
    vpc_id: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    node_role_arn: pulumi.Input[str]
    protect: bool
    tags: Mapping[str, str]


class Cluster(pulumi.ComponentResource):
    """A control plane without machines and without addons.

    name: known once the cluster is there; api_server: where it is; service_cidr: addresses of Services;
    security_group_id: the group that EKS made, in which machines and control plane may talk; kubeconfig: JSON.
    """

    name: pulumi.Output[str]
    api_server: pulumi.Output[kubeconfig.ApiServer]
    service_cidr: str
    security_group_id: pulumi.Output[str]
    kubeconfig: pulumi.Output[str]

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:Cluster", name, {}, opts)
        cluster = args.cluster
        key = aws.kms.Key(
            f"{name}-secrets",
            description=f"Envelope encryption of Kubernetes Secrets of the EKS cluster {cluster.name}",
            enable_key_rotation=True,
            deletion_window_in_days=KEY_DELETION_DAYS,
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
        )
        # EKS would make it by itself, to keep logs forever.
        logs = aws.cloudwatch.LogGroup(
            f"{name}-logs",
            name=f"/aws/eks/{cluster.name}/cluster",
            retention_in_days=cluster.log_days,
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self),
        )
        made = eks.Cluster(
            f"{name}-eks",
            name=cluster.name,
            version=cluster.version,
            vpc_id=args.vpc_id,
            subnet_ids=list(args.subnet_ids),
            endpoint_private_access=True,
            endpoint_public_access=bool(cluster.public_access_cidrs),
            public_access_cidrs=list(cluster.public_access_cidrs) or None,
            kubernetes_service_ip_address_range=subnets.SERVICE_CIDR,
            encryption_config_key_arn=key.arn,
            enabled_cluster_log_types=list(LOG_TYPES),
            authentication_mode=eks.AuthenticationMode.API,
            deletion_protection=args.protect,
            # Machines, their role and security groups are our own, and so are the addons.
            skip_default_node_group=True,
            skip_default_security_groups=True,
            create_instance_role=False,
            bootstrap_self_managed_addons=False,
            use_default_vpc_cni=True,  # "don't make the addon"
            kube_proxy_addon_options=eks.KubeProxyAddonOptionsArgs(enabled=False),
            coredns_addon_options=eks.CoreDnsAddonOptionsArgs(enabled=False),
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect, depends_on=[logs]),
        )
        self.api_server = made.kubeconfig_json.apply(kubeconfig.parse)
        self.name = self.api_server.apply(lambda _: cluster.name)
        self.service_cidr = subnets.SERVICE_CIDR
        self.security_group_id = made.cluster_security_group_id
        self.kubeconfig = self.api_server.apply(lambda server: kubeconfig.render(cluster.name, args.region, server))
        self._let_in(name, args)
        self.register_outputs({"name": self.name, "kubeconfig": self.kubeconfig})

    def _let_in(self, name: str, args: ClusterArgs) -> None:
        """Named roles, and the machines' role; whoever creates the cluster becomes an admin by EKS's own doing.

        Not by the cluster's own argument: what protects it would protect each of these, and nobody could be removed.
        """
        inside = pulumi.ResourceOptions(parent=self)
        for each in access.granted(args.cluster.admins, args.cluster.viewers):
            entry = aws.eks.AccessEntry(
                f"{name}-{each.name}",
                cluster_name=self.name,
                principal_arn=each.principal,
                tags=dict(args.tags),
                opts=inside,
            )
            aws.eks.AccessPolicyAssociation(
                f"{name}-{each.name}",
                cluster_name=self.name,
                principal_arn=entry.principal_arn,
                policy_arn=each.policy,
                access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
                opts=inside,
            )
        aws.eks.AccessEntry(
            f"{name}-nodes",
            cluster_name=self.name,
            principal_arn=args.node_role_arn,
            type="EC2_LINUX",
            tags=dict(args.tags),
            opts=inside,
        )
