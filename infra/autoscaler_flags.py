"""How the cluster-autoscaler is set: the release's flags, and what the local cloud's stand-in goes by. Pure data."""

from __future__ import annotations

GIVE_UP_SECONDS = 300
"""So long without its machine, and the autoscaler gives a group up and tries the next pool."""

FLAGS = {
    "expander": "priority,least-waste",  # the order of the pools; among equals, where the pod leaves least over
    "scan-interval": "10s",  # a scan costs a call or two of the cloud's API
    "scale-down-delay-type-local": "true",  # a machine that came holds back its own pool only
    "scale-down-delay-after-add": "0s",  # the pool's unneeded time alone says how long a machine may idle
    "scale-down-delay-after-delete": "0s",
    "scale-down-delay-after-failure": "30s",  # it may have been about a spot machine that EC2 had taken already
    "unremovable-node-recheck-timeout": "10s",  # a machine that had a job at one look has none at the next
    "scale-down-unready-time": "5m",  # by then Kubernetes has given its pods up
    "max-scale-down-parallelism": "100",  # jobs that end together leave their machines together
    "skip-nodes-with-local-storage": "false",  # every job has an emptyDir; jobs say themselves that they stay
    "ignore-daemonsets-utilization": "true",  # an agent alone does not make a small machine look used
    "max-node-provision-time": f"{GIVE_UP_SECONDS // 60}m",  # a machine that is not there by then never comes
    "initial-node-group-backoff-duration": "3m",  # spot capacity comes back in minutes, and trying again is free:
    "max-node-group-backoff-duration": "15m",  # a pool without capacity says so within a scan or two
    "node-group-backoff-reset-timeout": "1h",
}
"""Flags that differ from their default or that must not change with it; others are left alone."""
