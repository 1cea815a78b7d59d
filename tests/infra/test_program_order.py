"""What the whole program makes waits for what it needs, fits AWS's limits, and stays where it must."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import settings
from infra.settings.model import AwsCloud
from tests.infra import recorded
from tests.infra.recorded import Recorded

CASES = Path(__file__).parent / "cases" / "accepted"

ADDON, NODE_GROUP, GROUP = "aws:eks/addon:Addon", "aws:eks/nodeGroup:NodeGroup", "aws:autoscaling/group:Group"
PLACED = ("Airflow", "Hdfs", "HistoryServer", "Keeper", "Monitoring", "SparkOperator")
"""The services that name a PriorityClass or a StorageClass of the program's."""

every_stack = pytest.mark.parametrize("stack", recorded.ALL)


class Order:
    """What of a stack is there before something else is asked for: what it depends on, its provider and its parent,
    and all that those wait for. A component's dependencies hold for what is in it."""

    def __init__(self, made: list[Recorded]) -> None:
        self.made = made
        self._by_urn = {each.urn: each for each in made}
        self._known: dict[str, frozenset[str]] = {}

    def before(self, each: Recorded) -> frozenset[str]:
        """Urns."""
        if each.urn not in self._known:
            direct = {*each.dependencies, each.provider.rpartition("::")[0], each.parent} & self._by_urn.keys()
            self._known[each.urn] = frozenset(direct).union(*(self.before(self._by_urn[urn]) for urn in direct))
        return self._known[each.urn]

    def of(self, *types: str) -> list[Recorded]:
        """Resources of these types; there must be some."""
        found = [each for each in self.made if each.typ in types]
        assert found, types
        return found

    def in_cluster(self) -> list[Recorded]:
        """Objects and Releases of Kubernetes."""
        return [each for each in self.made if each.custom and each.typ.startswith("kubernetes:")]

    def addons(self, of: str) -> list[Recorded]:
        """Of the component with that name."""
        return [each for each in self.of(ADDON) if each.parent.endswith(f"::{of}")]

    def missing(self, later: list[Recorded], earlier: list[Recorded]) -> list[tuple[str, str]]:
        """Pairs that may come in the other order."""
        return [(one.name, other.name) for one in later for other in earlier if other.urn not in self.before(one)]


def protects(stack: str) -> bool:
    cloud = settings.load(recorded.STACKS / f"Pulumi.{stack}.yaml").cloud
    assert isinstance(cloud, AwsCloud)
    return cloud.protect


@every_stack
def test_network_and_credentials_come_before_machines_and_what_runs_on_machines_after_them(stack: str) -> None:
    order = Order(recorded.record(stack))
    machines, for_nodes, for_system = order.of(NODE_GROUP), order.addons("node-addons"), order.addons("system-addons")
    assert {each.inputs["addonName"] for each in for_nodes} == {"eks-pod-identity-agent", "kube-proxy", "vpc-cni"}
    assert {each.inputs["addonName"] for each in for_system} == {"aws-ebs-csi-driver", "coredns"}
    assert order.missing(machines, for_nodes) == []
    assert order.missing(for_system, machines) == []
    assert order.missing(order.in_cluster(), for_system) == []


@every_stack
def test_no_pod_of_ours_starts_before_every_identity_is_bound(stack: str) -> None:
    """A service that is enabled later too: a pod that comes too early gets no credentials until it is restarted."""
    order = Order(recorded.record(stack))
    bound = order.of("aws:eks/podIdentityAssociation:PodIdentityAssociation")
    assert order.missing(order.in_cluster(), bound) == []


@every_stack
def test_services_wait_for_their_priority_and_their_kind_of_volume(stack: str) -> None:
    order = Order(recorded.record(stack))
    services = order.of(*(f"tidepool:services:{each}" for each in PLACED))
    for kind in ("kubernetes:scheduling.k8s.io/v1:PriorityClass", "kubernetes:storage.k8s.io/v1:StorageClass"):
        assert order.missing(services, order.of(kind)) == []


