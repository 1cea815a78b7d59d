"""What an environment is, as typed data. Read and checked by the modules beside this one; nothing here decides.

Sizes are in the unit of their name; durations of the autoscaler stay text such as `10m`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from infra.aws.instance_types import InstanceType
from tidepool.capacity import Architecture, Market, Taint

PodSecurity = Literal["restricted", "baseline", "privileged"]


@dataclass(frozen=True)
class Network:
    """The VPC. cidr: its range, split over the zones; nat: one gateway in all or one per zone."""

    cidr: str
    zones: tuple[str, ...]
    nat: Literal["one", "per-zone"]
    interface_endpoints: bool
    flow_log_days: int


@dataclass(frozen=True)
class EksCluster:
    """The EKS cluster. version: Kubernetes' minor, `1.36`; admins and viewers: ARNs of IAM roles.

    public_access_cidrs: who may reach the API server from outside the VPC; empty: nobody.
    """

    name: str
    version: str
    public_access_cidrs: tuple[str, ...]
    admins: tuple[str, ...]
    viewers: tuple[str, ...]
    log_days: int


@dataclass(frozen=True)
class SystemNodes:
    """The managed on-demand node group for what must not be interrupted. Its pool's name is `system`."""

    instance_types: tuple[InstanceType, ...]
    minimum: int
    maximum: int
    max_pods: int
    root_volume_gib: int

    @property
    def architecture(self) -> Architecture:
        """The processor that services' images must be built for."""
        return "arm64" if self.instance_types[0].architecture == "arm64" else "amd64"


@dataclass(frozen=True)
class Machines:
    """What job pools share. ami_release: of the EKS-optimised AL2023 AMI, `v20261101`; empty with an AMI id in `image`.

    image: AMI id for pools that name none of their own; empty: looked up by release.
    minimum_spot_types: fewest instance types that a spot pool must have.
    """

    ami_release: str
    image: str
    minimum_spot_types: int


@dataclass(frozen=True)
class AwsPool:
    """Equal machines behind one Auto Scaling Group, or one for each zone. unneeded_time: idle time before scale-down.

    image: AMI id, empty for the one of `machines`; nvme: instance store as one RAID0 for pods and images;
    warm: stopped machines kept ready (on-demand with a single type only).
    """

    name: str
    instance_types: tuple[InstanceType, ...]
    market: Market
    minimum: int
    maximum: int
    priority: int
    max_pods: int
    unneeded_time: str
    zones: tuple[str, ...]
    group_per_zone: bool
    root_volume_gib: int
    nvme: bool
    image: str
    warm: int
    capacity_rebalance: bool

    @property
    def gpus(self) -> int:
        """GPUs of one machine."""
        return self.instance_types[0].gpus

    @property
    def architecture(self) -> Architecture:
        """The processor that images must be built for."""
        return "arm64" if self.instance_types[0].architecture == "arm64" else "amd64"


@dataclass(frozen=True)
class Storage:
    """Buckets for logs, Spark event logs and the lake: days until objects (lake: old versions) expire."""

    log_days: int
    event_log_days: int
    lake_version_days: int


@dataclass(frozen=True)
class RdsDatabase:
    """PostgreSQL on RDS for Airflow and the ledger."""

    instance_class: str
    storage_gib: int
    backup_days: int
    multi_zone: bool


@dataclass(frozen=True)
class Budget:
    """AWS Budgets: a monthly limit in USD, and who gets a mail at 80 % of it and when it is forecast to be passed."""

    monthly_usd: int
    emails: tuple[str, ...]


@dataclass(frozen=True)
class Quotas:
    """The account's EC2 vCPU quotas (Service Quotas) that pools must stay within. gpu: G and VT types; p: P types."""

    spot_vcpus: int
    on_demand_vcpus: int
    gpu_spot_vcpus: int
    gpu_on_demand_vcpus: int
    p_spot_vcpus: int
    p_on_demand_vcpus: int


@dataclass(frozen=True)
class AwsCloud:
    """`cluster.kind: eks`: everything that the AWS folder makes. protect: nothing that holds data can be destroyed."""

    region: str
    protect: bool
    cluster: EksCluster
    network: Network
    system: SystemNodes
    machines: Machines
    pools: dict[str, AwsPool]
    storage: Storage
    database: RdsDatabase | None
    budget: Budget | None
    quotas: Quotas


@dataclass(frozen=True)
class ExistingPool:
    """Machines of a cluster that is there, by what their nodes carry; sizes are allocatable, per machine."""

    name: str
    market: Market
    jobs: bool
    maximum: int
    priority: int
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    cpu_millis: int
    memory_bytes: int
    ephemeral_storage_bytes: int
    gpus: int
    architecture: Architecture
    usd_per_hour: float
    on_demand_usd_per_hour: float


