from __future__ import annotations

from infra.aws import asg_tags, machines
from infra.aws.allocatable import MIB, Allocatable
from tests.infra.samples import TAGS, aws_pool
from tidepool.capacity import Taint

SIZE = Allocatable(cpu_millis=1930, memory_bytes=7002 * MIB, ephemeral_storage_bytes=71229 * MIB, pods=20)
TEMPLATE = "k8s.io/cluster-autoscaler/node-template/"


def rendered(gpus: int = 0) -> dict[str, str]:
    return asg_tags.render(
        cluster="dev",
        group="dev-spot",
        ownership={**TAGS, "tidepool.dev/pool": "spot"},
        labels={"tidepool.dev/pool": "spot"},
        taints=(Taint("tidepool.dev/pool", "spot", "NoSchedule"),),
        resources=SIZE,
        gpus=gpus,
        unneeded_time="10m",
    )


def test_the_autoscaler_learns_everything_about_a_machine_that_is_not_there_yet() -> None:
    assert rendered() == {
        "Name": "dev-spot",
        "ebs.csi.aws.com/cluster-name": "dev",
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
    assert rendered(gpus=4)[f"{TEMPLATE}resources/nvidia.com/gpu"] == "4"


def test_machines_carry_what_says_who_pays_and_not_what_only_the_autoscaler_reads() -> None:
    assert {key for key in rendered() if asg_tags.for_machines(key)} == {
        "Name",
        "ebs.csi.aws.com/cluster-name",
        "kubernetes.io/cluster/dev",
        "tidepool.dev/environment",
        "tidepool.dev/owner",
        "tidepool.dev/pool",
    }


def test_a_gpu_machine_is_waited_for_until_its_gpus_are_there() -> None:
    pool = aws_pool("g5.xlarge", name="gpu")
    tags = machines.group_tags("dev", "dev-gpu", pool, TAGS)
    assert tags[f"{TEMPLATE}resources/nvidia.com/gpu"] == "1"
    assert tags[f"{TEMPLATE}label/k8s.amazonaws.com/accelerator"] == "nvidia-a10g"
    assert machines.labels(pool)["k8s.amazonaws.com/accelerator"] == "nvidia-a10g"


def test_a_pool_of_several_gpu_models_claims_none_of_them() -> None:
    assert machines.labels(aws_pool("g5.xlarge", "g6.xlarge"))["k8s.amazonaws.com/accelerator"] == "nvidia"


def test_labels_of_tags_and_machines_are_the_same() -> None:
    for pool in (aws_pool(), aws_pool("g5.xlarge"), aws_pool("m6g.large")):
        tags = machines.group_tags("dev", "dev-spot", pool, TAGS)
        prefix = f"{TEMPLATE}label/"
        assert {
            key.removeprefix(prefix): value for key, value in tags.items() if key.startswith(prefix)
        } == machines.labels(pool)


def test_storage_that_a_machine_offers_is_the_instance_store_where_pods_live_there() -> None:
    pool = aws_pool("m5d.xlarge", "r5d.xlarge", root_volume_gib=20)
    on_root = machines.group_tags("dev", "dev-spot", pool, TAGS)[f"{TEMPLATE}resources/ephemeral-storage"]
    nvme = aws_pool("m5d.xlarge", "r5d.xlarge", root_volume_gib=20, nvme=True)
    on_nvme = machines.group_tags("dev", "dev-spot", nvme, TAGS)[f"{TEMPLATE}resources/ephemeral-storage"]
    assert (on_root, on_nvme) == ("17292Mi", "125148Mi")


def test_a_pool_promises_of_each_resource_what_its_smallest_type_has() -> None:
    size = machines.size(aws_pool("i3.xlarge", "r5d.xlarge", nvme=True))
    less_memory, less_storage = (
        machines.size(aws_pool("i3.xlarge", nvme=True)),
        machines.size(aws_pool("r5d.xlarge", nvme=True)),
    )
    assert size.memory_bytes == less_memory.memory_bytes < less_storage.memory_bytes
    assert size.ephemeral_storage_bytes == less_storage.ephemeral_storage_bytes < less_memory.ephemeral_storage_bytes


def test_groups_of_zones_share_a_pools_machines_out() -> None:
    pool = aws_pool(group_per_zone=True, minimum=1, maximum=5, zones=("us-east-1a", "us-east-1b"))
    assert machines.groups("dev", pool) == (
        machines.Group("dev-spot-us-east-1a", ("us-east-1a",), 1, 3, 0),
        machines.Group("dev-spot-us-east-1b", ("us-east-1b",), 0, 2, 0),
    )
    assert machines.groups("dev", aws_pool()) == (machines.Group("dev-spot", ("us-east-1a", "us-east-1b"), 0, 10, 0),)
