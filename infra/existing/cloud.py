"""A cluster that is there: nothing is made but a provider for it."""

from __future__ import annotations

import pulumi_kubernetes as kubernetes

from infra.cloud import Cloud
from infra.settings.model import ExistingCloud, Settings

EVENT_LOG_DAYS = 30
"""No bucket of ours has a lifecycle here: the history server removes what is older."""


def create(settings: Settings, cloud: ExistingCloud) -> Cloud:
    """What services get of an existing cluster, which has an autoscaler of its own."""
    return Cloud(
        cluster=cloud.cluster.name,
        # Without a kubeconfig the provider reads $KUBECONFIG or ~/.kube/config.
        provider=kubernetes.Provider("cluster", context=cloud.cluster.context or None),
        autoscaler=None,
        reclaim_notices=False,
        gpu_selectors=tuple(pool.labels for pool in cloud.pools.values() if pool.gpus and cloud.cluster.device_plugin),
        system_selector=cloud.system_selector,
        system_taints=cloud.system_taints,
        identity=cloud.service_accounts,
        storage_class=cloud.storage_class,
        database_connection=None,
        database_secret=cloud.database_secret,
        logs=cloud.logs,
        event_logs=cloud.event_logs,
        event_log_days=EVENT_LOG_DAYS,
        lake=settings.lake.uri,
        images=settings.images.references,
    )
