from __future__ import annotations

import json
from typing import Any

import pytest

from infra import naming
from infra.aws import access, addons, kubeconfig, storage_class
from infra.aws.addons import Addons, AddonsArgs
from infra.aws.cluster import Cluster, ClusterArgs
from infra.settings.model_aws import EksCluster
from tests.infra.recording import Made, made_by

TAGS = {"tidepool.dev/owner": "data", "tidepool.dev/environment": "dev"}
ADMIN = "arn:aws:iam::111122223333:role/teams/platform"
VIEWER = "arn:aws:iam::111122223333:role/analyst"


def cluster(
    *, public_access_cidrs: tuple[str, ...] = (), protect: bool = False, preview: bool = False, seen: Any = None
) -> Made:
    args = ClusterArgs(
        cluster=EksCluster(
            name="dev",
            version="1.36",
            public_access_cidrs=public_access_cidrs,
            admins=(ADMIN,),
            viewers=(VIEWER,),
            log_days=30,
        ),
        region="eu-central-1",
        vpc_id="vpc-1",
        subnet_ids=["subnet-a", "subnet-b"],
        node_role_arn="arn:aws:iam::111122223333:role/node",
        protect=protect,
        tags=TAGS,
    )

    def build() -> None:
        made = Cluster("cluster", args)
        if seen is not None:
            for name in ("name", "kubeconfig", "security_group_id", "api_server"):
                getattr(made, name).apply(lambda value, name=name: seen.update({name: value}))

    return made_by(build, preview=preview)


def eks(made: Made) -> dict[str, Any]:
    return dict(made.one("eks:index:Cluster").inputs)


def test_the_cluster_is_what_the_settings_say() -> None:
    inputs = eks(cluster())
    assert (inputs["name"], inputs["version"], inputs["vpcId"]) == ("dev", "1.36", "vpc-1")
    assert inputs["subnetIds"] == ["subnet-a", "subnet-b"]
    assert inputs["kubernetesServiceIpAddressRange"] == "10.96.0.0/16"
    assert TAGS.items() <= inputs["tags"].items()


def test_the_api_server_is_public_only_for_listed_networks() -> None:
    private = eks(cluster())
    assert (private["endpointPrivateAccess"], private["endpointPublicAccess"]) == (True, False)
    assert "publicAccessCidrs" not in private
    public = eks(cluster(public_access_cidrs=("203.0.113.0/24",)))
    assert (public["endpointPrivateAccess"], public["endpointPublicAccess"]) == (True, True)
    assert public["publicAccessCidrs"] == ["203.0.113.0/24"]


def test_secrets_are_encrypted_with_an_own_key_that_rotates() -> None:
    made = cluster()
    key = made.one("kms/key:Key")
    assert key.inputs["enableKeyRotation"] is True
    assert eks(made)["encryptionConfigKeyArn"] == f"arn:aws:mock:::{key.name}"


def test_every_control_plane_log_is_kept_for_the_days_of_the_settings() -> None:
    made = cluster()
    assert sorted(eks(made)["enabledClusterLogTypes"]) == [
        "api",
        "audit",
        "authenticator",
        "controllerManager",
        "scheduler",
    ]
    group = made.one("cloudwatch/logGroup:LogGroup")
    assert (group.inputs["name"], group.inputs["retentionInDays"]) == ("/aws/eks/dev/cluster", 30)
    assert group.name in made.one("eks:index:Cluster").depends_on, (
        "EKS would make the group first, and keep logs forever"
    )


def test_machines_and_addons_are_left_to_our_own_resources() -> None:
    inputs = eks(cluster())
    assert inputs["skipDefaultNodeGroup"] is True
    assert inputs["skipDefaultSecurityGroups"] is True
    assert inputs["bootstrapSelfManagedAddons"] is False
    assert inputs["useDefaultVpcCni"] is True
    assert inputs["kubeProxyAddonOptions"]["enabled"] is False
    assert inputs["corednsAddonOptions"]["enabled"] is False


ENTRY, ASSOCIATION = "eks/accessEntry:AccessEntry", "eks/accessPolicyAssociation:AccessPolicyAssociation"


def test_access_is_by_the_eks_api_alone() -> None:
    made = cluster()
    assert eks(made)["authenticationMode"] == "API"
    entries = {name: each.inputs["principalArn"] for name, each in made.of(ENTRY).items()}
    assert entries == {
        "cluster-admin-111122223333-platform": ADMIN,
        "cluster-viewer-111122223333-analyst": VIEWER,
        "cluster-nodes": "arn:aws:iam::111122223333:role/node",
    }
    policies = {each.inputs["principalArn"]: each.inputs["policyArn"] for each in made.of(ASSOCIATION).values()}
    assert {principal: policy.rsplit("/", 1)[-1] for principal, policy in policies.items()} == {
        ADMIN: "AmazonEKSClusterAdminPolicy",
        VIEWER: "AmazonEKSViewPolicy",
    }
    assert {each.inputs["accessScope"]["type"] for each in made.of(ASSOCIATION).values()} == {"cluster"}
    assert made.of(ENTRY)["cluster-nodes"].inputs["type"] == "EC2_LINUX"


def test_a_role_is_let_in_before_it_gets_its_rights() -> None:
    made = cluster()
    assert all(name in each.depends_on for name, each in made.of(ASSOCIATION).items())


def test_somebody_can_be_removed_from_a_protected_cluster() -> None:
    """pulumi_eks.Cluster is a component, and what it makes is protected with it."""
    made = cluster(protect=True)
    assert "accessEntries" not in eks(made)
    assert not [each.name for kind in (ENTRY, ASSOCIATION) for each in made.of(kind).values() if each.protect]


