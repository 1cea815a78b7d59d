"""The one interface between a cloud and the services: what a cloud gives, as a value.

`infra/aws/cloud.py` and `infra/existing/cloud.py` each make one from the settings; everything in `infra/services`
takes what it needs from it and knows no cloud. DECISIONS.md says what a folder for another cloud has to provide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from tidepool.capacity import Taint


@dataclass(frozen=True)
class AutoscalerAccess:
    """How the cluster-autoscaler reaches this cloud's pools. values: of its chart, such as cloudProvider and discovery.

    priorities: the higher first, by name of a node group.
    """

    values: Mapping[str, pulumi.Input[object]]
    priorities: Mapping[str, int]


@dataclass(frozen=True)
class Cloud:
    """A cluster, the machines that come to it, and what only a cloud has.

    provider: Pulumi's Kubernetes provider for the cluster. autoscaler: None where the cluster scales itself.
    reclaim_notices: a node termination handler for EC2 has something to do.
    gpu_selectors: labels of each pool with GPUs.
    system_selector, system_taints: of the nodes for what must not be interrupted.
    identity: annotations of a service's ServiceAccount, by service, where the cloud binds identities by them (GKE);
    EKS binds by name and leaves it empty. storage_class: empty for the cluster's default.
    database_connection: SQLAlchemy URL of Airflow's database, a secret; None: see database_secret, the Secret's name.
    logs, event_logs, lake: URIs. event_log_days: how long event logs are kept. images: reference by name.
    keeper: arguments of the keeper's command line, by which it can ask this cloud.
    before_services: what of the cloud in the cluster they wait for, such as its StorageClass.
    """

    cluster: str
    provider: kubernetes.Provider
    autoscaler: AutoscalerAccess | None
    reclaim_notices: bool
    gpu_selectors: tuple[Mapping[str, str], ...]
    system_selector: Mapping[str, str]
    system_taints: tuple[Taint, ...]
    identity: Mapping[str, Mapping[str, str]]
    storage_class: str
    database_connection: pulumi.Input[str] | None
    database_secret: str
    logs: pulumi.Input[str]
    event_logs: pulumi.Input[str]
    event_log_days: int
    lake: pulumi.Input[str]
    images: Mapping[str, pulumi.Input[str]]
    keeper: tuple[pulumi.Input[str], ...] = ()
    before_services: tuple[pulumi.Resource, ...] = ()
