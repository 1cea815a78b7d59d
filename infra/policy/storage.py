"""Rules about what holds data: buckets, databases, images, logs and keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from infra.policy.iam import statements
from infra.policy.names import BUCKET, BUCKET_POLICY, CLUSTERS, DATABASE, ENVIRONMENT, PRODUCTION
from infra.policy.rule import Resource, Rule, StackRule, is_true

HOLD_DATA = frozenset({BUCKET, DATABASE, "aws:kms/key:Key", *CLUSTERS})


def _bucket_access(resource: Resource) -> Iterator[str]:
    for key in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"):
        if not is_true(resource.inputs.get(key)):
            yield f"{key} is not true"


def _bucket_versions(resource: Resource) -> Iterator[str]:
    if (resource.inputs.get("versioningConfiguration") or {}).get("status") != "Enabled":
        yield "old versions of its objects are not kept"


def _buckets(resources: Sequence[Resource]) -> Iterator[tuple[Resource, str]]:
    """Each bucket has its parts: they are resources of their own, and one forgotten is none."""
    parts = {
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": "nothing blocks public access to it",
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": "it is not encrypted",
        "aws:s3/bucketVersioning:BucketVersioning": "old versions of its objects are not kept",
    }
    for bucket in (each for each in resources if each.type == BUCKET):
        names = {bucket.id, str(bucket.inputs.get("bucket"))} - {"", "None"}
        own = [each for each in resources if each.type.startswith("aws:s3/") and each.inputs.get("bucket") in names]
        there = {each.type for each in own if each is not bucket}
        yield from ((bucket, message) for kind, message in parts.items() if kind not in there)
        policies = [each for each in own if each.type == BUCKET_POLICY]
        if not any(_refuses_plain_text(each) for each in policies):
            yield bucket, "nothing refuses requests without TLS"


def _refuses_plain_text(policy: Resource) -> bool:
    return any(
        statement.get("Effect") == "Deny"
        and ((statement.get("Condition") or {}).get("Bool") or {}).get("aws:SecureTransport") in ("false", False)
        for statement in statements(policy.inputs.get("policy") or {})
    )


def _database(database: Resource) -> Iterator[str]:
    inputs = database.inputs
    if not inputs.get("backupRetentionPeriod"):
        yield "it has no backups"
    if (inputs.get("tags") or {}).get(ENVIRONMENT) != PRODUCTION:
        return
    if not is_true(inputs.get("deletionProtection")):
        yield "in production it can be deleted: deletionProtection is not true"
    if is_true(inputs.get("skipFinalSnapshot")):
        yield "in production it goes without a last snapshot"
    if not is_true(inputs.get("multiAz")):
        yield "in production it lives in one zone"
    if (inputs.get("backupRetentionPeriod") or 0) < 7:
        yield "in production its backups are kept for less than a week"


def _protected(resource: Resource) -> Iterator[str]:
    if (resource.inputs.get("tags") or {}).get(ENVIRONMENT) == PRODUCTION and not resource.protect:
        yield "it holds data of production, and Pulumi would delete it without asking (protect)"


def _repository(repository: Resource) -> Iterator[str]:
    if repository.inputs.get("imageTagMutability") != "IMMUTABLE":
        yield "a tag can be moved to another image"
    if not is_true((repository.inputs.get("imageScanningConfiguration") or {}).get("scanOnPush")):
        yield "images are not scanned when they are pushed"


def _log_group(group: Resource) -> Iterator[str]:
    if not group.inputs.get("retentionInDays"):
        yield "logs are kept, and paid for, for ever"


def _key(key: Resource) -> Iterator[str]:
    if not is_true(key.inputs.get("enableKeyRotation")):
        yield "the key is never rotated"


RULES = (
    Rule(
        "buckets-not-public",
        "Public access to buckets is blocked.",
        {"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"},
        _bucket_access,
    ),
    Rule(
        "bucket-versions",
        "Buckets keep old versions.",
        {"aws:s3/bucketVersioning:BucketVersioning"},
        _bucket_versions,
    ),
    Rule("database", "Databases have backups, and in production every protection.", {DATABASE}, _database),
    Rule("protected", "What holds data of production is protected.", HOLD_DATA, _protected),
    Rule("registry", "Images are scanned, and their tags stay.", {"aws:ecr/repository:Repository"}, _repository),
    Rule("log-retention", "Logs are kept for a limited time.", {"aws:cloudwatch/logGroup:LogGroup"}, _log_group),
    Rule("key-rotation", "Keys are rotated.", {"aws:kms/key:Key"}, _key),
)

STACK_RULES = (StackRule("buckets", "Every bucket is private, encrypted, versioned and for TLS only.", _buckets),)
