"""IAM policies as JSON text, one function for each identity: what a service may do, and nothing else.

Source of the autoscaler's actions: kubernetes/autoscaler, cluster-autoscaler/cloudprovider/aws/README.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

VERSION = "2012-10-17"

# AWS gives these describing actions no resource to restrict them to, only `*`.
AUTOSCALER_READS = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLaunchConfigurations",
    "autoscaling:DescribeScalingActivities",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:GetInstanceTypesFromInstanceRequirements",
)
KEEPER_READS = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeScalingActivities",
    "ec2:DescribeInstances",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeVolumes",
    "pricing:GetProducts",
)
TAKE_MESSAGES = ("sqs:DeleteMessage", "sqs:ReceiveMessage")

# Kept in step with the addons by AWS. The second lets the driver touch only volumes and machines of its own cluster, by
# the name that Pod Identity adds to its session. It needs driver 1.58, and a tag on machines: eks:cluster-name, which
# managed nodes have, or asg_tags.VOLUMES, which those of pools have from their groups.
VPC_CNI = "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"
EBS_CSI = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverEKSClusterScopedPolicy"

BUCKET_READS = ("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads")
WRITE_OBJECTS = ("s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject")
CHANGE_OBJECTS = ("s3:DeleteObject", *WRITE_OBJECTS)


def trust_service(service: str) -> str:
    """Who may take a role: an AWS service such as `ec2.amazonaws.com`."""
    return _document([{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}])


def trust_pods(cluster: str, namespace: str, service_accounts: Sequence[str]) -> str:
    """Who may take a role: pods of these ServiceAccounts, by EKS Pod Identity, which tells AWS all three names."""
    names = {
        "aws:RequestTag/eks-cluster-name": cluster,
        "aws:RequestTag/kubernetes-namespace": namespace,
        "aws:RequestTag/kubernetes-service-account": sorted(service_accounts),
    }
    return _document(
        [
            {
                "Effect": "Allow",
                "Principal": {"Service": "pods.eks.amazonaws.com"},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
                "Condition": {"StringEquals": names},
            }
        ]
    )


def autoscaler(cluster: str, region: str) -> str:
    """The cluster-autoscaler: read everything that can be bought, change the size of this cluster's groups alone.

    The groups are told by their tag, not by name: EKS names the managed node group's itself.
    """
    return _document(
        [
            _allow(AUTOSCALER_READS, "*"),
            _allow(("eks:DescribeNodegroup",), f"arn:aws:eks:{region}:*:nodegroup/{cluster}/*/*"),
            _allow(
                ("autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"),
                f"arn:aws:autoscaling:{region}:*:autoScalingGroup:*:autoScalingGroupName/*",
                {"StringEquals": {f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster}": "owned"}},
            ),
        ]
    )


def keeper(queue: str) -> str:
    """The keeper: read what machines and volumes there are and cost, and take notices from its queue, by ARN."""
    return _document([_allow(KEEPER_READS, "*"), _allow(TAKE_MESSAGES, queue)])


def airflow(logs_bucket: str, folder: str = "") -> str:
    """Airflow: write and read task logs. logs_bucket: its ARN; folder: where in it they are; empty: anywhere."""
    return _document(_objects(logs_bucket, folder, WRITE_OBJECTS))


def jobs(lake_bucket: str, event_logs_bucket: str, event_logs_folder: str = "") -> str:
    """A tenant's jobs: change the lake, and write Spark event logs. Buckets by ARN.

    Spark renames an event log when its application ends, which on S3 is a copy and a delete.
    """
    return _document(
        _objects(lake_bucket, "", CHANGE_OBJECTS) + _objects(event_logs_bucket, event_logs_folder, CHANGE_OBJECTS)
    )


def history_server(event_logs_bucket: str, folder: str = "") -> str:
    """The Spark history server: read event logs, make their folder, which must be there, and remove old ones."""
    return _document(_objects(event_logs_bucket, folder, CHANGE_OBJECTS))


def flow_logs(log_group: str) -> str:
    """VPC flow logs: write to the one log group, given by ARN."""
    actions = ("logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents")
    return _document([_allow(actions, [log_group, f"{log_group}:*"])])


def _objects(bucket: str, folder: str, actions: Sequence[str]) -> list[dict[str, Any]]:
    """Actions on objects of a folder, or of the whole bucket if its name is empty.

    Listing is not restricted to the folder: S3 then answers 403 instead of 404 to the question whether an object is
    there, which S3A and Airflow take for a failure. For the same reason they may ask for the folder's own name.
    """
    folder = folder.strip("/")
    objects = [f"{bucket}/{folder}", f"{bucket}/{folder}/*"] if folder else [f"{bucket}/*"]
    return [_allow(BUCKET_READS, bucket), _allow(actions, objects)]


def _allow(
    actions: Sequence[str], resource: str | list[str], condition: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return statement | ({"Condition": dict(condition)} if condition else {})


def _document(statements: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"Version": VERSION, "Statement": list(statements)})
