from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest

from infra.aws import policies
from infra.aws.identity import PodIdentity, PodIdentityArgs
from tests.infra.recording import Made, made_by

TAGS = {"tidepool.dev/owner": "data", "tidepool.dev/environment": "dev"}
LAKE = "arn:aws:s3:::dev-lake"
EVENT_LOGS = "arn:aws:s3:::dev-event-logs"
LOGS = "arn:aws:s3:::dev-logs"
QUEUE = "arn:aws:sqs:eu-central-1:111122223333:dev-notices"

DOCUMENTS = {
    "autoscaler": policies.autoscaler("dev", "eu-central-1"),
    "keeper": policies.keeper(QUEUE),
    "airflow": policies.airflow(LOGS),
    "airflow in a folder": policies.airflow(LOGS, "airflow/"),
    "jobs": policies.jobs(LAKE, EVENT_LOGS),
    "history server": policies.history_server(EVENT_LOGS),
    "flow logs": policies.flow_logs("arn:aws:logs:eu-central-1:111122223333:log-group:/tidepool/dev/flow-logs"),
}


def statements(document: str) -> list[dict[str, Any]]:
    parsed = json.loads(document)
    assert parsed["Version"] == "2012-10-17"
    return list(parsed["Statement"])


def allows(document: str, action: str, resource: str) -> bool:
    """Whether a policy allows an action on a resource, conditions left aside."""
    for statement in statements(document):
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        if action in statement["Action"] and any(matches(pattern, resource) for pattern in resources):
            return True
    return False


def matches(pattern: str, resource: str) -> bool:
    return pattern == resource or (pattern.endswith("*") and resource.startswith(pattern[:-1]))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_action_is_a_wildcard(name: str) -> None:
    for statement in statements(DOCUMENTS[name]):
        assert statement["Effect"] == "Allow"
        assert not [action for action in statement["Action"] if "*" in action]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_only_reads_that_aws_restricts_to_nothing_are_allowed_on_everything(name: str) -> None:
    for statement in statements(DOCUMENTS[name]):
        if statement["Resource"] == "*":
            verbs = {action.split(":")[1] for action in statement["Action"]}
            assert all(verb.startswith(("Describe", "Get")) for verb in verbs), verbs


def test_the_autoscaler_changes_only_groups_that_carry_its_clusters_tag() -> None:
    changing = {
        action: statement
        for statement in statements(DOCUMENTS["autoscaler"])
        for action in statement["Action"]
        if not action.split(":")[1].startswith(("Describe", "Get"))
    }
    assert set(changing) == {"autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"}
    for statement in changing.values():
        assert statement["Condition"] == {
            "StringEquals": {"aws:ResourceTag/k8s.io/cluster-autoscaler/dev": "owned"},
        }
        assert statement["Resource"].startswith("arn:aws:autoscaling:eu-central-1:")


def test_the_autoscaler_reads_what_it_plans_with() -> None:
    read = {action for statement in statements(DOCUMENTS["autoscaler"]) for action in statement["Action"]}
    assert {
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLaunchConfigurations",
        "autoscaling:DescribeScalingActivities",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceTypes",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:GetInstanceTypesFromInstanceRequirements",
        "eks:DescribeNodegroup",
    } <= read


