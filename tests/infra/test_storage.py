from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pytest

from infra.aws.storage import Storage, StorageArgs, bucket_name
from infra.settings import model_aws
from tests.infra.recording import Made, made_by
from tests.infra.samples import TAGS

BUCKET = "s3/bucket:Bucket"
KINDS = ("logs", "event-logs", "lake")


def build(protect: bool = True) -> Storage:
    settings = model_aws.Storage(log_days=30, event_log_days=60, lake_version_days=14)
    account = pulumi.Output.from_input("123456789012")
    return Storage("storage", StorageArgs("dev", account, "eu-west-1", settings, protect, TAGS))


def made(protect: bool = True, preview: bool = False) -> Made:
    return made_by(lambda: build(protect), preview=preview)


def parts(made: Made, kind: str) -> dict[str, Mapping[str, Any]]:
    """What is said of one bucket, by the end of the resource's type."""
    return {
        each.type.rpartition(":")[2]: each.inputs for each in made if each.inputs.get("bucket") == f"storage-{kind}-id"
    }


def test_three_buckets_that_no_other_account_or_region_can_have() -> None:
    buckets = made().of(BUCKET)
    assert {each.inputs["bucket"] for each in buckets.values()} == {
        "dev-logs-123456789012-eu-west-1",
        "dev-event-logs-123456789012-eu-west-1",
        "dev-lake-123456789012-eu-west-1",
    }
    assert all(each.inputs["tags"] == TAGS for each in buckets.values())


def test_a_preview_knows_the_names() -> None:
    buckets = made(preview=True).of(BUCKET)
    assert buckets["storage-lake"].inputs["bucket"] == "dev-lake-123456789012-eu-west-1"


@pytest.mark.parametrize("kind", KINDS)
def test_no_bucket_is_public_plain_or_without_versions(kind: str) -> None:
    said = parts(made(), kind)
    assert {key: value for key, value in said["BucketPublicAccessBlock"].items() if key != "bucket"} == {
        "blockPublicAcls": True,
        "blockPublicPolicy": True,
        "ignorePublicAcls": True,
        "restrictPublicBuckets": True,
    }
    (rule,) = said["BucketServerSideEncryptionConfiguration"]["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}
    assert said["BucketVersioning"]["versioningConfiguration"] == {"status": "Enabled"}
    assert said["BucketOwnershipControls"]["rule"] == {"objectOwnership": "BucketOwnerEnforced"}


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_comes_without_tls_is_refused_and_nobody_is_let_in_by_the_bucket(kind: str) -> None:
    statements = json.loads(parts(made(), kind)["BucketPolicy"]["policy"])["Statement"]
    assert {each["Effect"] for each in statements} == {"Deny"}
    assert {"Bool": {"aws:SecureTransport": "false"}} in [each["Condition"] for each in statements]
    assert all(
        each["Resource"] == [f"arn:aws:mock:::storage-{kind}", f"arn:aws:mock:::storage-{kind}/*"]
        for each in statements
    )


@pytest.mark.parametrize(
    ("kind", "expiration", "old_versions"),
    [
        ("logs", {"days": 30}, 7),
        ("event-logs", {"days": 60}, 7),
        ("lake", {"expiredObjectDeleteMarker": True}, 14),
    ],
)
def test_logs_expire_and_the_lake_keeps_its_objects(kind: str, expiration: dict[str, Any], old_versions: int) -> None:
    (rule,) = parts(made(), kind)["BucketLifecycleConfiguration"]["rules"]
    assert rule["expiration"] == expiration
    assert rule["noncurrentVersionExpiration"] == {"noncurrentDays": old_versions}
    assert rule["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 7}
    assert rule["status"] == "Enabled"


def test_only_an_unprotected_bucket_goes_with_what_is_in_it() -> None:
    for protect in (True, False):
        buckets = made(protect).of(BUCKET).values()
        assert {(each.inputs["forceDestroy"], each.protect) for each in buckets} == {(not protect, protect)}


def test_uris_for_spark_and_for_aws() -> None:
    seen: list[str] = []

    def program() -> Any:
        lake = build().lake
        return pulumi.Output.all(lake.s3, lake.s3a).apply(seen.extend)

    made_by(program)
    assert seen == ["s3://dev-lake-123456789012-eu-west-1", "s3a://dev-lake-123456789012-eu-west-1"]


@pytest.mark.parametrize("length", [2, 20, 30, 31, 40, 63])
def test_a_bucket_name_is_never_too_long_and_never_the_same_for_two_clusters(length: int) -> None:
    names = [
        bucket_name("c" * (length - 1) + last, "event-logs", "123456789012", "ap-southeast-2") for last in ("a", "b")
    ]
    assert all(len(name) <= 63 for name in names)
    assert names[0] != names[1]
    assert names[0] == bucket_name("c" * (length - 1) + "a", "event-logs", "123456789012", "ap-southeast-2")
