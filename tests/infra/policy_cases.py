"""Resources that keep the policy's rules, and what breaks each; pods, and the levels that let them in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi

from infra.policy.rule import Partial, Resource
from tests.infra.recorded import Recorded

OWN = {"tidepool.dev/owner": "data", "tidepool.dev/environment": "prod"}
POOLED = {**OWN, "tidepool.dev/pool": "spot"}
RIGHTS = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
PEOPLE = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
LATE = "cluster-autoscaler.kubernetes.io/safe-to-evict"


def policy(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any, **more: Any) -> str:
    return policy({"Effect": "Allow", "Action": action, "Resource": resource, **more})


def deployment(**spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "registry.example/c:1", "securityContext": RIGHTS, **spec.pop("container", {})}
    pod = {
        "metadata": spec.pop("pod_metadata", {}),
        "spec": {"securityContext": PEOPLE, "containers": [container], **spec},
    }
    return {"metadata": {"name": "c", "namespace": "tidepool"}, "spec": {"template": pod}}


def job(**pod: Any) -> dict[str, Any]:
    """A job's pod in a team's namespace."""
    metadata = {"namespace": "tidepool-etl", "annotations": {LATE: "false"}, **pod.pop("metadata", {})}
    container = {"name": "c", "image": "registry.example/c:1", "securityContext": RIGHTS}
    return {"metadata": metadata, "spec": {"securityContext": PEOPLE, "containers": [container], **pod}}


GOOD: dict[str, dict[str, Any]] = {
    "aws:autoscaling/group:Group": {
        "suspendedProcesses": ["AZRebalance"],
        "tags": [{"key": key, "value": value, "propagateAtLaunch": True} for key, value in POOLED.items()],
    },
    "aws:ec2/launchTemplate:LaunchTemplate": {
        "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1.0},
        "blockDeviceMappings": [{"ebs": {"encrypted": "true", "volumeType": "gp3"}}],
        "tags": POOLED,
        "tagSpecifications": [{"resourceType": "volume", "tags": POOLED}],
    },
    "aws:ec2/subnet:Subnet": {"mapPublicIpOnLaunch": False, "tags": OWN},
    "aws:rds/instance:Instance": {
        "publiclyAccessible": False,
        "storageEncrypted": True,
        "backupRetentionPeriod": 14.0,
        "deletionProtection": True,
        "skipFinalSnapshot": False,
        "multiAz": True,
        "tags": OWN,
    },
    "aws:ebs/volume:Volume": {"encrypted": True, "tags": OWN},
    "aws:kms/key:Key": {"enableKeyRotation": True, "tags": OWN},
    "aws:iam/rolePolicy:RolePolicy": {"policy": allow(["s3:GetObject"], "arn:aws:s3:::lake/*")},
    "aws:iam/role:Role": {
        "tags": OWN,
        "assumeRolePolicy": policy({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}),
    },
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": {"policyArn": "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"},
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": {
        "bucket": "lake-id",
        "blockPublicAcls": True,
        "blockPublicPolicy": True,
        "ignorePublicAcls": True,
        "restrictPublicBuckets": True,
    },
    "aws:s3/bucketPolicy:BucketPolicy": {
        "bucket": "lake-id",
        "policy": policy(
            {"Effect": "Deny", "Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        ),
    },
    "aws:s3/bucketVersioning:BucketVersioning": {
        "bucket": "lake-id",
        "versioningConfiguration": {"status": "Enabled"},
    },
    "aws:ec2/securityGroup:SecurityGroup": {
        "ingress": [{"fromPort": 443.0, "toPort": 443.0, "cidrBlocks": ["10.0.0.0/16"]}],
        "tags": OWN,
    },
    "aws:ec2/securityGroupRule:SecurityGroupRule": {"type": "egress", "cidrBlocks": ["0.0.0.0/0"]},
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": {"cidrIpv4": "10.0.0.0/16", "tags": OWN},
    "eks:index:Cluster": {
        "endpointPrivateAccess": True,
        "endpointPublicAccess": True,
        "publicAccessCidrs": ["203.0.113.0/24"],
        "enabledClusterLogTypes": ["api", "audit", "authenticator", "controllerManager", "scheduler"],
        "encryptionConfigKeyArn": "arn:aws:kms:us-east-1:123456789012:key/x",
        "tags": OWN,
    },
    "aws:eks/cluster:Cluster": {
        "vpcConfig": {"endpointPrivateAccess": True, "endpointPublicAccess": False},
        "enabledClusterLogTypes": ["api", "audit", "authenticator", "controllerManager", "scheduler"],
        "encryptionConfig": {"resources": ["secrets"]},
        "tags": OWN,
    },
    "aws:eks/nodeGroup:NodeGroup": {"tags": POOLED, "launchTemplate": {"id": "lt-1", "version": "1"}},
    "aws:ec2/instance:Instance": {
        "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1.0},
        "rootBlockDevice": {"encrypted": True},
        "ebsBlockDevices": [{"encrypted": True}],
        "tags": OWN,
    },
    "aws:efs/fileSystem:FileSystem": {"encrypted": True, "tags": OWN},
    "aws:rds/cluster:Cluster": {"storageEncrypted": True, "tags": OWN},
    "aws:iam/policy:Policy": {
        "policy": policy(
            {
                "Effect": "Allow",
                "Action": "autoscaling:SetDesiredCapacity",
                "Resource": "arn:aws:autoscaling:us-east-1:*:autoScalingGroup:*:autoScalingGroupName/*",
                "Condition": {"StringEquals": {"aws:ResourceTag/owner": "data"}},
            },
            {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::123456789012:role/tidepool-*"},
            {"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": "arn:aws:logs:*:*:log-group:/aws/vpc:*"},
            {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "arn:aws:sqs:*:*:notices"},
        ),
        "tags": OWN,
    },
    "aws:iam/userPolicy:UserPolicy": {"policy": allow(["s3:GetObject"], "arn:aws:s3:::lake/*")},
    "aws:iam/groupPolicy:GroupPolicy": {"policy": allow(["s3:GetObject"], "arn:aws:s3:::lake/*")},
    "aws:iam/policyAttachment:PolicyAttachment": {"policyArn": "arn:aws:iam::123456789012:policy/readers"},
    "aws:iam/rolePolicyAttachmentsExclusive:RolePolicyAttachmentsExclusive": {
        "policyArns": ["arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"]
    },
    "aws:sqs/queuePolicy:QueuePolicy": {
        "policy": policy(
            {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Condition": {"ArnEquals": {"aws:SourceArn": "arn:aws:events:us-east-1:123456789012:rule/spot"}},
            },
            {"Effect": "Deny", "Principal": "*", "Action": "sqs:*"},
        )
    },
    "aws:ecr/repositoryPolicy:RepositoryPolicy": {
        "policy": allow("ecr:BatchGetImage", None, Principal={"AWS": "arn:aws:iam::123456789012:root"})
    },
    "aws:kms/keyPolicy:KeyPolicy": {"policy": allow("kms:*", "*", Principal={"AWS": "arn:aws:iam::123456789012:root"})},
    "aws:ecr/repository:Repository": {
        "imageTagMutability": "IMMUTABLE",
        "imageScanningConfiguration": {"scanOnPush": True},
        "tags": OWN,
    },
    "aws:cloudwatch/logGroup:LogGroup": {"retentionInDays": 90.0, "tags": OWN},
    "kubernetes:apps/v1:Deployment": deployment(),
    "kubernetes:apps/v1:StatefulSet": deployment(pod_metadata={"annotations": {LATE: "false"}}),
    "kubernetes:core/v1:Pod": job(),
    "kubernetes:helm.sh/v3:Release": {
        "version": "1.2.3",
        "values": {
            "image": {"repository": "a/b", "tag": "v1"},
            "admin": {"existingSecret": "admin"},
            "env": [{"name": "HOST", "value": "db"}, {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {}}}],
        },
    },
    "kubernetes:core/v1:ConfigMap": {"data": {"host": "postgresql://db.example:5432/airflow"}},
    "kubernetes:core/v1:ServiceAccount": {
        "metadata": {"namespace": "tidepool-etl"},
        "automountServiceAccountToken": False,
    },
    "kubernetes:core/v1:Namespace": {
        "metadata": {"name": "tidepool", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}
    },
    "kubernetes:core/v1:Service": {"spec": {"type": "ClusterIP"}},
    "kubernetes:storage.k8s.io/v1:StorageClass": {
        "provisioner": "ebs.csi.aws.com",
        "parameters": {"type": "gp3", "encrypted": "true"},
    },
    "kubernetes:rbac.authorization.k8s.io/v1:Role": {
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    },
    "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding": {"roleRef": {"name": "viewer"}},
}
"""A resource of each type that keeps every rule."""
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
DATABASE = "aws:rds/instance:Instance"
EKS = "eks:index:Cluster"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
POD = "kubernetes:core/v1:Pod"
RELEASE = "kubernetes:helm.sh/v3:Release"
INSTANCE = "aws:ec2/instance:Instance"
STATEFUL_SET = "kubernetes:apps/v1:StatefulSet"
QUEUE_POLICY = "aws:sqs/queuePolicy:QueuePolicy"
ROLE_POLICY = "aws:iam/rolePolicy:RolePolicy"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
BAD: list[tuple[str, str, dict[str, Any], str]] = [
    ("no-rebalancing", "aws:autoscaling/group:Group", {"suspendedProcesses": None}, "AZRebalance is not suspended"),
    ("no-rebalancing", "aws:autoscaling/group:Group", {"instanceRefresh": {"strategy": "Rolling"}}, "ends the jobs"),
    ("no-public-address", TEMPLATE, {"networkInterfaces": [{"associatePublicIpAddress": "true"}]}, "a public address"),
    ("no-public-address", "aws:ec2/subnet:Subnet", {"mapPublicIpOnLaunch": True}, "every machine in it gets a public"),
    ("no-public-address", DATABASE, {"publiclyAccessible": True}, "can be reached from the internet"),
    ("encrypted-disks", TEMPLATE, {"blockDeviceMappings": []}, "leaves the root volume to the AMI"),
    ("encrypted-disks", TEMPLATE, {"blockDeviceMappings": [{"ebs": {"volumeType": "gp3"}}]}, "is not encrypted"),
    (
        "encrypted-disks",
        TEMPLATE,
        {"blockDeviceMappings": [{"ebs": {"encrypted": "true", "volumeType": "gp2"}}]},
        "gp2",
    ),
    ("encrypted-disks", DATABASE, {"storageEncrypted": False}, "storage is not encrypted"),
    ("encrypted-disks", "aws:ebs/volume:Volume", {"encrypted": None}, "it is not encrypted"),
    ("encrypted-disks", INSTANCE, {"rootBlockDevice": None}, "leaves the root volume to the AMI"),
    ("encrypted-disks", INSTANCE, {"rootBlockDevice": {"volumeType": "gp3"}}, "a volume of it is not encrypted"),
    ("encrypted-disks", INSTANCE, {"ebsBlockDevices": [{"encrypted": False}]}, "a volume of it is not encrypted"),
    ("encrypted-disks", "aws:efs/fileSystem:FileSystem", {"encrypted": False}, "it is not encrypted"),
    ("encrypted-disks", "aws:rds/cluster:Cluster", {"storageEncrypted": None}, "storage is not encrypted"),
    ("metadata-tokens", INSTANCE, {"metadataOptions": {"httpPutResponseHopLimit": 1}}, "IMDSv1"),
    ("metadata-tokens", INSTANCE, {"metadataOptions": None}, "IMDSv1"),
    ("no-public-address", INSTANCE, {"associatePublicIpAddress": True}, "a public address"),
    ("launch-templates", "aws:eks/nodeGroup:NodeGroup", {"launchTemplate": None}, "disks are not encrypted"),
    ("launch-templates", "aws:autoscaling/group:Group", {"launchConfiguration": "old"}, "take a launch template"),
    ("metadata-tokens", TEMPLATE, {"metadataOptions": None}, "IMDSv1"),
    ("metadata-tokens", TEMPLATE, {"metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 2}}, "hop"),
    (
        "tags",
        "aws:ec2/subnet:Subnet",
        {"tags": {"tidepool.dev/owner": "data"}},
        "lacks the tag tidepool.dev/environment",
    ),
    ("tags", TEMPLATE, {"tags": OWN}, "lacks the tag tidepool.dev/pool"),
    ("tags", TEMPLATE, {"tagSpecifications": [{"resourceType": "instance", "tags": POOLED}]}, "the volumes of its"),
    ("tags", "aws:autoscaling/group:Group", {"tags": []}, "its machines lack the tag tidepool.dev/owner"),
    ("no-wildcard-iam", ROLE_POLICY, {"policy": allow("*", "arn:aws:s3:::lake")}, "action * is a wildcard"),
    (
        "no-wildcard-iam",
        ROLE_POLICY,
        {"policy": allow(["s3:Get*"], "arn:aws:s3:::lake")},
        "action s3:Get* is a wildcard",
    ),
    (
        "no-wildcard-iam",
        ROLE_POLICY,
        {"policy": allow("s3:GetObject", "*")},
        "every resource is allowed for s3:GetObject",
    ),
    ("no-wildcard-iam", ROLE_POLICY, {"policy": allow("sns:Publish", "arn:aws:sns:us-east-1:123456789012:*")}, "sns:"),
    *(
        ("no-wildcard-iam", kind, {"policy": allow(action, resource)}, f"{resource} names no resource")
        for kind, action, resource in (
            (ROLE_POLICY, "s3:GetObject", "arn:aws:s3:::*/*"),
            (ROLE_POLICY, "s3:GetObject", "arn:aws:s3:::*"),
            (ROLE_POLICY, "s3:GetObject", "arn:aws:*"),
            (ROLE_POLICY, "s3:GetObject", "arn:*:s3:::?*/raw/x"),
            (ROLE_POLICY, "iam:PassRole", "arn:aws:iam::123456789012:role/*"),
            (ROLE_POLICY, "iam:PassRole", "arn:aws:iam::*:*"),
            (ROLE_POLICY, "ec2:TerminateInstances", "arn:aws:ec2:us-east-1:123456789012:instance/*"),
            (ROLE_POLICY, "secretsmanager:GetSecretValue", "arn:aws:secretsmanager:*:*:secret:*"),
            (ROLE_POLICY, "kms:Decrypt", "arn:aws:*:*:*:key/x"),
            ("aws:iam/userPolicy:UserPolicy", "iam:PassRole", "arn:aws:iam::123456789012:role/*"),
            ("aws:iam/groupPolicy:GroupPolicy", "iam:PassRole", "arn:aws:iam::123456789012:role/*"),
            ("aws:iam/policy:Policy", "iam:PassRole", "arn:aws:iam::123456789012:role/*"),
        )
    ),
    (
        "no-wildcard-iam",
        ROLE_POLICY,
        {
            "policy": allow(
                "iam:PassRole",
                "arn:aws:iam::123456789012:role/*",
                Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
            )
        },
        "role/* names no resource",
    ),
    (
        "no-wildcard-iam",
        ROLE_POLICY,
        {"policy": allow("s3:GetObject", "*", Condition={"StringEquals": {"aws:ResourceTag/a": "b"}})},
        "every resource is allowed",
    ),
    ("no-wildcard-iam", ROLE_POLICY, {"policy": allow("s3:Get?bject", "arn:aws:s3:::lake/*")}, "Get?bject is a wild"),
    ("no-wildcard-iam", ROLE_POLICY, {"policy": policy({"Effect": "Allow", "NotAction": "iam:*"})}, "NotAction"),
    ("no-wildcard-iam", "aws:iam/role:Role", {"assumeRolePolicy": policy({"Principal": {"AWS": "*"}})}, "anybody may"),
    (
        "no-wildcard-iam",
        "aws:iam/role:Role",
        {"assumeRolePolicy": policy({"Effect": "Allow", "Principal": {"Federated": ["*"]}})},
        "anybody may",
    ),
    (
        "no-wildcard-iam",
        "aws:iam/policyAttachment:PolicyAttachment",
        {"policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
        "allows far more",
    ),
    (
        "no-wildcard-iam",
        "aws:iam/rolePolicyAttachmentsExclusive:RolePolicyAttachmentsExclusive",
        {"policyArns": ["arn:aws:iam::aws:policy/PowerUserAccess"]},
        "allows far more",
    ),
    ("grants", QUEUE_POLICY, {"policy": allow("sqs:SendMessage", "q", Principal={"AWS": ["*"]})}, "lets everybody in"),
    ("grants", QUEUE_POLICY, {"policy": allow("sqs:SendMessage", "q", NotPrincipal={"AWS": "1"})}, "lets everybody in"),
    (
        "grants",
        QUEUE_POLICY,
        {"policy": allow("sqs:SendMessage", "q", Principal={"Service": "events.amazonaws.com"})},
        "events.amazonaws.com may use it for any account",
    ),
    (
        "grants",
        QUEUE_POLICY,
        {"policy": allow("sqs:*", "q", Principal={"AWS": "arn:aws:iam::123456789012:root"})},
        "action sqs:* is a wildcard",
    ),
    (
        "grants",
        "aws:ecr/repositoryPolicy:RepositoryPolicy",
        {"policy": allow("ecr:BatchGetImage", None, Principal="*")},
        "lets everybody in",
    ),
    (
        "grants",
        "aws:kms/keyPolicy:KeyPolicy",
        {"policy": allow("kms:Decrypt", "*", Principal={"AWS": "*"})},
        "lets everybody in",
    ),
    (
        "no-wildcard-iam",
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        {"policyArn": "arn:aws:iam::aws:policy/AmazonS3FullAccess"},
        "allows far more",
    ),
    (
        "buckets-not-public",
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        {"ignorePublicAcls": False},
        "ignorePublicAcls is not true",
    ),
    (
        "grants",
        "aws:s3/bucketPolicy:BucketPolicy",
        {"policy": allow("s3:GetObject", "arn:aws:s3:::lake/*", Principal="*")},
        "lets everybody in",
    ),
    (
        "bucket-versions",
        "aws:s3/bucketVersioning:BucketVersioning",
        {"versioningConfiguration": {"status": "Suspended"}},
        "old versions",
    ),
    (
        "no-open-ingress",
        "aws:ec2/securityGroup:SecurityGroup",
        {"ingress": [{"fromPort": 22.0, "toPort": 22.0, "cidrBlocks": ["0.0.0.0/0"]}]},
        "the whole internet may come in (ports 22 to 22)",
    ),
    ("no-open-ingress", "aws:ec2/securityGroupRule:SecurityGroupRule", {"type": "ingress"}, "the whole internet"),
    (
        "no-open-ingress",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        {"cidrIpv6": "::/0"},
        "the whole internet may come in",
    ),
    ("cluster", EKS, {"endpointPrivateAccess": False}, "only over the internet"),
    ("cluster", EKS, {"publicAccessCidrs": None}, "answers the whole internet"),
    ("cluster", EKS, {"publicAccessCidrs": ["0.0.0.0/0"]}, "answers the whole internet"),
    (
        "cluster",
        EKS,
        {"enabledClusterLogTypes": ["api"]},
        "no log of audit, authenticator, controllerManager, scheduler",
    ),
    ("cluster", EKS, {"encryptionConfigKeyArn": None}, "not encrypted with a key of our own"),
    ("cluster", "aws:eks/cluster:Cluster", {"vpcConfig": {"endpointPublicAccess": True}}, "answers the whole internet"),
    ("database", DATABASE, {"backupRetentionPeriod": 0.0}, "it has no backups"),
    ("database", DATABASE, {"deletionProtection": False}, "can be deleted"),
    ("database", DATABASE, {"skipFinalSnapshot": True}, "without a last snapshot"),
    ("database", DATABASE, {"multiAz": False}, "lives in one zone"),
    ("database", DATABASE, {"backupRetentionPeriod": 3.0}, "less than a week"),
    ("registry", "aws:ecr/repository:Repository", {"imageTagMutability": "MUTABLE"}, "a tag can be moved"),
    ("registry", "aws:ecr/repository:Repository", {"imageScanningConfiguration": None}, "not scanned"),
    ("log-retention", "aws:cloudwatch/logGroup:LogGroup", {"retentionInDays": None}, "for ever"),
    ("key-rotation", "aws:kms/key:Key", {"enableKeyRotation": False}, "never rotated"),
    ("fixed-images", DEPLOYMENT, deployment(container={"image": "a/b:latest"}), "'a/b:latest' has no fixed tag"),
    ("fixed-images", DEPLOYMENT, deployment(container={"image": "localhost:5000/b"}), "has no fixed tag"),
    (
        "fixed-images",
        DEPLOYMENT,
        deployment(initContainers=[{"image": "init", "securityContext": RIGHTS}]),
        "'init' has no fixed tag",
    ),
    ("fixed-charts", RELEASE, {"values": {"web": {"image": {"tag": "latest"}}}}, "web.image.tag is latest"),
    ("fixed-charts", RELEASE, {"values": {"sidecars": [{"image": "a:latest"}]}}, "sidecars.0.image is a:latest"),
    ("fixed-charts", RELEASE, {"version": None}, "its chart has no version"),
    ("restricted-pods", DEPLOYMENT, deployment(container={"securityContext": {"privileged": True}}), "is privileged"),
    ("restricted-pods", DEPLOYMENT, deployment(securityContext={}), "runAsNonRoot is not true"),
    ("restricted-pods", DEPLOYMENT, deployment(hostNetwork=True), "hostNetwork is true"),
    (
        "no-plain-secrets",
        DEPLOYMENT,
        deployment(container={"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]}),
        "variable DB_PASSWORD carries a secret",
    ),
    (
        "no-plain-secrets",
        DEPLOYMENT,
        deployment(container={"env": [{"name": "DATABASE", "value": "postgresql://u:pw@db/airflow"}]}),
        "variable DATABASE carries a secret",
    ),
    (
        "no-plain-secrets-in-charts",
        RELEASE,
        {"values": {"worker": {"env": [{"name": "API_TOKEN", "value": "x"}]}}},
        "variable API_TOKEN carries a secret",
    ),
    (
        "no-plain-secrets-in-charts",
        RELEASE,
        {"values": {"data": {"connection": "postgresql://u:pw@db/airflow"}}},
        "data.connection carries a password",
    ),
    ("no-plain-secrets-in-config", CONFIG_MAP, {"data": {"a": "mysql://u:pw@db/x"}}, "a carries a password in a URL"),
    ("job-pods", POD, job(metadata={"annotations": {}}), "the autoscaler may end the job"),
    ("job-pods", POD, job(nodeSelector={"tidepool.dev/pool": "system"}), "selects the machines of services"),
    ("job-pods", POD, job(tolerations=[{"operator": "Exists"}]), "it tolerates CriticalAddonsOnly"),
    ("job-pods", POD, job(tolerations=[{"key": "CriticalAddonsOnly"}]), "it tolerates CriticalAddonsOnly"),
    ("kept-pods", STATEFUL_SET, deployment(), "may end a server with its data"),
    ("kept-pods", RELEASE, {"values": {"scheduler": {"safeToEvict": True}}}, "scheduler.safeToEvict is True"),
    ("kept-pods", RELEASE, {"values": {"podAnnotations": {LATE: "true"}}}, "is true: the autoscaler may end it"),
    ("kept-pods", RELEASE, {"chart": "oci://mirror/airflow"}, "triggerer.safeToEvict is not false"),
    ("no-tokens-for-jobs", "kubernetes:core/v1:ServiceAccount", {"automountServiceAccountToken": None}, "gets a token"),
    ("namespaces", "kubernetes:core/v1:Namespace", {"metadata": {"name": "x"}}, "enforces no Pod Security level"),
    ("no-public-services", "kubernetes:core/v1:Service", {"spec": {"type": "LoadBalancer"}}, "a way in from outside"),
    ("no-public-services", "kubernetes:core/v1:Service", {"spec": {"type": "NodePort"}}, "a way in from outside"),
    ("encrypted-volumes", "kubernetes:storage.k8s.io/v1:StorageClass", {"parameters": {}}, "volumes are not encrypted"),
    (
        "no-wildcard-rbac",
        "kubernetes:rbac.authorization.k8s.io/v1:Role",
        {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]},
        "its verbs are a wildcard",
    ),
    (
        "no-wildcard-rbac",
        "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
        {"roleRef": {"name": "cluster-admin"}},
        "cluster-admin",
    ),
]
"""Rule, type, what of the good resource is replaced, and what is said of it."""
LEVELS: list[tuple[dict[str, Any], bool, bool]] = [
    (job(), True, True),
    (job(hostPID=True), False, False),
    (job(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), False, False),
    (job(volumes=[{"name": "v", "nfs": {"server": "x", "path": "/"}}]), True, False),
    (job(volumes=[{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x"}}]), True, True),
    (job(securityContext={"runAsNonRoot": True}), True, False),
    (job(securityContext={**PEOPLE, "seccompProfile": {"type": "Unconfined"}}), False, False),
    (job(securityContext={**PEOPLE, "runAsUser": 0}), True, False),
    (job(securityContext={**PEOPLE, "sysctls": [{"name": "kernel.msgmax", "value": "1"}]}), False, False),
    (job(securityContext={**PEOPLE, "seLinuxOptions": {"role": "r"}}), False, False),
    (job(containers=[{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]), False, False),
    (job(containers=[{"name": "c", "ports": [{"hostPort": 80}], "securityContext": RIGHTS}]), False, False),
    (job(containers=[{"name": "c", "securityContext": {**RIGHTS, "procMount": "Unmasked"}}]), False, False),
    (job(containers=[{"name": "c", "securityContext": {**RIGHTS, "runAsNonRoot": False}}]), True, False),
    (
        job(containers=[{"name": "c", "securityContext": {**RIGHTS, "capabilities": {"drop": ["NET_RAW"]}}}]),
        True,
        False,
    ),
    (job(initContainers=[{"name": "i"}]), True, False),
]
"""Pods, and whether the levels baseline and restricted let them in. tests/seam asks a real API server the same."""


def as_resource(made: Recorded, inputs: Mapping[str, Any] | None = None) -> Resource:
    return Resource(made.typ, made.name, made.inputs if inputs is None else inputs, made.protect, f"{made.name}-id")


def partial(value: Any) -> Any:
    """Inputs of a preview as the policy pack hands them on."""
    if isinstance(value, dict):
        unknown = [key for key, item in value.items() if isinstance(item, pulumi.output.Unknown)]
        return Partial({key: partial(item) for key, item in value.items() if key not in unknown}, unknown)
    if isinstance(value, list):
        return [partial(item) for item in value if not isinstance(item, pulumi.output.Unknown)]
    return value