@pytest.mark.parametrize(
    ("who", "action", "resource", "allowed"),
    [
        ("airflow", "s3:PutObject", f"{LOGS}/dag/task.log", True),
        ("airflow", "s3:GetObject", f"{LOGS}/dag/task.log", True),
        ("airflow", "s3:DeleteObject", f"{LOGS}/dag/task.log", False),
        ("airflow", "s3:GetObject", f"{LAKE}/table/part-0", False),
        ("airflow in a folder", "s3:PutObject", f"{LOGS}/airflow/task.log", True),
        ("airflow in a folder", "s3:GetObject", f"{LOGS}/airflow", True),
        ("airflow in a folder", "s3:PutObject", f"{LOGS}/other/task.log", False),
        ("airflow in a folder", "s3:PutObject", f"{LOGS}/airflow-of-others/task.log", False),
        ("jobs", "s3:PutObject", f"{LAKE}/table/part-0", True),
        ("jobs", "s3:DeleteObject", f"{LAKE}/table/part-0", True),
        ("jobs", "s3:ListBucket", LAKE, True),
        ("jobs", "s3:PutObject", f"{EVENT_LOGS}/application_1", True),
        ("jobs", "s3:GetObject", f"{LOGS}/dag/task.log", False),
        ("jobs", "s3:DeleteBucket", LAKE, False),
        ("history server", "s3:GetObject", f"{EVENT_LOGS}/application_1", True),
        ("history server", "s3:ListBucket", EVENT_LOGS, True),
        ("history server", "s3:DeleteObject", f"{EVENT_LOGS}/application_1", True),
        ("history server", "s3:GetObject", f"{LAKE}/table/part-0", False),
        ("keeper", "ec2:DescribeInstances", "*", True),
        ("keeper", "ec2:TerminateInstances", "*", False),
    ],
)
def test_a_service_may_do_what_it_needs_and_no_more(who: str, action: str, resource: str, allowed: bool) -> None:
    assert allows(DOCUMENTS[who], action, resource) is allowed


def test_listing_has_no_condition_that_would_turn_missing_objects_into_forbidden_ones() -> None:
    for name in ("airflow in a folder", "jobs", "history server"):
        assert not [each for each in statements(DOCUMENTS[name]) if "Condition" in each]


def identity(*, preview: bool = False) -> Made:
    args = PodIdentityArgs(
        cluster=pulumi.Output.from_input("dev"),
        namespace="tidepool",
        service_accounts=["airflow", "airflow-worker"],
        policy=policies.airflow(LOGS),
        tags=TAGS,
    )
    return made_by(lambda: PodIdentity("airflow", args), preview=preview)


def test_only_the_named_service_accounts_of_the_cluster_may_take_the_role() -> None:
    (statement,) = statements(identity().one("iam/role:Role").inputs["assumeRolePolicy"])
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession"]
    assert statement["Condition"] == {
        "StringEquals": {
            "aws:RequestTag/eks-cluster-name": "dev",
            "aws:RequestTag/kubernetes-namespace": "tidepool",
            "aws:RequestTag/kubernetes-service-account": ["airflow", "airflow-worker"],
        }
    }


def test_each_service_account_is_bound_once_the_role_may_do_something() -> None:
    made = identity()
    bound = made.of("eks/podIdentityAssociation:PodIdentityAssociation")
    assert {(each.inputs["namespace"], each.inputs["serviceAccount"]) for each in bound.values()} == {
        ("tidepool", "airflow"),
        ("tidepool", "airflow-worker"),
    }
    for each in bound.values():
        assert each.inputs["clusterName"] == "dev"
        assert each.inputs["roleArn"] == "arn:aws:mock:::airflow"
        assert made.one("iam/rolePolicy:RolePolicy").name in each.depends_on
    assert made.one("iam/rolePolicy:RolePolicy").inputs["policy"] == policies.airflow(LOGS)


def test_an_identity_can_have_a_policy_of_aws_instead() -> None:
    args = PodIdentityArgs(
        cluster="dev",
        namespace="kube-system",
        service_accounts=["ebs-csi-controller-sa"],
        managed_policies=[policies.EBS_CSI],
        tags=TAGS,
    )
    made = made_by(lambda: PodIdentity("ebs-csi", args))
    assert not made.of("iam/rolePolicy:RolePolicy")
    assert made.one("iam/rolePolicyAttachment:RolePolicyAttachment").inputs["policyArn"] == policies.EBS_CSI


def test_an_identity_can_be_previewed_before_the_cluster_is_there() -> None:
    assert identity(preview=True).names() == identity().names()
