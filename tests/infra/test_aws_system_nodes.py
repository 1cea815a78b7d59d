from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from infra.aws import user_data
from infra.aws.instance_types import table
from infra.aws.node_role import NodeRole
from infra.aws.system_machines import node_config
from infra.aws.system_nodes import SystemNodes, SystemNodesArgs
from infra.settings import model
from tests.infra.recording import Made, made_by

TAGS = {"tidepool.dev/owner": "data", "tidepool.dev/environment": "dev", "tidepool.dev/pool": "system"}
NODES = model.SystemNodes(
    instance_types=(table()["m6a.large"], table()["m5.large"]), minimum=2, maximum=4, max_pods=30, root_volume_gib=40
)
ARM = replace(NODES, instance_types=(table()["m6g.large"],))


def system_nodes(
    nodes: model.SystemNodes = NODES, *, release_version: str | None = "1.36.4-20260930", preview: bool = False
) -> Made:
    args = SystemNodesArgs(
        name="dev-system",
        nodes=nodes,
        cluster="dev",
        version="1.36",
        release_version=release_version,
        node_role_arn="arn:aws:iam::111122223333:role/system",
        subnet_ids=["subnet-a", "subnet-b"],
        tags=TAGS,
    )
    return made_by(lambda: SystemNodes("system", args), preview=preview)


def group(made: Made) -> dict[str, Any]:
    return dict(made.one("eks/nodeGroup:NodeGroup").inputs)


def template(made: Made) -> dict[str, Any]:
    return dict(made.one("ec2/launchTemplate:LaunchTemplate").inputs)


def test_system_machines_are_on_demand_of_the_pinned_release() -> None:
    inputs = group(system_nodes())
    assert inputs["capacityType"] == "ON_DEMAND"
    assert (inputs["version"], inputs["releaseVersion"]) == ("1.36", "1.36.4-20260930")
    assert inputs["amiType"] == "AL2023_x86_64_STANDARD"
    assert inputs["instanceTypes"] == ["m6a.large", "m5.large"]
    assert "releaseVersion" not in group(system_nodes(release_version=None))


def test_arm_machines_get_an_arm_image() -> None:
    assert group(system_nodes(ARM))["amiType"] == "AL2023_ARM_64_STANDARD"


def test_jobs_stay_off_system_machines() -> None:
    inputs = group(system_nodes())
    assert inputs["labels"] == {"tidepool.dev/pool": "system"}
    assert inputs["taints"] == [{"key": "CriticalAddonsOnly", "value": "true", "effect": "NO_SCHEDULE"}]


def test_size_comes_from_the_settings_and_then_from_the_autoscaler() -> None:
    made = system_nodes()
    assert group(made)["scalingConfig"] == {"minSize": 2, "maxSize": 4, "desiredSize": 2}
    assert made.one("eks/nodeGroup:NodeGroup").ignore_changes == ("scalingConfig.desiredSize",)
    assert group(made)["updateConfig"] == {"maxUnavailable": 1}


def test_a_new_group_can_be_made_before_the_old_one_goes() -> None:
    inputs = group(system_nodes())
    assert inputs["nodeGroupNamePrefix"] == "dev-system-"
    assert "nodeGroupName" not in inputs


def test_pods_do_not_reach_the_machines_credentials() -> None:
    assert template(system_nodes())["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpTokens": "required",
        "httpPutResponseHopLimit": 1,
    }


def test_disks_are_encrypted() -> None:
    (disk,) = template(system_nodes())["blockDeviceMappings"]
    assert disk["ebs"] == {"volumeType": "gp3", "volumeSize": 40, "encrypted": "true", "deleteOnTermination": "true"}


def test_machines_have_no_public_address_and_lie_in_the_given_subnets() -> None:
    made = system_nodes()
    assert group(made)["subnetIds"] == ["subnet-a", "subnet-b"]
    assert "networkInterfaces" not in template(made)


def test_machines_volumes_and_interfaces_carry_the_cost_tags() -> None:
    specifications = template(system_nodes())["tagSpecifications"]
    assert {each["resourceType"] for each in specifications} == {"instance", "volume", "network-interface"}
    assert all(TAGS.items() <= each["tags"].items() for each in specifications)
    assert all(each["tags"]["Name"] == "dev-system" for each in specifications)


def test_the_group_runs_the_templates_newest_version() -> None:
    assert group(system_nodes())["launchTemplate"] == {"id": "system-template-id", "version": "1"}


def test_the_machines_configuration_is_ours_where_eks_leaves_it_to_us() -> None:
    text = base64.b64decode(template(system_nodes())["userData"]).decode()
    assert text == node_config(NODES)
    spec = user_data.parse(text)["spec"]
    assert set(spec) == {"kubelet"}, "EKS adds the cluster by itself"
    kubelet = spec["kubelet"]["config"]
    assert kubelet["maxPods"] == 30
    assert kubelet["kubeReserved"] == {"cpu": "70m", "memory": "585Mi", "ephemeral-storage": "1Gi"}


def test_system_nodes_can_be_previewed() -> None:
    assert system_nodes(preview=True).names() == system_nodes().names()


def node_role(*, preview: bool = False) -> Made:
    return made_by(lambda: NodeRole("node", TAGS), preview=preview)


def test_machines_may_join_and_pull_images_and_no_more() -> None:
    made = node_role()
    attached = {
        each.inputs["policyArn"].rsplit("/", 1)[-1]
        for each in made.of("iam/rolePolicyAttachment:RolePolicyAttachment").values()
    }
    assert attached == {"AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly"}
    assert not made.of("iam/rolePolicy:RolePolicy")
    assert '"Service": "ec2.amazonaws.com"' in made.one("iam/role:Role").inputs["assumeRolePolicy"]


def test_no_machine_starts_before_its_role_may_do_anything() -> None:
    profile = node_role().one("iam/instanceProfile:InstanceProfile")
    assert {"node-AmazonEKSWorkerNodeMinimalPolicy", "node-AmazonEC2ContainerRegistryPullOnly"} <= profile.depends_on


def test_a_node_role_can_be_previewed() -> None:
    assert node_role(preview=True).names() == node_role().names()
