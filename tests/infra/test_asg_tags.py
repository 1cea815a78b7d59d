from __future__ import annotations

from infra.aws import asg_tags
from infra.aws.allocatable import MIB, Allocatable
from tidepool.capacity import Taint

SIZE = Allocatable(cpu_millis=1930, memory_bytes=7002 * MIB, ephemeral_storage_bytes=71229 * MIB, pods=20)


def rendered(gpus: int = 0) -> dict[str, str]:
    return asg_tags.render(
        cluster="dev",
        group="dev-spot",
        owner="data",
        environment="dev",
        pool="spot",
        labels={"tidepool.dev/pool": "spot"},
        taints=(Taint("tidepool.dev/pool", "spot", "NoSchedule"),),
        resources=SIZE,
        gpus=gpus,
        unneeded_time="10m",
    )


def test_the_autoscaler_learns_everything_about_a_machine_that_is_not_there_yet() -> None:
    assert rendered() == {
        "Name": "dev-spot",
        "k8s.io/cluster-autoscaler/dev": "owned",
        "k8s.io/cluster-autoscaler/enabled": "true",
        "k8s.io/cluster-autoscaler/node-template/autoscaling-options/scaledownunneededtime": "10m",
        "k8s.io/cluster-autoscaler/node-template/label/tidepool.dev/pool": "spot",
        "k8s.io/cluster-autoscaler/node-template/resources/cpu": "1930m",
        "k8s.io/cluster-autoscaler/node-template/resources/ephemeral-storage": "71229Mi",
        "k8s.io/cluster-autoscaler/node-template/resources/memory": "7002Mi",
        "k8s.io/cluster-autoscaler/node-template/resources/pods": "20",
        "k8s.io/cluster-autoscaler/node-template/taint/tidepool.dev/pool": "spot:NoSchedule",
        "kubernetes.io/cluster/dev": "owned",
        "tidepool.dev/environment": "dev",
        "tidepool.dev/owner": "data",
        "tidepool.dev/pool": "spot",
    }


def test_gpus_are_announced_where_there_are_any() -> None:
    assert rendered(gpus=4)["k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu"] == "4"
