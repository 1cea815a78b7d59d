"""The real program against a real moto server: the whole AWS folder. Kubernetes objects are recorded, not applied."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from infra import settings
from infra.aws import machines, user_data
from infra.local import world, world_kubernetes
from infra.local.addresses import NotLocalError
from infra.local.world_aws import Aws
from infra.local.world_eks import ControlPlane
from infra.local.world_engine import World, WorldError
from infra.local.world_kubernetes import ApiServer
from infra.local.world_random import Random
from infra.local.world_state import State
from infra.settings import stack_file
from infra.settings.model import AwsCloud
from tidepool import capacity

STACK = Path(__file__).resolve().parents[2] / "stacks" / "Pulumi.local.yaml"
CONTROL_PLANE = ControlPlane(
    endpoint="https://10.200.0.1:6443",
    certificate_authority=base64.b64encode(b"CA").decode(),
    service_cidr="10.96.0.0/16",
    version="1.36",
)
LOOKS = ("Describe", "Get", "Head", "List")
OF_EVERY_ACCOUNT = ("vpcs", "subnets", "route_tables", "security_groups")  # the default VPC


class RecordingApiServer(ApiServer):
    """Stands where the API server does and keeps what is applied."""

    identity = "recording"

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}

    def apply(self, manifest: dict[str, Any], dry_run: bool = False) -> str:
        path = world_kubernetes.path_of(manifest)
        self.objects[path] = manifest
        return path

    def delete(self, manifest: dict[str, Any]) -> None:
        self.objects.pop(world_kubernetes.path_of(manifest), None)


class Deployment:
    """One moto server with everything that the program made in it, and the state of that."""

    def __init__(self, url: str, state: Path) -> None:
        self.aws = Aws(url, "us-east-1")
        self.aws.wait(10)
        self.aws.serve(CONTROL_PLANE)
        self.kubernetes = RecordingApiServer()
        self.state = state
        self.last: world.Deployed
        self.changing: list[str] = []
        for client in self.aws.clients.values():
            client.meta.events.register("before-call", self._note)

    def deploy(self, overrides: dict[str, Any] | None = None) -> world.Deployed:
        config = stack_file.override(stack_file.read(STACK), overrides or {})
        self.changing.clear()
        self.last = world.run([Random(), self.aws, self.kubernetes], config, "local", self.state)
        return self.last

    def group(self, name: str) -> dict[str, Any]:
        (found,) = self.groups(name)
        return found

    def groups(self, *names: str) -> list[dict[str, Any]]:
        asked = {"AutoScalingGroupNames": list(names)} if names else {}
        found: list[dict[str, Any]] = self.ask("autoscaling", "describe_auto_scaling_groups", **asked)[
            "AutoScalingGroups"
        ]
        return found

    def system_group(self) -> dict[str, Any]:
        (found,) = [each for each in self.groups() if each["AutoScalingGroupName"].startswith("eks-system-")]
        return found

    def template(self, name: str) -> dict[str, Any]:
        asked = {"LaunchTemplateName": name, "Versions": ["$Latest"]}
        found: dict[str, Any] = self.ask("ec2", "describe_launch_template_versions", **asked)["LaunchTemplateVersions"][
            0
        ]
        return found

    def ask(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self.aws.clients[service], operation)(**parameters)
        return answer

    def everything(self) -> dict[str, list[str]]:
        """Ids of all that is in moto, by kind, in order."""
        looks = {
            "vpcs": ("ec2", "describe_vpcs", "Vpcs", "VpcId"),
            "subnets": ("ec2", "describe_subnets", "Subnets", "SubnetId"),
            "route_tables": ("ec2", "describe_route_tables", "RouteTables", "RouteTableId"),
            "internet_gateways": ("ec2", "describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
            "addresses": ("ec2", "describe_addresses", "Addresses", "AllocationId"),
            "security_groups": ("ec2", "describe_security_groups", "SecurityGroups", "GroupId"),
            "flow_logs": ("ec2", "describe_flow_logs", "FlowLogs", "FlowLogId"),
            "templates": ("ec2", "describe_launch_templates", "LaunchTemplates", "LaunchTemplateId"),
            "groups": ("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", "AutoScalingGroupName"),
            "roles": ("iam", "list_roles", "Roles", "RoleName"),
            "profiles": ("iam", "list_instance_profiles", "InstanceProfiles", "InstanceProfileName"),
            "buckets": ("s3", "list_buckets", "Buckets", "Name"),
            "repositories": ("ecr", "describe_repositories", "repositories", "repositoryName"),
            "log_groups": ("logs", "describe_log_groups", "logGroups", "logGroupName"),
        }
        found = {
            kind: [each[key] for each in self.ask(service, look)[path]]
            for kind, (service, look, path, key) in looks.items()
        }
        gateways = self.ask("ec2", "describe_nat_gateways")["NatGateways"]
        found["nat_gateways"] = [each["NatGatewayId"] for each in gateways if each["State"] != "deleted"]
        endpoints = self.ask("ec2", "describe_vpc_endpoints")["VpcEndpoints"]
        found["endpoints"] = [each["VpcEndpointId"] for each in endpoints if each["State"] != "deleted"]
        found["clusters"] = self.ask("eks", "list_clusters")["clusters"]
        keys = [self.ask("kms", "describe_key", KeyId=each["KeyId"]) for each in self.ask("kms", "list_keys")["Keys"]]
        ours = [each["KeyMetadata"] for each in keys if each["KeyMetadata"]["Description"].startswith("Envelope")]
        found["keys"] = [each["KeyId"] for each in ours if each["Enabled"]]  # moto makes one for volumes
        return {kind: sorted(ids) for kind, ids in found.items()}

    def _note(self, model: Any, **_: Any) -> None:
        if not model.name.startswith(LOOKS):
            self.changing.append(model.name)


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")  # as the local cloud starts it
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(scope="module")
def first(moto_url: str, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """What all tests work on. Their deploys go from one's state to the next's, as those of a real stack."""
    return Deployment(moto_url, tmp_path_factory.mktemp("state") / "stack.jsonl")


@pytest.fixture
def deployed(first: Deployment) -> Deployment:
    """The stack file as it is, whatever was deployed before."""
    first.deploy()
    return first


def local() -> AwsCloud:
    cloud = settings.load(STACK).cloud
    assert isinstance(cloud, AwsCloud)
    return cloud


def test_every_pool_becomes_groups_of_its_size_and_types(deployed: Deployment) -> None:
    for pool in local().pools.values():
        for asked in machines.groups("local", pool):
            group = deployed.group(asked.name)
            policy = group["MixedInstancesPolicy"]
            assert (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]) == (asked.minimum, asked.maximum, 0)
            assert [each["InstanceType"] for each in policy["LaunchTemplate"]["Overrides"]] == [
                each.name for each in pool.instance_types
            ]
            share = policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"]
            assert share == (0 if pool.market == "spot" else 100)
            assert [each["ProcessName"] for each in group["SuspendedProcesses"]] == ["AZRebalance"]


def test_the_node_group_becomes_a_group_of_on_demand_machines_that_joins_the_cluster(deployed: Deployment) -> None:
    system, group = local().system, deployed.system_group()
    assert (group["MinSize"], group["MaxSize"], len(group["Instances"])) == (
        system.minimum,
        system.maximum,
        system.minimum,
    )
    assert group["MixedInstancesPolicy"]["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 100
    (machine, *_) = group["Instances"]
    asked = {"InstanceId": machine["InstanceId"], "Attribute": "userData"}
    data = deployed.ask("ec2", "describe_instance_attribute", **asked)["UserData"]["Value"]
    spec = user_data.parse(base64.b64decode(data).decode())["spec"]
    assert spec["cluster"] == {
        "name": "local",
        "apiServerEndpoint": CONTROL_PLANE.endpoint,
        "certificateAuthority": CONTROL_PLANE.certificate_authority,
        "cidr": CONTROL_PLANE.service_cidr,
    }
    assert "--node-labels=tidepool.dev/pool=system" in spec["kubelet"]["flags"]


def test_groups_say_what_pods_can_have_of_a_machine_before_there_is_one(deployed: Deployment) -> None:
    template = "k8s.io/cluster-autoscaler/node-template/"
    pools = capacity.loads(deployed.last.outputs["capacity"]).pools
    for name, group in (("spot-small", deployed.group("local-spot-small")), ("system", deployed.system_group())):
        tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
        assert tags[f"{template}resources/cpu"] == f"{pools[name].cpu_millis}m"
        assert tags[f"{template}resources/memory"] == f"{pools[name].memory_bytes // 2**20}Mi"
        assert tags[f"{template}resources/ephemeral-storage"] == f"{pools[name].ephemeral_storage_bytes // 2**20}Mi"
        assert tags[f"{template}label/tidepool.dev/pool"] == name
        assert {
            f"{template}taint/{each.key}": f"{each.value}:{each.effect}" for each in pools[name].taints
        }.items() <= tags.items()
        assert tags["k8s.io/cluster-autoscaler/local"] == "owned"


def test_eks_describes_the_local_control_plane(deployed: Deployment) -> None:
    cluster = deployed.ask("eks", "describe_cluster", name="local")["cluster"]
    (key,) = deployed.everything()["keys"]
    assert cluster["version"] == CONTROL_PLANE.version
    assert cluster["kubernetesNetworkConfig"]["serviceIpv4Cidr"] == CONTROL_PLANE.service_cidr
    assert cluster["encryptionConfig"][0]["provider"]["keyArn"].endswith(key)
    assert deployed.ask("eks", "list_nodegroups", clusterName="local")["nodegroups"]
    policies = deployed.ask("iam", "list_attached_role_policies", RoleName="local-eks-role")["AttachedPolicies"]
    assert [each["PolicyName"] for each in policies] == ["AmazonEKSClusterPolicy"]


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"version": "1.37"}, r"cluster local: version 1\.36, but the local control plane has 1\.37"),
        (
            {"service_cidr": "172.20.0.0/16"},
            r"cluster local: service addresses 10\.96\.0\.0/16, but the local control plane has 172\.20\.0\.0/16",
        ),
    ],
)
def test_a_cluster_that_the_local_control_plane_is_not_is_an_error(
    moto_url: str, tmp_path: Path, difference: dict[str, str], message: str
) -> None:
    other = Deployment(moto_url, tmp_path / "stack.jsonl")
    other.aws.serve(dataclasses.replace(CONTROL_PLANE, **difference))
    with pytest.raises(WorldError, match=message):
        other.deploy()


def test_machines_are_in_private_subnets_with_a_way_out(deployed: Deployment) -> None:
    ec2 = deployed.aws.clients["ec2"]
    subnets = [each for group in deployed.groups() for each in group["VPCZoneIdentifier"].split(",")]
    found = ec2.describe_subnets(SubnetIds=sorted(set(subnets)))["Subnets"]
    assert found
    for subnet in found:
        assert not subnet["MapPublicIpOnLaunch"]
        filters = [{"Name": "association.subnet-id", "Values": [subnet["SubnetId"]]}]
        (table,) = ec2.describe_route_tables(Filters=filters)["RouteTables"]
        out = {route.get("DestinationCidrBlock", ""): route for route in table["Routes"]}["0.0.0.0/0"]
        assert out["NatGatewayId"] in deployed.everything()["nat_gateways"]


def test_the_default_security_group_lets_nothing_through(deployed: Deployment) -> None:
    ec2 = deployed.aws.clients["ec2"]
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "cidr", "Values": [local().network.cidr]}])["Vpcs"]
    filters = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
    (group,) = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    assert (group["IpPermissions"], group["IpPermissionsEgress"]) == ([], [])


def test_buckets_are_versioned_encrypted_and_closed(deployed: Deployment) -> None:
    s3 = deployed.aws.clients["s3"]
    buckets = deployed.everything()["buckets"]
    assert len(buckets) == 3
    for bucket in buckets:
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]["RestrictPublicBuckets"]
        assert "SecureTransport" in s3.get_bucket_policy(Bucket=bucket)["Policy"]
        (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]


def test_machines_and_volumes_say_who_pays_for_them(deployed: Deployment) -> None:
    owner = {"tidepool.dev/owner": "tidepool", "tidepool.dev/environment": "local", "tidepool.dev/pool": "system"}
    data = deployed.template("local-system")["LaunchTemplateData"]
    tagged = {
        each["ResourceType"]: {tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in data["TagSpecifications"]
    }
    for what in ("instance", "volume"):
        assert owner.items() <= tagged[what].items()
    (machine, *_) = deployed.system_group()["Instances"]
    filters = [{"Name": "resource-id", "Values": [machine["InstanceId"]]}]
    tags = {tag["Key"] for tag in deployed.ask("ec2", "describe_tags", Filters=filters)["Tags"]}
    assert "k8s.io/cluster-autoscaler/enabled" not in tags


def test_pods_cannot_use_the_credentials_of_a_machine_and_its_disk_is_encrypted(deployed: Deployment) -> None:
    data = deployed.template("local-spot-small")["LaunchTemplateData"]
    wanted = {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert data["MetadataOptions"] == wanted
    (disk,) = data["BlockDeviceMappings"]
    assert disk["Ebs"] == {"Encrypted": True, "DeleteOnTermination": True, "VolumeSize": 20, "VolumeType": "gp3"}


def test_the_config_map_holds_the_capacity_document_that_is_exported(deployed: Deployment) -> None:
    manifest = deployed.kubernetes.objects["/api/v1/namespaces/tidepool/configmaps/tidepool-capacity"]
    assert manifest["data"] == {"capacity.json": deployed.last.outputs["capacity"]}
    assert set(capacity.loads(deployed.last.outputs["capacity"]).pools) == {"system", *local().pools}


def test_what_moto_does_not_have_is_listed_with_the_reason(deployed: Deployment) -> None:
    listed = {(each["type"], each["name"]) for each in deployed.last.not_here}
    assert ("aws:eks/addon:Addon", "node-addons-vpc-cni") in listed
    assert ("aws:eks/accessEntry:AccessEntry", "cluster-nodes") in listed
    (release,) = [each for each in deployed.last.not_here if each.get("chart", "").endswith("cluster-autoscaler")]
    assert release["version"]
    assert release["repository"].startswith("https://")
    assert all(each["reason"] for each in deployed.last.not_here)


def test_a_second_deploy_sends_nothing_that_could_change_anything(deployed: Deployment) -> None:
    before, kept = deployed.everything(), deployed.state.read_bytes()
    again = deployed.deploy()
    assert deployed.changing == []
    assert (again.changes.created, again.changes.updated, again.changes.replaced, again.changes.removed) == (
        [],
        [],
        [],
        [],
    )
    assert again.changes.unchanged > 100
    assert deployed.everything() == before
    assert deployed.state.read_bytes() == kept


def test_a_changed_pool_changes_only_its_own_resources_and_keeps_its_machines(deployed: Deployment) -> None:
    autoscaling = deployed.aws.clients["autoscaling"]
    autoscaling.set_desired_capacity(AutoScalingGroupName="local-spot-small", DesiredCapacity=2)
    before = deployed.template("local-spot-small")["VersionNumber"]
    changes = deployed.deploy({"pools.spot-small.max_pods": 25, "pools.spot-small.max": 6}).changes
    assert (changes.created, changes.replaced, changes.removed) == ([], [], [])
    assert sorted(changes.updated) == [
        "aws:autoscaling/group:Group spot-small-group",
        "aws:ec2/launchTemplate:LaunchTemplate spot-small-template",
        "kubernetes:core/v1:ConfigMap platform-capacity",
    ]
    group = deployed.group("local-spot-small")
    version = group["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"]
    assert (group["MaxSize"], group["DesiredCapacity"], len(group["Instances"])) == (6, 2, 2)
    assert int(version) == deployed.template("local-spot-small")["VersionNumber"] == before + 1
    assert deployed.template("local-system")["VersionNumber"] == 1
    autoscaling.set_desired_capacity(AutoScalingGroupName="local-spot-small", DesiredCapacity=0)


THIRD = {
    "instance_types": ["m5.large"],
    "market": "on-demand",
    "max": 2,
    "min": 1,
    "priority": 5,
    "max_pods": 20,
    "root_volume_gib": 20,
    "unneeded_time": "10s",
    "zones": ["us-east-1b"],
}


def test_a_pool_that_is_taken_out_goes_with_its_machines_and_nothing_else_does(deployed: Deployment) -> None:
    before = deployed.everything()
    deployed.deploy({"pools.third": THIRD})
    (machine,) = deployed.group("local-third")["Instances"]
    changes = deployed.deploy().changes
    assert changes.removed == [
        "aws:autoscaling/group:Group third-group",
        "aws:ec2/launchTemplate:LaunchTemplate third-template",
    ]
    assert deployed.everything() == before
    asked = {"InstanceIds": [machine["InstanceId"]]}
    (reservation,) = deployed.ask("ec2", "describe_instances", **asked)["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "terminated"


def test_a_tenant_that_is_taken_out_goes_with_all_of_its_objects(deployed: Deployment) -> None:
    before = dict(deployed.kubernetes.objects)
    deployed.deploy({"tenants.second": {"cpu": 8, "memory_gib": 32, "pods": 8}})
    assert "/api/v1/namespaces/tidepool-second" in deployed.kubernetes.objects
    deployed.deploy()
    assert deployed.kubernetes.objects == before


def test_a_second_gateway_moves_the_routes_in_place(deployed: Deployment) -> None:
    changes = deployed.deploy({"network.nat": "per-zone"}).changes
    assert sorted(changes.created) == [
        "aws:ec2/eip:Eip network-nat-us-east-1b",
        "aws:ec2/natGateway:NatGateway network-nat-us-east-1b",
    ]
    assert changes.updated == ["aws:ec2/route:Route network-private-us-east-1b-nat"]
    assert changes.removed == []


def test_endpoints_come_with_a_group_that_lets_the_vpc_in_and_go_with_it(deployed: Deployment) -> None:
    before = deployed.everything()
    deployed.deploy({"network.interface_endpoints": True})
    endpoints = deployed.ask("ec2", "describe_vpc_endpoints")["VpcEndpoints"]
    groups = {each["GroupId"] for endpoint in endpoints for each in endpoint["Groups"]}
    (group,) = deployed.ask("ec2", "describe_security_groups", GroupIds=sorted(groups))["SecurityGroups"]
    (rule,) = group["IpPermissions"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 443, 443)
    assert [each["CidrIp"] for each in rule["IpRanges"]] == [local().network.cidr]
    deployed.deploy()
    assert deployed.everything() == before


def test_another_type_of_system_machine_is_another_group_and_the_old_one_goes(deployed: Deployment) -> None:
    before = deployed.system_group()
    changes = deployed.deploy({"system.instance_types": ["m5.large"]}).changes
    after = deployed.system_group()
    assert changes.replaced == ["aws:eks/nodeGroup:NodeGroup system-group"]
    assert after["AutoScalingGroupName"] != before["AutoScalingGroupName"]
    assert len(deployed.ask("eks", "list_nodegroups", clusterName="local")["nodegroups"]) == 1


def test_without_its_state_a_deploy_finds_everything_again_by_name(deployed: Deployment) -> None:
    before = deployed.everything()
    deployed.state.unlink()
    deployed.deploy()
    assert deployed.everything() == before


def test_nothing_is_sent_to_an_address_that_is_not_of_this_machine() -> None:
    with pytest.raises(NotLocalError, match=r"203\.0\.113\.1 is not an address of this machine"):
        Aws("http://203.0.113.1:5555", "us-east-1")


def test_a_wrong_setting_is_refused_before_anything_is_made(moto_url: str, tmp_path: Path) -> None:
    wrong = {"images.references.spark": "spark:latest"}
    with pytest.raises(settings.SettingsError, match=r"images\.references\.spark: 'spark:latest'"):
        world.deploy(STACK, wrong, moto_url, tmp_path / "kubeconfig", tmp_path / "stack.jsonl")
    assert not (tmp_path / "stack.jsonl").exists()


class CutOffError(Exception):
    """The power went."""


@pytest.mark.parametrize("made", [10, 70])
def test_a_deploy_that_was_cut_off_is_finished_by_the_next_and_nothing_is_there_twice(
    deployed: Deployment, made: int, tmp_path: Path
) -> None:
    whole = {kind: len(ids) for kind, ids in deployed.everything().items()}
    remove_everything(deployed)
    put, left = State.put, iter(range(made))

    def put_until(state: State, entry: Any) -> None:
        if next(left, None) is None:
            raise CutOffError  # what was made last is in moto, and in no state
        put(state, entry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(State, "put", put_until)
        with pytest.raises(CutOffError):
            deployed.deploy()
    deployed.deploy()
    assert {kind: len(ids) for kind, ids in deployed.everything().items()} == whole
    assert deployed.deploy().changes.created == []


def test_what_the_program_made_can_all_be_removed_again(deployed: Deployment) -> None:
    removed = remove_everything(deployed)
    left = {kind: ids for kind, ids in deployed.everything().items() if kind not in OF_EVERY_ACCOUNT and ids}
    assert len(removed) > 100
    assert left == {}
    assert deployed.kubernetes.objects == {}
    (vpc,) = deployed.ask("ec2", "describe_vpcs")["Vpcs"]
    assert vpc["IsDefault"]


def remove_everything(deployed: Deployment) -> list[str]:
    """As a program without any resource does it."""
    sides = [Random(), deployed.aws, deployed.kubernetes]
    state = State.open(deployed.state, {side.name: side.identity for side in sides if side.name})
    emptied = World(state, sides)
    emptied.remove_the_rest()
    state.close()
    return emptied.changes.removed