def test_a_protected_cluster_can_not_be_destroyed() -> None:
    for protect in (True, False):
        made = cluster(protect=protect)
        assert made.one("eks:index:Cluster").protect is protect
        assert made.one("kms/key:Key").protect is protect
        assert eks(made)["deletionProtection"] is protect


def test_outputs_name_the_cluster_and_how_to_reach_it() -> None:
    seen: dict[str, Any] = {}
    cluster(seen=seen)
    assert seen["name"] == "dev"
    assert seen["security_group_id"] == "sg-cluster"
    assert seen["api_server"] == kubeconfig.ApiServer("https://kubernetes.example", "Q0E=")
    config = json.loads(seen["kubeconfig"])
    assert config["clusters"][0]["cluster"]["server"] == "https://kubernetes.example"


def test_a_cluster_can_be_previewed_before_it_is_there() -> None:
    seen: dict[str, Any] = {}
    made = cluster(preview=True, seen=seen)
    assert made.names() == cluster().names()
    assert seen == {}, "nothing is known before the cluster is there"


@pytest.mark.parametrize(
    ("admins", "viewers", "names"),
    [
        ([], [], []),
        ([ADMIN, ADMIN], [], ["admin-111122223333-platform"]),
        ([ADMIN], [ADMIN], ["admin-111122223333-platform"]),
        ([ADMIN], [VIEWER], ["admin-111122223333-platform", "viewer-111122223333-analyst"]),
        (
            ["arn:aws:iam::111122223333:role/one", "arn:aws:iam::444455556666:role/one"],
            [],
            ["admin-111122223333-one", "admin-444455556666-one"],
        ),
    ],
)
def test_a_role_has_one_access_with_a_name_of_its_own(admins: list[str], viewers: list[str], names: list[str]) -> None:
    assert [each.name for each in access.granted(admins, viewers)] == names


def test_a_kubeconfig_holds_no_secret() -> None:
    server = kubeconfig.ApiServer("https://kubernetes.example", "Q0E=")
    config = json.loads(kubeconfig.render("dev", "eu-central-1", server))
    assert set(config["users"][0]["user"]) == {"exec"}
    assert config["users"][0]["user"]["exec"]["command"] == "aws"
    assert config["users"][0]["user"]["exec"]["args"][:4] == ["eks", "get-token", "--cluster-name", "dev"]
    assert kubeconfig.parse(json.dumps(config)) == server


@pytest.mark.parametrize("text", ["{}", '{"clusters": []}', '{"clusters": [{"cluster": {"server": "x"}}]}', "[]"])
def test_a_kubeconfig_that_says_nothing_is_an_error_that_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="no server or no certificate-authority-data"):
        kubeconfig.parse(text)


def addon(name: str) -> addons.Addon:
    return {each.name: each for each in (*addons.for_nodes(), *addons.for_system(TAGS))}[name]


def test_network_policies_are_enforced() -> None:
    assert addon("vpc-cni").configuration["enableNetworkPolicy"] == "true"


def test_a_machine_takes_few_addresses_that_no_pod_has() -> None:
    wanted = {"WARM_IP_TARGET": "2", "MINIMUM_IP_TARGET": "4"}
    assert addon("vpc-cni").configuration["env"] == wanted, "else a whole network interface of them is kept free"


def test_credentials_reach_pods_on_every_machine() -> None:
    assert addon("eks-pod-identity-agent").configuration["tolerations"] == [{"operator": "Exists"}]


@pytest.mark.parametrize(
    "values", [addon("coredns").configuration, addon("aws-ebs-csi-driver").configuration["controller"]]
)
def test_dns_and_volumes_run_on_system_machines(values: dict[str, Any]) -> None:
    assert values["nodeSelector"] == {"tidepool.dev/pool": "system"}
    tolerated = {(each["key"], each["value"], each["effect"]) for each in values["tolerations"]}
    assert tolerated == {(each.key, each.value, each.effect) for each in naming.SYSTEM_TAINTS}


def test_volumes_of_claims_carry_the_cost_tags() -> None:
    assert addon("aws-ebs-csi-driver").configuration["controller"]["extraVolumeTags"] == TAGS


def installed(*, preview: bool = False) -> Made:
    def build() -> None:
        Addons("node-addons", AddonsArgs(cluster="dev", addons=addons.for_nodes(), tags=TAGS))
        Addons("system-addons", AddonsArgs(cluster="dev", addons=addons.for_system(TAGS), tags=TAGS))

    return made_by(build, preview=preview)


def test_addons_are_pinned_tagged_and_ours_wins() -> None:
    made = [each.inputs for each in installed()]
    assert {each["addonName"] for each in made} == {
        "aws-ebs-csi-driver",
        "coredns",
        "eks-pod-identity-agent",
        "kube-proxy",
        "vpc-cni",
    }
    for each in made:
        assert "-eksbuild." in each["addonVersion"]
        assert each["resolveConflictsOnCreate"] == each["resolveConflictsOnUpdate"] == "OVERWRITE"
        assert each["tags"] == TAGS


def test_addons_can_be_previewed() -> None:
    assert installed(preview=True).names() == installed().names()


def test_volumes_are_encrypted_unless_somebody_asks_for_another_class() -> None:
    made = made_by(storage_class.default_storage_class)
    inputs = made.one("storage.k8s.io/v1:StorageClass").inputs
    assert inputs["parameters"] == {"type": "gp3", "encrypted": "true"}
    assert inputs["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert inputs["volumeBindingMode"] == "WaitForFirstConsumer"
