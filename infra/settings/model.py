"""What an environment is, as typed data. Read and checked by the modules beside this one; nothing here decides.

Its cloud is in `model_aws` or `model_existing`. Sizes are in the unit of their name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from infra.settings.model_aws import AwsCloud as AwsCloud
from infra.settings.model_existing import ExistingCloud as ExistingCloud
from tidepool.capacity import Architecture, Budget

PodSecurity = Literal["restricted", "baseline", "privileged"]


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
class Jobs:
    """Defaults of jobs. default_tenant: whose a job is that names no team. budgets: what jobs may cost, by name."""

    default_tenant: str
    schedule_timeout_seconds: int
    budgets: dict[str, Budget] = field(default_factory=dict)


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
