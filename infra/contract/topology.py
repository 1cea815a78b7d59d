"""Where a pool's machines are, as their labels tell it: the zones and the region of a cloud, of a cluster that is there
nothing but what its pools state.

A group over several zones is for the autoscaler in the first of them, and EC2 launches in any. Source: autoscaler,
cloudprovider/aws/aws_manager.go (getAsgTemplate).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from infra.settings.model import AwsCloud, Settings

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
DEPRECATED = frozenset(
    {
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
    }
)
"""Labels that nodes have or have no longer, as their version is."""

OF_THE_CLOUD = frozenset({ZONE, REGION, "node.kubernetes.io/instance-type", "kubernetes.io/hostname", *DEPRECATED})
"""Well-known labels that a cloud or the kubelet puts on nodes, with values that nobody states."""


@dataclass(frozen=True)
class Topology:
    """labels: by key, the values that they may have. unknown: of these keys nothing can be said. words: by key, what is
    said of a label where a pod wants another value."""

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown: Collection[str] = ()
    words: Mapping[str, str] = field(default_factory=dict)


def of_pool(settings: Settings, name: str) -> Topology:
    """What is known of a pool's machines besides what the capacity document tells."""
    cloud = settings.cloud
    if not isinstance(cloud, AwsCloud):
        return Topology(unknown=OF_THE_CLOUD)
    pool = cloud.pools.get(name)
    zones = tuple(sorted(pool.zones if pool else cloud.network.zones))
    words = {}
    if pool and not pool.group_per_zone and len(zones) > 1:
        over, zones = ", ".join(zones), zones[:1]
        words[ZONE] = f"for the autoscaler its group over {over} is in {zones[0]} (group_per_zone makes one for each)"
    return Topology({ZONE: zones, REGION: (cloud.region,)}, unknown=DEPRECATED, words=words)
