"""Groups and pods as the stand-in autoscaler sees them."""

from __future__ import annotations

from typing import Any

from infra.local.aws import Group

GIB = 1024**3
LABEL = "tidepool.dev/pool"


def group(name: str, cpu: int = 1930, memory: int = 7 * GIB, maximum: int = 4, desired: int = 0) -> Group:
    return Group(
        name=f"local-{name}",
        minimum=0,
        maximum=maximum,
        desired=desired,
        instances=tuple(f"i-{name}-{number}" for number in range(desired)),
        instance_types=("m5.large",),
        market="spot",
        zones=("us-east-1a",),
        launch_template="lt-1",
        labels={LABEL: name},
        taints={LABEL: (name, "NoSchedule")},
        resources={"cpu": cpu, "memory": memory, "pods": 20},
        unneeded_seconds=10,
    )


def pod(
    name: str = "job", cpu: str = "1680m", memory: str = "3Gi", pools: tuple[str, ...] = ("spot",)
) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": LABEL, "operator": "In", "values": list(pools)}]}]
    return {
        "metadata": {"name": name, "namespace": "jobs"},
        "spec": {
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
            },
            "tolerations": [
                {"key": LABEL, "operator": "Equal", "value": pool, "effect": "NoSchedule"} for pool in pools
            ],
            "containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}],
        },
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
    }
