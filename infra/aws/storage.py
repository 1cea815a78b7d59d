"""Buckets for logs, Spark's event logs and the lake."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.settings.model_aws import Storage as StorageSettings

BUCKET_NAME_LENGTH = 63
MULTIPART_DAYS = 7
"""An upload that is open for so many days has died; S3A's committers leave theirs open as long as a job runs."""

OLD_LOG_DAYS = 7
"""How long an overwritten or deleted log can still be had."""


@dataclass(frozen=True)
class StorageArgs:
    """Inputs of the buckets. account: the AWS account's id, part of the names; protect: see `AwsCloud`."""

    cluster: str
    account: pulumi.Input[str]
    region: str
    storage: StorageSettings
    protect: bool
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Bucket:
    """A bucket as its users know it. s3, s3a: its URI for AWS's own clients and for Hadoop's."""

    name: pulumi.Output[str]
    arn: pulumi.Output[str]
    s3: pulumi.Output[str]
    s3a: pulumi.Output[str]


class Storage(pulumi.ComponentResource):
    """Three buckets: versioned, encrypted, over TLS only, closed to the public, and no larger than their settings say.

    Encrypted by S3's own keys (SSE-S3): with a KMS key, every role that reads a bucket would need rights on the key
    too, and each request would cost.
    """

    logs: Bucket
    event_logs: Bucket
    lake: Bucket

    def __init__(self, name: str, args: StorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:Storage", name, {}, opts)
        settings = args.storage
        self.logs = self._bucket(name, "logs", args, expiring(settings.log_days))
        self.event_logs = self._bucket(name, "event-logs", args, expiring(settings.event_log_days))
        self.lake = self._bucket(name, "lake", args, keeping(settings.lake_version_days))
        self.register_outputs(
            {"logs": self.logs.name, "event_logs": self.event_logs.name, "lake": self.lake.name},
        )

    def _bucket(
        self,
        name: str,
        kind: str,
        args: StorageArgs,
        rules: Sequence[aws.s3.BucketLifecycleConfigurationRuleArgs],
    ) -> Bucket:
        # What guards a bucket stays as long as the bucket does.
        inside = pulumi.ResourceOptions(parent=self, retain_on_delete=args.protect)
        prefix = f"{name}-{kind}"
        bucket = aws.s3.Bucket(
            prefix,
            bucket=pulumi.Output.from_input(args.account).apply(
                lambda account: bucket_name(args.cluster, kind, account, args.region)
            ),
            force_destroy=not args.protect,
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect, retain_on_delete=args.protect),
        )
        aws.s3.BucketOwnershipControls(
            f"{prefix}-ownership",
            bucket=bucket.id,
            rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=inside,
        )
        closed = aws.s3.BucketPublicAccessBlock(
            f"{prefix}-public-access",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=inside,
        )
        aws.s3.BucketPolicy(
            f"{prefix}-policy",
            bucket=bucket.id,
            policy=bucket.arn.apply(tls_only),
            # S3 refuses two changes of a bucket's access at the same time.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed], retain_on_delete=args.protect),
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{prefix}-encryption",
            bucket=bucket.id,
            rules=[
                aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=(
                        aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                            sse_algorithm="AES256"
                        )
                    )
                )
            ],
            opts=inside,
        )
        versioning = aws.s3.BucketVersioning(
            f"{prefix}-versioning",
            bucket=bucket.id,
            versioning_configuration=aws.s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
            opts=inside,
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{prefix}-lifecycle",
            bucket=bucket.id,
            rules=list(rules),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[versioning], retain_on_delete=args.protect),
        )
        return Bucket(
            name=bucket.bucket,
            arn=bucket.arn,
            s3=pulumi.Output.concat("s3://", bucket.bucket),
            s3a=pulumi.Output.concat("s3a://", bucket.bucket),
        )


def bucket_name(cluster: str, kind: str, account: str, region: str) -> str:
    """A bucket's name: no other account or region can have it, and it is the same at every deployment.

    A cluster's name that is too long for it is cut, and told from others by a digest.
    """
    end = f"-{kind}-{account}-{region}"
    room = BUCKET_NAME_LENGTH - len(end)
    if len(cluster) <= room:
        return cluster + end
    digest = hashlib.sha256(cluster.encode()).hexdigest()[:8]
    return f"{cluster[: room - len(digest) - 1]}-{digest}{end}"


def tls_only(arn: str) -> str:
    """A bucket policy that refuses whoever comes without TLS, or with an old one. It allows nothing."""
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Sid": "OnlyTls", **statement, "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
                {"Sid": "OnlyTls12", **statement, "Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}},
            ],
        }
    )


def expiring(days: int) -> list[aws.s3.BucketLifecycleConfigurationRuleArgs]:
    """Rules of a bucket whose objects are of no use after some days."""
    return [
        _rule(
            "expire",
            expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(days=days),
            old_versions=OLD_LOG_DAYS,
        )
    ]


def keeping(version_days: int) -> list[aws.s3.BucketLifecycleConfigurationRuleArgs]:
    """Rules of a bucket whose objects stay; what was overwritten or deleted can be had for some days more."""
    return [
        _rule(
            "old-versions",
            # A deleted object's marker goes when it is the last that is left of it.
            expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(expired_object_delete_marker=True),
            old_versions=version_days,
        )
    ]


def _rule(
    name: str, expiration: aws.s3.BucketLifecycleConfigurationRuleExpirationArgs, old_versions: int
) -> aws.s3.BucketLifecycleConfigurationRuleArgs:
    return aws.s3.BucketLifecycleConfigurationRuleArgs(
        id=name,
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
        expiration=expiration,
        noncurrent_version_expiration=aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
            noncurrent_days=old_versions
        ),
        abort_incomplete_multipart_upload=aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
            days_after_initiation=MULTIPART_DAYS
        ),
    )
