"""The real program against a real moto server; Kubernetes objects are recorded instead of applied."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pulumi
import pytest
from moto.server import ThreadedMotoServer

from infra import settings
from infra.aws import user_data
from infra.local import world, world_kubernetes
from infra.local.addresses import NotLocalError
from infra.local.world_aws import Aws, WorldError
from infra.settings import stack_file
from tidepool import capacity

STACK = Path(__file__).resolve().parents[2] / "stacks" / "Pulumi.local.yaml"


class RecordingApiServer:
    """Stands where the API server does and keeps what is applied."""

    url = "https://10.200.0.1:6443"
    certificate_authority = base64.b64encode(b"CA").decode()

    def __init__(self) -> None:
        self.applied: dict[str, dict[str, Any]] = {}

    def apply(self, manifest: dict[str, Any]) -> str:
        path = world_kubernetes.path_of(manifest)
        self.applied[path] = manifest
        return path


class Deployment:
    """One moto server with everything that the program made in it."""

    def __init__(self, url: str) -> None:
        self.aws = Aws(url, "us-east-1")
        self.aws.wait(10)
        self.kubernetes = RecordingApiServer()
        self.outputs: dict[str, Any] = {}

    def deploy(self, overrides: dict[str, Any] | None = None) -> None:
        config = stack_file.override(stack_file.read(STACK), overrides or {})
        self.outputs = world.run(world.World(self.aws, self.kubernetes), config, "local")  # type: ignore[arg-type]

    def group(self, name: str) -> dict[str, Any]:
        found = self.aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return found[0]

    def template(self, name: str) -> dict[str, Any]:
        versions = self.aws.ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=["$Latest"])
        return versions["LaunchTemplateVersions"][0]


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def deployment(moto_url: str) -> Deployment:
    made = Deployment(moto_url)
    httpx.post(f"{moto_url}/moto-api/reset", trust_env=False).raise_for_status()
    made.deploy()
    return made


def test_every_pool_becomes_a_group_of_its_size_and_types(deployment: Deployment) -> None:
    for name, pool in settings.load(STACK).pools.items():
        group = deployment.group(f"local-{name}")
        policy = group["MixedInstancesPolicy"]
        assert (group["MinSize"], group["MaxSize"]) == (pool.minimum, pool.maximum)
        assert [each["InstanceType"] for each in policy["LaunchTemplate"]["Overrides"]] == [
            each.name for each in pool.instance_types
        ]
        share = policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"]
        assert share == (0 if pool.market == "spot" else 100)
        assert [each["ProcessName"] for each in group["SuspendedProcesses"]] == ["AZRebalance"]


def test_only_pools_with_a_minimum_have_machines_at_first(deployment: Deployment) -> None:
    desired = {name: deployment.group(f"local-{name}")["DesiredCapacity"] for name in ("system", "spot-small")}
    assert desired == {"system": 1, "spot-small": 0}


def test_a_machine_carries_the_user_data_of_its_cluster_and_pool(deployment: Deployment) -> None:
    group = deployment.group("local-system")
    (machine,) = group["Instances"]
    data = deployment.aws.ec2.describe_instance_attribute(InstanceId=machine["InstanceId"], Attribute="userData")
    spec = user_data.parse(base64.b64decode(data["UserData"]["Value"]).decode())["spec"]
    assert spec["cluster"] == {
        "name": "local",
        "apiServerEndpoint": "https://10.200.0.1:6443",
        "certificateAuthority": RecordingApiServer.certificate_authority,
        "cidr": "10.96.0.0/16",
    }
    assert spec["kubelet"]["flags"] == ["--node-labels=tidepool.dev/pool=system"]


def test_groups_say_what_pods_can_have_of_a_machine_before_there_is_one(deployment: Deployment) -> None:
    tags = {tag["Key"]: tag["Value"] for tag in deployment.group("local-spot-small")["Tags"]}
    pool = capacity.loads(deployment.outputs["capacity"]).pools["spot-small"]
    template = "k8s.io/cluster-autoscaler/node-template/"
    assert tags[f"{template}resources/cpu"] == f"{pool.cpu_millis}m"
    assert tags[f"{template}resources/memory"] == f"{pool.memory_bytes // 2**20}Mi"
    assert tags[f"{template}label/tidepool.dev/pool"] == "spot-small"
    assert tags[f"{template}taint/tidepool.dev/pool"] == "spot-small:NoSchedule"
    assert tags[f"{template}autoscaling-options/scaledownunneededtime"] == "10s"
    assert tags["k8s.io/cluster-autoscaler/local"] == "owned"


def test_the_config_map_holds_the_capacity_document_that_is_exported(deployment: Deployment) -> None:
    manifest = deployment.kubernetes.applied["/api/v1/namespaces/tidepool/configmaps/tidepool-capacity"]
    assert manifest["data"] == {"capacity.json": deployment.outputs["capacity"]}
    assert set(capacity.loads(deployment.outputs["capacity"]).pools) == {"system", "spot-small", "on-demand-small"}


def test_pods_cannot_use_the_credentials_of_a_machine_and_its_disk_is_encrypted(deployment: Deployment) -> None:
    data = deployment.template("local-spot-small")["LaunchTemplateData"]
    assert data["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }
    (disk,) = data["BlockDeviceMappings"]
    assert disk["Ebs"] == {"Encrypted": True, "DeleteOnTermination": True, "VolumeSize": 20, "VolumeType": "gp3"}


def test_machines_and_volumes_say_who_pays_for_them(deployment: Deployment) -> None:
    owner = {"tidepool.dev/owner": "tidepool", "tidepool.dev/environment": "local", "tidepool.dev/pool": "system"}
    (volume,) = deployment.template("local-system")["LaunchTemplateData"]["TagSpecifications"]
    (machine,) = deployment.group("local-system")["Instances"]
    filters = [{"Name": "resource-id", "Values": [machine["InstanceId"]]}]
    tags = {tag["Key"]: tag["Value"] for tag in deployment.aws.ec2.describe_tags(Filters=filters)["Tags"]}
    assert volume["ResourceType"] == "volume"
    assert {tag["Key"]: tag["Value"] for tag in volume["Tags"]} == owner
    assert tags.items() >= owner.items()
    assert "k8s.io/cluster-autoscaler/enabled" not in tags


def test_a_zone_in_which_the_cluster_has_no_subnet_is_an_error(deployment: Deployment) -> None:
    with pytest.raises(pulumi.RunError, match="cluster local has no subnet in us-east-1z"):
        deployment.deploy({"pools.spot-small.zones": ["us-east-1z"]})


def test_a_second_deploy_of_the_same_program_changes_nothing(deployment: Deployment) -> None:
    before = [
        (deployment.group(f"local-{name}"), deployment.template(f"local-{name}")) for name in ("system", "spot-small")
    ]
    deployment.deploy()
    after = [
        (deployment.group(f"local-{name}"), deployment.template(f"local-{name}")) for name in ("system", "spot-small")
    ]
    assert after == before


def test_a_changed_pool_gets_a_new_template_version_and_keeps_its_machines(deployment: Deployment) -> None:
    deployment.aws.autoscaling.set_desired_capacity(AutoScalingGroupName="local-spot-small", DesiredCapacity=2)
    deployment.deploy({"pools.spot-small.max_pods": 30, "pools.spot-small.max": 6, "pools.spot-small.jobs": True})
    group = deployment.group("local-spot-small")
    version = group["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"]
    assert (group["MaxSize"], group["DesiredCapacity"], len(group["Instances"])) == (6, 2, 2)
    assert version == "2"
    assert deployment.template("local-spot-small")["VersionNumber"] == 2
    assert deployment.template("local-system")["VersionNumber"] == 1


def test_tags_that_a_pool_no_longer_has_go(deployment: Deployment) -> None:
    deployment.aws.autoscaling.create_or_update_tags(
        Tags=[
            {
                "ResourceId": "local-system",
                "ResourceType": "auto-scaling-group",
                "Key": "old",
                "Value": "1",
                "PropagateAtLaunch": False,
            }
        ]
    )
    deployment.deploy()
    assert "old" not in {tag["Key"] for tag in deployment.group("local-system")["Tags"]}


def test_what_the_local_cloud_cannot_create_is_an_error() -> None:
    made = world.World.__new__(world.World)
    made._resources = {}
    with pytest.raises(WorldError, match=r"bucket: the local cloud can't create aws:s3/bucket:Bucket"):
        made.new_resource(pulumi.runtime.MockResourceArgs("aws:s3/bucket:Bucket", "bucket", {}, custom=True))


def test_nothing_is_sent_to_an_address_that_is_not_of_this_machine() -> None:
    with pytest.raises(NotLocalError, match=r"203\.0\.113\.1 is not an address of this machine"):
        Aws("http://203.0.113.1:5555", "us-east-1")


def test_a_wrong_setting_is_refused_before_anything_is_made(moto_url: str, tmp_path: Path) -> None:
    with pytest.raises(settings.SettingsError, match=r"tidepool:images\.spark: 'spark:latest'"):
        world.deploy(STACK, {"images.spark": "spark:latest"}, moto_url, tmp_path / "kubeconfig")