@dataclass(frozen=True)
class ExistingCluster:
    """A cluster reached by a kubeconfig ($KUBECONFIG or ~/.kube/config). context: empty for the current one.

    device_plugin: NVIDIA's is brought along for pools with GPUs; False where the cluster has one.
    """

    name: str
    context: str
    device_plugin: bool = True


@dataclass(frozen=True)
class ExistingCloud:
    """`cluster.kind: existing`: no cloud resource is made. logs, event_logs: URIs that jobs and Airflow can write.

    database_secret: Secret in the platform's namespace with the key `connection` (Airflow's), if Airflow is deployed;
    `connection-async` may be there too.
    storage_class: for persistent volumes; empty for the cluster's default.
    system_selector, system_taints: of the nodes for what must not be interrupted.
    service_accounts: annotations by ServiceAccount, by which the cluster's cloud gives pods an identity.
    """

    cluster: ExistingCluster
    pools: dict[str, ExistingPool]
    storage_class: str
    system_selector: dict[str, str]
    system_taints: tuple[Taint, ...]
    database_secret: str
    logs: str
    event_logs: str
    service_accounts: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Images:
    """Container images by name. architectures: what all of them are built for; build: built and pushed by this program.

    references: image reference by name; with `build`, only of the images that are not built.
    """

    references: dict[str, str]
    architectures: tuple[Architecture, ...]
    build: bool


@dataclass(frozen=True)
class Tenant:
    """A team that runs jobs, in the namespace `tidepool-<name>`. The quota is the most that all its pods request.

    share_percent: of each job pool's machines, kept for its jobs and the most that they get; 0: none of its own.
    """

    name: str
    pod_security: PodSecurity
    cpu: int
    memory_gib: int
    pods: int
    gpus: int
    share_percent: int = 0


@dataclass(frozen=True)
class JobBudget:
    """What the jobs of a team, of a DAG, or of both may cost in a day or month (UTC); empty: anybody's.

    At the soft limit tasks say so, at the hard one none starts: it fails, or waits. 0: no such limit.
    """

    team: str
    dag: str
    per: Literal["day", "month"]
    soft_usd: float
    hard_usd: float
    at_limit: Literal["fail", "wait"]


@dataclass(frozen=True)
class Jobs:
    """Defaults of jobs. default_tenant: whose a job is that names no team. budgets: what jobs may cost, by name."""

    default_tenant: str
    schedule_timeout_seconds: int
    budgets: dict[str, JobBudget] = field(default_factory=dict)


@dataclass(frozen=True)
class Lake:
    """Where jobs read and write: a URI."""

    uri: str


@dataclass(frozen=True)
class GitDags:
    """DAGs from a git bundle instead of the image. connection: Airflow's git connection; empty for a public one."""

    repository: str
    ref: str
    folder: str
    connection: str


@dataclass(frozen=True)
class Airflow:
    """Airflow by its official chart. dags: None where they are baked into the image `airflow`."""

    executor: Literal["LocalExecutor", "KubernetesExecutor"]
    dags: GitDags | None


@dataclass(frozen=True)
class Hdfs:
    """HDFS by our own component. high_availability: two NameNodes, three JournalNodes and three ZooKeeper nodes."""

    datanodes: int
    replication: int
    volume_gib: int
    namenode_volume_gib: int
    high_availability: bool


@dataclass(frozen=True)
class Monitoring:
    """kube-prometheus-stack."""

    retention_days: int
    volume_gib: int


@dataclass(frozen=True)
class AirflowElsewhere:
    """An Airflow that this program does not deploy. secret: in the platform's namespace: `username`, `password`."""

    url: str
    secret: str


@dataclass(frozen=True)
class Keeper:
    """The keeper. replicas: one is active, the others wait; 0: only its rights are made, for one that runs elsewhere.

    volume_gib: of the ledger, where the environment has no database. dry_run: the reaper removes nothing.
    airflow: whom it asks about tasks; None: the environment's own, if it has one.
    """

    replicas: int
    volume_gib: int
    dry_run: bool
    airflow: AirflowElsewhere | None


@dataclass(frozen=True)
class Services:
    """What is deployed besides what always is; None or False: not."""

    airflow: Airflow | None
    hdfs: Hdfs | None
    monitoring: Monitoring | None
    keeper: Keeper | None
    spark_operator: bool
    history_server: bool
    chart_sources: dict[str, str] = field(default_factory=dict)  # chart's name to a mirror: https://… or oci://…


@dataclass(frozen=True)
class Settings:
    """One environment."""

    environment: str
    owner: str
    cloud: AwsCloud | ExistingCloud
    tenants: dict[str, Tenant]
    images: Images
    jobs: Jobs
    lake: Lake
    services: Services