@every_stack
def test_no_machine_comes_before_its_subnet_has_a_way_out(stack: str) -> None:
    order = Order(recorded.record(stack))
    routes = order.of("aws:ec2/route:Route", "aws:ec2/routeTableAssociation:RouteTableAssociation")
    private = [each for each in routes if "private" in each.name]
    gateways = order.of("aws:ec2/natGateway:NatGateway")
    assert order.missing(order.of(NODE_GROUP), [*private, *gateways]) == []
    assert order.missing(gateways, [each for each in routes if each.name == "network-public-internet"]) == []
    for group in order.of(GROUP):
        zones = [each.rpartition("private-")[2].removesuffix("-id") for each in group.inputs["vpcZoneIdentifiers"]]
        assert order.missing([group], [each for each in private if any(zone in each.name for zone in zones)]) == []


@every_stack
def test_no_machine_of_a_pool_comes_before_the_cluster_lets_it_in(stack: str) -> None:
    order = Order(recorded.record(stack))
    (entry,) = [each for each in order.of("aws:eks/accessEntry:AccessEntry") if each.inputs.get("type") == "EC2_LINUX"]
    assert order.missing(order.of(GROUP), [entry]) == []


@every_stack
def test_buckets_with_all_that_guards_them_outlive_the_stack_exactly_where_it_is_protected(stack: str) -> None:
    buckets = [each for each in recorded.record(stack) if each.typ.startswith("aws:s3/bucket")]
    assert len(buckets) == 3 * 7
    assert {each.retain_on_delete for each in buckets} == {protects(stack)}
    assert {each.inputs["forceDestroy"] for each in buckets if each.typ.endswith(":Bucket")} == {not protects(stack)}


@every_stack
def test_images_are_never_deleted_while_machines_may_run_them_nor_repositories_with_images_where_protected(
    stack: str,
) -> None:
    made = recorded.record(stack)
    assert all(each.retain_on_delete for each in made if each.typ == "docker-build:index:Image")
    repositories = [each for each in made if each.typ == "aws:ecr/repository:Repository"]
    assert {each.inputs["forceDelete"] for each in repositories} == {not protects(stack)}


@every_stack
def test_nothing_else_outlives_the_stack(stack: str) -> None:
    kept = {each.typ for each in recorded.record(stack) if each.retain_on_delete}
    assert [each for each in kept if not each.startswith(("aws:s3/bucket", "docker-build:"))] == []


def test_a_ledger_on_a_volume_outlives_the_keeper(tmp_path: Path) -> None:
    case = CASES / "keeper-with-its-ledger-in-a-file.yaml"
    made, _ = recorded.record_file(Path(shutil.copy(case, tmp_path / "Pulumi.dev.yaml")))
    (claim,) = [each for each in made if each.typ == "kubernetes:core/v1:PersistentVolumeClaim"]
    assert claim.retain_on_delete


def test_the_longest_names_that_settings_let_through_fit_aws(tmp_path: Path) -> None:
    """Of a cluster and of a team. Pulumi adds eight characters to the name of a role."""
    made, _ = recorded.record_file(Path(shutil.copy(CASES / "longest-names.yaml", tmp_path / "Pulumi.dev.yaml")))
    most: dict[str, Callable[[Recorded], bool]] = {
        "aws:iam/role:Role": lambda each: len(each.name) + 8 <= 64,
        "aws:iam/rolePolicy:RolePolicy": lambda each: len(each.name) + 8 <= 128,
        "aws:eks/nodeGroup:NodeGroup": lambda each: len(each.inputs["nodeGroupNamePrefix"]) <= 37,
        "aws:s3/bucket:Bucket": lambda each: len(each.inputs["bucket"]) <= 63,
        "aws:ec2/launchTemplate:LaunchTemplate": lambda each: len(each.inputs["name"]) <= 128,
        "kubernetes:core/v1:Namespace": lambda each: len(each.inputs["metadata"]["name"]) <= 63,
    }
    assert most.keys() <= {each.typ for each in made}
    assert [each.urn for each in made if each.typ in most and not most[each.typ](each)] == []
