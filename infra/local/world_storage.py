"""Buckets, image repositories and log groups in moto."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infra.local.world_rows import Inputs, Row, calls, named, pairs, sets, tagger
from infra.local.world_state import Entry


def _of_bucket(what: str, parameter: str, content: Callable[[Inputs], Any], delete: str = "") -> Row:
    """One of a bucket's settings, by the operations put_<what> and `delete`; without that one it stays as it is."""

    def parameters(inputs: Inputs) -> Inputs:
        rest = {key: value for key, value in inputs.items() if key != "bucket"}
        return {"bucket": inputs["bucket"], parameter: content(rest)}

    return Row(
        service="s3",
        create=f"put_{what}",
        id="{bucket}",
        parameters=parameters,
        put=f"put_{what}",
        identity=("bucket",),
        delete=calls(delete, Bucket="id") if delete else lambda client, old: None,
    )


def _set_bucket_tags(client: Any, identity: str, wanted: dict[str, str], before: Any) -> None:
    client.put_bucket_tagging(Bucket=identity, Tagging={"TagSet": pairs(wanted)})


def _find_bucket(client: Any, inputs: Inputs) -> list[str]:
    return [each["Name"] for each in client.list_buckets()["Buckets"] if each["Name"] == inputs["bucket"]]


def _delete_bucket(client: Any, old: Entry) -> None:
    if old.inputs.get("forceDestroy"):
        for page in client.get_paginator("list_object_versions").paginate(Bucket=old.id):
            for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                client.delete_object(Bucket=old.id, Key=each["Key"], VersionId=each["VersionId"])
    client.delete_bucket(Bucket=old.id)


def _find_log_group(client: Any, inputs: Inputs) -> list[str]:
    groups = client.describe_log_groups(logGroupNamePrefix=inputs["name"])["logGroups"]
    return [each["logGroupName"] for each in groups if each["logGroupName"] == inputs["name"]]


ROWS = {
    "aws:s3/bucket:Bucket": Row(
        service="s3",
        create="create_bucket",
        id="{bucket}",
        setters={"tags": _set_bucket_tags},
        ignored=("forceDestroy",),  # used when it is deleted
        find=_find_bucket,
        delete=_delete_bucket,
        outputs={"arn": "arn:aws:s3:::{bucket}", "bucketRegionalDomainName": "{bucket}.s3.{region}.amazonaws.com"},
        auto_name="bucket",
    ),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": _of_bucket(
        "bucket_ownership_controls",
        "OwnershipControls",
        lambda rest: {"rules": [rest["rule"]]},
        "delete_bucket_ownership_controls",
    ),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _of_bucket(
        "public_access_block", "PublicAccessBlockConfiguration", lambda rest: rest, "delete_public_access_block"
    ),
    "aws:s3/bucketPolicy:BucketPolicy": _of_bucket(
        "bucket_policy", "Policy", lambda rest: rest["policy"], "delete_bucket_policy"
    ),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": _of_bucket(
        "bucket_encryption", "ServerSideEncryptionConfiguration", lambda rest: rest, "delete_bucket_encryption"
    ),
    "aws:s3/bucketVersioning:BucketVersioning": _of_bucket(
        "bucket_versioning", "VersioningConfiguration", lambda rest: rest["versioningConfiguration"]
    ),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": _of_bucket(
        "bucket_lifecycle_configuration", "LifecycleConfiguration", lambda rest: rest, "delete_bucket_lifecycle"
    ),
    "aws:ecr/repository:Repository": Row(
        service="ecr",
        create="create_repository",
        id="repository.repositoryName",
        names={"name": "repositoryName"},
        setters={
            "imageTagMutability": sets("put_image_tag_mutability", "repositoryName", "imageTagMutability"),
            "imageScanningConfiguration": sets(
                "put_image_scanning_configuration", "repositoryName", "imageScanningConfiguration"
            ),
            "tags": tagger(
                "tag_resource", "untag_resource", "resourceArn", "arn:aws:ecr:{region}:{account}:repository/{id}"
            ),
        },
        ignored=("forceDelete",),  # used when it is deleted
        find=lambda client, inputs: named(
            "describe_repositories", "repositories[0].repositoryName", "repositoryNames", "names"
        )(client, {"names": [inputs["name"]]}),
        delete=lambda client, old: client.delete_repository(
            repositoryName=old.id, force=old.inputs.get("forceDelete", False)
        ),
        outputs={
            "arn": "arn:aws:ecr:{region}:{account}:repository/{name}",
            "repositoryUrl": "{account}.dkr.ecr.{region}.amazonaws.com/{name}",
            "registryId": "{account}",
        },
        auto_name="name",
    ),
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": Row(
        service="ecr",
        create="put_lifecycle_policy",
        id="{repository}",
        names={"repository": "repositoryName", "policy": "lifecyclePolicyText"},
        put="put_lifecycle_policy",
        identity=("repository",),
        delete=calls("delete_lifecycle_policy", repositoryName="repository"),
    ),
    "aws:cloudwatch/logGroup:LogGroup": Row(
        service="logs",
        create="create_log_group",
        id="{name}",
        names={"name": "logGroupName"},
        setters={
            "retentionInDays": sets("put_retention_policy", "logGroupName", "retentionInDays"),
            "tags": tagger(
                "tag_resource", "untag_resource", "resourceArn", "arn:aws:logs:{region}:{account}:log-group:{id}"
            ),
        },
        find=_find_log_group,
        delete=calls("delete_log_group", logGroupName="id"),
        outputs={"arn": "arn:aws:logs:{region}:{account}:log-group:{name}"},
        auto_name="name",
    ),
}
