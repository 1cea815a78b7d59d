from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from infra.aws import images, user_data
from infra.aws.instance_types import table
from infra.aws.node_role import NodeRole
from infra.aws.system_nodes import SystemNodes, SystemNodesArgs
from infra.settings import model_aws
from tests.infra.recording import Made, made_by

TAGS = {"tidepool.dev/owner": "data", "tidepool.dev/environment": "dev", "tidepool.dev/pool": "system"}
NODES = model_aws.SystemNodes(
    instance_types=(table()["m6a.large"], table()["m5.large"]), minimum=2, maximum=4, max_pods=30, root_volume_gib=40
)


def system_nodes(*, preview: bool = False) -> Made:
    args = SystemNodesArgs(
        name="dev-system",
        nodes=NODES,
        cluster="dev",
        endpoint="https://kubernetes.example",
        certificate_authority="Q0E=",
        service_cidr="10.96.0.0/16",
        image="ami-1",
        node_role_arn="arn:aws:iam::111122223333:role/system",
        subnet_ids=["subnet-a", "subnet-b"],
        security_group_ids=["sg-cluster"],
        tags=TAGS,
    )
    return made_by(lambda: SystemNodes("system", args), preview=preview)


def group(made: Made) -> dict[str, Any]:
    return dict(made.one("eks/nodeGroup:NodeGroup").inputs)


def template(made: Made) -> dict[str, Any]:
    return dict(made.one("ec2/launchTemplate:LaunchTemplate").inputs)


def test_system_machines_are_on_demand_with_the_given_image() -> None:
    made = system_nodes()
    assert group(made)["capacityType"] == "ON_DEMAND"
    assert group(made)["instanceTypes"] == ["m6a.large", "m5.large"]
    assert template(made)["imageId"] == "ami-1"
    assert not {"amiType", "version", "releaseVersion"} & set(group(made)), "EKS refuses them beside an AMI id"


@pytest.mark.parametrize(
    ("types", "image", "found"),
    [
        (
            "m6a.large",
            "",
            "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/standard/"
            "amazon-eks-node-al2023-x86_64-standard-1.36-v20260930/image_id",
        ),
        (
            "m6g.large",
            "",
            "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/arm64/standard/"
            "amazon-eks-node-al2023-arm64-standard-1.36-v20260930/image_id",
        ),
        ("m6a.large", "ami-7", "ami-7"),
    ],
)
def test_the_image_is_the_pinned_release_for_the_processor_unless_one_is_named(
    types: str, image: str, found: str
) -> None:
    machines = model_aws.Machines(ami_release="" if image else "v20260930", image=image, minimum_spot_types=2)
    nodes = replace(NODES, instance_types=(table()[types],))
    seen: list[str] = []
    made_by(
        lambda: pulumi.Output.from_input(images.system_image_id(nodes, machines, "1.36")).apply(seen.append),
        calls={"aws:ssm/getParameter:getParameter": lambda args: {"insecureValue": args["name"]}},
    )
    assert seen == [found]


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
    assert inputs["nodeGroupNamePrefix"] == "system-", "37 characters are the most, and a cluster's name may have 40"
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
    assert template(made)["vpcSecurityGroupIds"] == ["sg-cluster"]


def test_machines_volumes_and_interfaces_carry_the_cost_tags() -> None:
    specifications = template(system_nodes())["tagSpecifications"]
    assert {each["resourceType"] for each in specifications} == {"instance", "volume", "network-interface"}
    assert all(TAGS.items() <= each["tags"].items() for each in specifications)
    assert all(each["tags"]["Name"] == "dev-system" for each in specifications)


def test_the_group_runs_the_templates_newest_version() -> None:
    assert group(system_nodes())["launchTemplate"] == {"id": "system-template-id", "version": "1"}


def test_machines_join_the_cluster_with_label_and_taint() -> None:
    spec = user_data.parse(base64.b64decode(template(system_nodes())["userData"]).decode())["spec"]
    assert spec["cluster"] == {
        "name": "dev",
        "apiServerEndpoint": "https://kubernetes.example",
        "certificateAuthority": "Q0E=",
        "cidr": "10.96.0.0/16",
    }
    assert spec["kubelet"]["flags"] == [
        "--node-labels=tidepool.dev/pool=system",
        "--register-with-taints=CriticalAddonsOnly=true:NoSchedule",
    ]
    assert spec["kubelet"]["config"]["maxPods"] == 30
    assert spec["kubelet"]["config"]["kubeReserved"] == {"cpu": "70m", "memory": "585Mi", "ephemeral-storage": "1Gi"}


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
