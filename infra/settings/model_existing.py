"""What an environment is on a cluster that is there, as typed data. Sizes are in the unit of their name."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidepool.capacity import Architecture, Market, Taint


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
