"""The AWS cloud: network, cluster, machines and what holds data, put together. What services get of it: infra.cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra import image_sources, naming
from infra.aws import addons, asg_tags, budget, machines, policies, storage_class
from infra.aws import images as machine_images
from infra.aws.addons import Addons, AddonsArgs
from infra.aws.cluster import Cluster, ClusterArgs
from infra.aws.database import Database, DatabaseArgs
from infra.aws.events import Notices, NoticesArgs
from infra.aws.identity import PodIdentity, PodIdentityArgs
from infra.aws.network import Network, NetworkArgs
from infra.aws.node_role import NodeRole
from infra.aws.pool import Pool, PoolArgs
from infra.aws.registry import Build, Registry, RegistryArgs
from infra.aws.storage import Storage, StorageArgs
from infra.aws.system_nodes import SystemNodes, SystemNodesArgs
from infra.cloud import AutoscalerAccess, Cloud
from infra.settings.model import AwsCloud, Images, Settings
from tidepool.capacity import DRIVER_SERVICE_ACCOUNT

AIRFLOW_LOGS = "airflow"
"""Where in the bucket of logs Airflow's are."""

EVENT_LOGS = "spark-events"
"""Where in the bucket of event logs Spark's are: S3A refuses the root of a bucket as a log folder."""


@dataclass(frozen=True)
class _Base:
    """What the parts below share."""

    cluster: Cluster
    network: Network
    tags: Mapping[str, str]


def create(settings: Settings, cloud: AwsCloud) -> Cloud:
    """Make everything on AWS that the settings ask for, in the order in which it must be there."""
    tags = naming.ownership(settings.owner, settings.environment)
    network = Network(
        "network", NetworkArgs(name=cloud.cluster.name, region=cloud.region, network=cloud.network, tags=tags)
    )
    job_role = NodeRole("job-nodes", tags)
    cluster = Cluster(
        "cluster",
        ClusterArgs(
            cluster=cloud.cluster,
            region=cloud.region,
            vpc_id=network.vpc_id,
            subnet_ids=list(network.private_subnet_ids.values()),
            node_role_arn=job_role.arn,
            protect=cloud.protect,
            tags=tags,
        ),
    )
    base = _Base(cluster, network, tags)
    system = _system(base, cloud)
    priorities = _pools(base, cloud, job_role)
    storage = Storage(
        "storage",
        StorageArgs(
            cluster=cloud.cluster.name,
            account=aws.get_caller_identity_output().account_id,
            region=cloud.region,
            storage=cloud.storage,
            protect=cloud.protect,
            tags=tags,
        ),
    )
    registry = _registry(cloud, settings.images, tags)
    identities = _identities(base, cloud, settings, storage)
    keeper: tuple[pulumi.Input[str], ...] = ()
    if settings.services.keeper is not None:
        keeper, identity = _keeper(base, cloud)
        identities.append(identity)
    database = _database(base, cloud)
    if cloud.budget is not None:
        budget.create("budget", cloud.budget, settings.environment, tags)
    # Everything in the cluster waits for the provider, and so for what must be there before it. A pod that starts
    # before its identity is bound gets no credentials, ever.
    provider = kubernetes.Provider(
        "cluster", kubeconfig=cluster.kubeconfig, opts=pulumi.ResourceOptions(depends_on=[*system, *identities])
    )
    volumes = storage_class.default_storage_class(pulumi.ResourceOptions(provider=provider))
    return Cloud(
        cluster=cloud.cluster.name,
        provider=provider,
        autoscaler=AutoscalerAccess(values=_autoscaler_values(cloud), priorities=priorities),
        reclaim_notices=True,
        gpu_selectors=tuple(machines.labels(pool) for pool in cloud.pools.values() if pool.gpus),
        system_selector=naming.node_labels(naming.SYSTEM_POOL),
        system_taints=naming.SYSTEM_TAINTS,
        identity={},
        storage_class=storage_class.STORAGE_CLASS,
        database_connection=database.connection if database is not None else None,
        database_secret="",
        logs=pulumi.Output.concat(storage.logs.s3, f"/{AIRFLOW_LOGS}"),
        event_logs=pulumi.Output.concat(storage.event_logs.s3a, f"/{EVENT_LOGS}"),
        event_log_days=cloud.storage.event_log_days,
        lake=settings.lake.uri or storage.lake.s3a,
        images=registry.references,
        keeper=keeper,
        before_services=(volumes,),
    )


