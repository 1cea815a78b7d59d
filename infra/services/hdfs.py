"""HDFS: NameNode and DataNodes, and with high availability a second NameNode, JournalNodes and ZooKeeper.

It knows no passwords (Hadoop's "simple" authentication): who can connect is who is who he says. The NetworkPolicies of
the platform's namespace let only the teams' jobs connect, so a network plugin that enforces them is part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from infra import naming
from infra.services import hdfs_config, hdfs_pods
from infra.services.placement import Placement
from infra.settings import model


@dataclass(frozen=True)
class HdfsArgs:
    """hdfs: its settings. image: the reference of the image hdfs. placement: the system nodes.

    storage_class: empty for the cluster's default. annotations: of its ServiceAccount.
    """

    hdfs: model.Hdfs
    image: pulumi.Input[str]
    placement: Placement
    storage_class: str
    annotations: Mapping[str, str]


class Hdfs(pulumi.ComponentResource):
    """HDFS in the platform's namespace, which must be there. uri: of the file system, without a path.

    client_settings: what Hadoop clients must be told to reach it and to write as many replicas as it is meant to have.
    """

    uri: str
    client_settings: dict[str, str]

    def __init__(self, name: str, args: HdfsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:services:Hdfs", name, {}, opts)
        self._inside = pulumi.ResourceOptions(parent=self)
        self.uri = hdfs_config.uri(args.hdfs)
        self.client_settings = hdfs_config.client_settings(args.hdfs)
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=self._metadata(hdfs_pods.SERVICE_ACCOUNT, args.annotations),
            automount_service_account_token=False,
            opts=self._inside,
        )
        configuration = kubernetes.core.v1.ConfigMap(
            f"{name}-config",
            metadata=self._metadata(hdfs_pods.CONFIG_MAP),
            data=hdfs_config.files(args.hdfs),
            opts=self._inside,
        )
        after = pulumi.ResourceOptions(parent=self, depends_on=[account, configuration])
        for server in hdfs_pods.servers(args.hdfs):
            self._server(f"{name}-{server.name.removeprefix('hdfs-')}", server, args, after)
        kubernetes.batch.v1.Job(
            f"{name}-directories",
            metadata=self._metadata(hdfs_pods.DIRECTORIES_JOB),
            spec=hdfs_pods.directories_job(args.hdfs, args.image, args.placement),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[account]),
        )
        self.register_outputs({})

    def _server(
        self,
        name: str,
        server: hdfs_pods.Server,
        args: HdfsArgs,
        after: pulumi.ResourceOptions,
    ) -> None:
        metadata = self._metadata(server.name)
        kubernetes.core.v1.Service(
            f"{name}-service", metadata=metadata, spec=hdfs_pods.service(server), opts=self._inside
        )
        kubernetes.policy.v1.PodDisruptionBudget(
            f"{name}-budget", metadata=metadata, spec=hdfs_pods.disruption_budget(server), opts=self._inside
        )
        kubernetes.apps.v1.StatefulSet(
            name,
            metadata=metadata,
            spec=hdfs_pods.stateful_set(server, args.hdfs, args.image, args.placement, args.storage_class),
            opts=after,
        )

    @staticmethod
    def _metadata(name: str, annotations: Mapping[str, str] | None = None) -> kubernetes.meta.v1.ObjectMetaArgs:
        return kubernetes.meta.v1.ObjectMetaArgs(
            name=name,
            namespace=naming.PLATFORM_NAMESPACE,
            labels={"app.kubernetes.io/name": "hdfs"},
            annotations=dict(annotations or {}),
        )
