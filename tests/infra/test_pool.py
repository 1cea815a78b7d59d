from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from infra.aws import policies, user_data
from infra.aws.pool import Pool, PoolArgs
from infra.settings.model_aws import AwsPool
from tests.infra.recording import Made, made_by
from tests.infra.samples import TAGS, aws_pool

GROUP = "autoscaling/group:Group"
TEMPLATE = "ec2/launchTemplate:LaunchTemplate"


def made_of(pool: AwsPool, preview: bool = False) -> Made:
    return made_by(
        lambda: Pool(
            pool.name,
            PoolArgs(
                pool=pool,
                cluster="dev",
                endpoint="https://eks.example",
                certificate_authority="Q0E=",
                service_cidr="172.20.0.0/16",
                image="ami-1",
                instance_profile="dev-node",
                subnet_ids={"us-east-1a": "subnet-a", "us-east-1b": "subnet-b", "us-east-1c": "subnet-c"},
                security_group_ids=["sg-1"],
                tags=TAGS,
            ),
        ),
        preview=preview,
    )


def group_of(pool: AwsPool) -> Mapping[str, Any]:
    return made_of(pool).one(GROUP).inputs


def template_of(pool: AwsPool) -> Mapping[str, Any]:
    return made_of(pool).one(TEMPLATE).inputs


def test_a_pool_is_one_group_over_its_zones() -> None:
    group = group_of(aws_pool(minimum=1, maximum=7))
    assert (group["name"], group["minSize"], group["maxSize"]) == ("dev-spot", 1, 7)
    assert group["vpcZoneIdentifiers"] == ["subnet-a", "subnet-b"]


def test_or_one_group_for_each_zone_with_one_template() -> None:
    made = made_of(aws_pool(group_per_zone=True, maximum=3))
    assert {
        name: (group.inputs["name"], group.inputs["maxSize"], group.inputs["vpcZoneIdentifiers"])
        for name, group in made.of(GROUP).items()
    } == {
        "spot-group-us-east-1a": ("dev-spot-us-east-1a", 2, ["subnet-a"]),
        "spot-group-us-east-1b": ("dev-spot-us-east-1b", 1, ["subnet-b"]),
    }
    assert made.one(TEMPLATE).inputs["name"] == "dev-spot"


@pytest.mark.parametrize(("market", "on_demand"), [("spot", 0), ("on-demand", 100)])
def test_a_pool_buys_in_one_market_from_any_of_its_types(market: str, on_demand: int) -> None:
    policy = group_of(aws_pool("m6i.large", "m5.large", market=market))["mixedInstancesPolicy"]
    assert policy["instancesDistribution"] == {
        "onDemandBaseCapacity": 0,
        "onDemandPercentageAboveBaseCapacity": on_demand,
        "onDemandAllocationStrategy": "lowest-price",
        "spotAllocationStrategy": "price-capacity-optimized",
    }
    assert policy["launchTemplate"] == {
        "launchTemplateSpecification": {"launchTemplateId": "spot-template-id", "version": "1"},
        "overrides": [{"instanceType": "m6i.large"}, {"instanceType": "m5.large"}],
    }


def test_nothing_but_the_autoscaler_and_ec2_ends_machines() -> None:
    group = group_of(aws_pool())
    assert group["suspendedProcesses"] == ["AZRebalance"]
    assert group["capacityRebalance"] is False
    assert "instanceRefresh" not in group
    assert "desiredCapacity" not in group
    assert made_of(aws_pool()).one(GROUP).ignore_changes == ("desiredCapacity",)
    assert group_of(aws_pool(capacity_rebalance=True))["capacityRebalance"] is True


def test_only_a_warm_pool_has_no_mixed_instances_policy() -> None:
    made = made_of(aws_pool("m5.large", name="warm", market="on-demand", warm=2))
    group, template = made.one(GROUP).inputs, made.one(TEMPLATE).inputs
    assert group["warmPool"] == {"poolState": "Stopped", "minSize": 2, "maxGroupPreparedCapacity": 2}
    assert group["launchTemplate"] == {"id": "warm-template-id", "version": "1"}
    assert "mixedInstancesPolicy" not in group
    assert template["instanceType"] == "m5.large"
    assert "warmPool" not in group_of(aws_pool())
    assert "instanceType" not in template_of(aws_pool())


def test_pods_cannot_use_the_credentials_of_a_machine() -> None:
    assert template_of(aws_pool())["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpTokens": "required",
        "httpPutResponseHopLimit": 1,
    }


def test_the_root_volume_is_encrypted_and_goes_with_its_machine() -> None:
    (disk,) = template_of(aws_pool(root_volume_gib=30))["blockDeviceMappings"]
    assert disk == {
        "deviceName": "/dev/xvda",
        "ebs": {"volumeType": "gp3", "volumeSize": 30, "encrypted": "true", "deleteOnTermination": "true"},
    }


def test_everything_that_costs_says_who_pays() -> None:
    made = made_of(aws_pool())
    owner = {**TAGS, "tidepool.dev/pool": "spot"}
    specifications = made.one(TEMPLATE).inputs["tagSpecifications"]
    assert {each["resourceType"]: each["tags"] for each in specifications} == {
        "instance": owner,
        "volume": owner,
        "network-interface": owner,
    }
    carried = {tag["key"]: tag["value"] for tag in made.one(GROUP).inputs["tags"] if tag["propagateAtLaunch"]}
    assert carried.items() >= owner.items()
    assert not [key for key in carried if key.startswith("k8s.io/cluster-autoscaler")]


def test_volumes_of_jobs_can_be_attached_to_machines_and_their_root_volumes_are_not_the_drivers() -> None:
    """AmazonEBSCSIDriverEKSClusterScopedPolicy asks for this tag, by which the driver may delete volumes too."""
    assert policies.EBS_CSI.endswith("/AmazonEBSCSIDriverEKSClusterScopedPolicy")
    made = made_of(aws_pool())
    carried = {tag["key"]: tag["value"] for tag in made.one(GROUP).inputs["tags"] if tag["propagateAtLaunch"]}
    assert carried["ebs.csi.aws.com/cluster-name"] == "dev"
    for each in made.one(TEMPLATE).inputs["tagSpecifications"]:
        assert "ebs.csi.aws.com/cluster-name" not in each["tags"]


def test_machines_get_the_user_data_of_their_cluster_and_pool() -> None:
    template = template_of(aws_pool("m5d.large", nvme=True))
    spec = user_data.parse(base64.b64decode(template["userData"]).decode())["spec"]
    assert spec["cluster"]["apiServerEndpoint"] == "https://eks.example"
    assert spec["kubelet"]["flags"] == [
        "--node-labels=tidepool.dev/pool=spot",
        "--register-with-taints=tidepool.dev/pool=spot:NoSchedule",
    ]
    assert spec["instance"]["localStorage"]["strategy"] == "RAID0"
    assert (template["imageId"], template["vpcSecurityGroupIds"]) == ("ami-1", ["sg-1"])


def test_names_are_known_in_a_preview() -> None:
    made = made_of(aws_pool(), preview=True)
    assert (made.one(GROUP).inputs["name"], made.one(TEMPLATE).inputs["name"]) == ("dev-spot", "dev-spot")