def _system(base: _Base, cloud: AwsCloud) -> list[pulumi.Resource]:
    """Network addon, then system machines, then the addons that run on them: what must outlive all in the cluster."""
    name, server, tags = base.cluster.name, base.cluster.api_server, base.tags
    network_identity = PodIdentity(
        "vpc-cni",
        PodIdentityArgs(
            cluster=name,
            namespace=addons.NAMESPACE,
            service_accounts=[addons.VPC_CNI_SERVICE_ACCOUNT],
            managed_policies=[policies.VPC_CNI],
            tags=tags,
        ),
    )
    for_nodes = Addons(
        "node-addons",
        AddonsArgs(cluster=name, addons=addons.for_nodes(), tags=tags),
        pulumi.ResourceOptions(depends_on=[network_identity]),
    )
    nodes = SystemNodes(
        "system",
        SystemNodesArgs(
            name=naming.group_name(cloud.cluster.name, naming.SYSTEM_POOL),
            nodes=cloud.system,
            cluster=name,
            endpoint=server.apply(lambda known: known.endpoint),
            certificate_authority=server.apply(lambda known: known.certificate_authority),
            service_cidr=base.cluster.service_cidr,
            image=machine_images.system_image_id(cloud.system, cloud.machines, cloud.cluster.version),
            node_role_arn=NodeRole("system-nodes", tags).arn,
            subnet_ids=list(base.network.private_subnet_ids.values()),
            security_group_ids=[base.cluster.security_group_id],
            tags={**tags, **naming.node_labels(naming.SYSTEM_POOL)},
        ),
        pulumi.ResourceOptions(depends_on=[for_nodes]),
    )
    volumes_identity = PodIdentity(
        "ebs-csi",
        PodIdentityArgs(
            cluster=name,
            namespace=addons.NAMESPACE,
            service_accounts=[addons.EBS_CSI_SERVICE_ACCOUNT],
            managed_policies=[policies.EBS_CSI],
            tags=tags,
        ),
    )
    for_system = Addons(
        "system-addons",
        AddonsArgs(cluster=name, addons=addons.for_system(tags), tags=tags),
        pulumi.ResourceOptions(depends_on=[nodes, volumes_identity]),
    )
    return [nodes, for_system]


def _pools(base: _Base, cloud: AwsCloud, role: NodeRole) -> dict[str, int]:
    """The job pools; their priorities by Auto Scaling Group."""
    priorities: dict[str, int] = {}
    server = base.cluster.api_server
    for name, pool in cloud.pools.items():
        made = Pool(
            name,
            PoolArgs(
                pool=pool,
                cluster=cloud.cluster.name,
                endpoint=server.apply(lambda known: known.endpoint),
                certificate_authority=server.apply(lambda known: known.certificate_authority),
                service_cidr=base.cluster.service_cidr,
                image=machine_images.image_id(pool, cloud.machines, cloud.cluster.version),
                instance_profile=role.instance_profile,
                subnet_ids=base.network.private_subnet_ids,
                security_group_ids=[base.cluster.security_group_id],
                tags=base.tags,
            ),
            # The cluster lets machines in by their role.
            pulumi.ResourceOptions(depends_on=[base.cluster]),
        )
        priorities |= dict.fromkeys(made.group_names, pool.priority)
    return priorities


def _registry(cloud: AwsCloud, images: Images, tags: Mapping[str, str]) -> Registry:
    """A repository for every image; builds only where the settings say so."""
    sources = {name: image_sources.source(name) for name in image_sources.names()} if images.build else {}
    return Registry(
        "registry",
        RegistryArgs(
            cluster=cloud.cluster.name,
            repositories=tuple(image_sources.names()),
            builds={
                name: Build(
                    dockerfile=f"../{source.file.relative_to(image_sources.CONTEXT)}",
                    context="..",
                    tag=source.tag(),
                    build_args=source.versions(),
                )
                for name, source in sources.items()
            },
            references=images.references,
            architectures=images.architectures,
            protect=cloud.protect,
            tags=tags,
        ),
    )


