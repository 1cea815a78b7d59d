"""The names that more than one part relies on, made in one place.

A pool's name is the key in the stack file, the node label, the taint's value, the end of its Auto Scaling Group's name
and the ledger's column. What the DAG library knows too comes from the capacity document's module.
"""

from __future__ import annotations

import hashlib

from tidepool.capacity import LABEL_PREFIX, POOL_LABEL, Taint

PROJECT = "tidepool"

DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""What pools, clusters and environments may be called: a DNS label, so that the name fits everywhere."""

PLATFORM_NAMESPACE = "tidepool"
AUTOSCALER_NAMESPACE = "kube-system"
MONITORING_NAMESPACE = "monitoring"

JOB_SERVICE_ACCOUNT = "job"
AIRFLOW_SERVICE_ACCOUNT = "airflow"
AIRFLOW_SCHEDULER_SERVICE_ACCOUNT = "airflow-scheduler"  # with KubernetesExecutor only; else it launches jobs itself
AIRFLOW_API_SERVICE_ACCOUNT = "airflow-api-server"
AUTOSCALER_SERVICE_ACCOUNT = "cluster-autoscaler"
HISTORY_SERVICE_ACCOUNT = "spark-history"
KEEPER_SERVICE_ACCOUNT = "keeper"
"""ServiceAccounts that a cloud binds rights to."""

CAPACITY_CONFIG_MAP = "tidepool-capacity"
CAPACITY_KEY = "capacity.json"
KEEPER_LEASE = "tidepool-keeper"  # held by the active keeper
KEEPER_PORT = 8080
KEEPER_PAGE_SECRET, KEEPER_PAGE_KEY = "keeper-page", "token"  # whoever knows it sees the keeper's page
PRIORITY_CONFIG_MAP = "cluster-autoscaler-priority-expander"  # the cluster-autoscaler looks for this very name

PLATFORM_PRIORITY_CLASS = "tidepool-platform"
"""The PriorityClass of tidepool's own services; a job's is the capacity document's module's."""


def ownership(owner: str, environment: str) -> dict[str, str]:
    """The cost-allocation tags of everything in an environment."""
    return {f"{LABEL_PREFIX}owner": owner, f"{LABEL_PREFIX}environment": environment}


def group_name(cluster: str, pool: str) -> str:
    """The name of a pool's Auto Scaling Group and of its launch template."""
    return f"{cluster}-{pool}"


def node_labels(pool: str) -> dict[str, str]:
    """The labels that every machine of a pool carries."""
    return {POOL_LABEL: pool}


def node_taints(pool: str, jobs: bool) -> tuple[Taint, ...]:
    """The taints of a pool's machines: job pools keep everything else off, other pools take whatever comes."""
    return (Taint(key=POOL_LABEL, value=pool, effect="NoSchedule"),) if jobs else ()


SYSTEM_POOL = "system"
"""The managed node group for what must not be interrupted; a pool like any other in the capacity document."""

SYSTEM_TAINTS = (Taint(key="CriticalAddonsOnly", value="true", effect="NoSchedule"),)
"""What keeps jobs off system machines. CoreDNS and the EBS CSI driver tolerate it by their own defaults."""


def tenant_namespace(tenant: str) -> str:
    """The namespace of a team's jobs."""
    return f"{PROJECT}-{tenant}"


def pod_security_labels(level: str) -> dict[str, str]:
    """A namespace's labels for Pod Security: what it enforces, and warnings of what "restricted" would refuse."""
    prefix = "pod-security.kubernetes.io/"
    return {f"{prefix}enforce": level, f"{prefix}audit": "restricted", f"{prefix}warn": "restricted"}


def digest(text: str) -> str:
    """A short name for a text, other for every other text: what changes with it gets the digest as an annotation."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