def _identities(base: _Base, cloud: AwsCloud, settings: Settings, storage: Storage) -> list[PodIdentity]:
    """Who may do what on AWS: each service its own role, each tenant's jobs one."""
    made: list[PodIdentity] = []

    def identity(name: str, namespace: str, accounts: list[str], policy: pulumi.Input[str]) -> None:
        args = PodIdentityArgs(
            cluster=base.cluster.name,
            namespace=namespace,
            service_accounts=accounts,
            policy=policy,
            tags=base.tags,
        )
        made.append(PodIdentity(name, args))

    identity(
        "autoscaler",
        naming.AUTOSCALER_NAMESPACE,
        [naming.AUTOSCALER_SERVICE_ACCOUNT],
        policies.autoscaler(cloud.cluster.name, cloud.region),
    )
    event_logs = storage.event_logs.arn
    for tenant in settings.tenants:
        identity(
            f"jobs-{tenant}",
            naming.tenant_namespace(tenant),
            [naming.JOB_SERVICE_ACCOUNT, DRIVER_SERVICE_ACCOUNT],
            pulumi.Output.all(storage.lake.arn, event_logs).apply(
                lambda arns: policies.jobs(arns[0], arns[1], f"{EVENT_LOGS}/")
            ),
        )
    if settings.services.airflow is not None:
        identity(
            "airflow",
            naming.PLATFORM_NAMESPACE,
            [naming.AIRFLOW_SERVICE_ACCOUNT, naming.AIRFLOW_API_SERVICE_ACCOUNT],
            storage.logs.arn.apply(lambda arn: policies.airflow(arn, f"{AIRFLOW_LOGS}/")),
        )
    if settings.services.history_server:
        identity(
            "history-server",
            naming.PLATFORM_NAMESPACE,
            [naming.HISTORY_SERVICE_ACCOUNT],
            event_logs.apply(lambda arn: policies.history_server(arn, f"{EVENT_LOGS}/")),
        )
    return made


def _keeper(base: _Base, cloud: AwsCloud) -> tuple[tuple[pulumi.Input[str], ...], PodIdentity]:
    """EC2's notices and the right to take them; where the keeper finds them, as its arguments."""
    notices = Notices("notices", NoticesArgs(cluster=cloud.cluster.name, tags=base.tags))
    identity = PodIdentity(
        "keeper",
        PodIdentityArgs(
            cluster=base.cluster.name,
            namespace=naming.PLATFORM_NAMESPACE,
            service_accounts=[naming.KEEPER_SERVICE_ACCOUNT],
            policy=notices.queue_arn.apply(policies.keeper),
            tags=base.tags,
        ),
    )
    known = ("--aws-cluster", cloud.cluster.name, "--aws-region", cloud.region)
    return (*known, "--aws-queue", notices.queue_url), identity


def _database(base: _Base, cloud: AwsCloud) -> Database | None:
    if cloud.database is None:
        return None
    return Database(
        "database",
        DatabaseArgs(
            cluster=cloud.cluster.name,
            vpc_id=base.network.vpc_id,
            subnet_ids=list(base.network.private_subnet_ids.values()),
            clients=base.cluster.security_group_id,
            database=cloud.database,
            protect=cloud.protect,
            tags=base.tags,
        ),
    )


def _autoscaler_values(cloud: AwsCloud) -> dict[str, pulumi.Input[object]]:
    """Values of the cluster-autoscaler's chart: how it finds this cluster's groups."""
    return {
        "cloudProvider": "aws",
        "awsRegion": cloud.region,
        "autoDiscovery": {
            "clusterName": cloud.cluster.name,
            "tags": [f"{asg_tags.PREFIX}enabled", f"{asg_tags.PREFIX}{cloud.cluster.name}"],
        },
    }
