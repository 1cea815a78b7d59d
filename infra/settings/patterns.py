"""What texts of a stack file must look like: each pattern with its words for messages."""

from __future__ import annotations

LABEL_WORDS = "lower-case letters, digits and inner dashes, 63 at most"

CLUSTER = r"[a-z]([a-z0-9]|-(?=[a-z0-9])){0,39}"  # names of repositories, databases and buckets begin with it
CLUSTER_WORDS = "lower-case letters, digits and single inner dashes, a letter first, 40 at most"

IMAGE = r"(?!.*:latest$)[a-z0-9][\w./:-]*(:\w[\w.-]{0,127}|@sha256:[0-9a-f]{64})"
IMAGE_WORDS = "an image reference with a tag (not latest) or a sha256 digest"

# One partition: policies here name resources by ARNs that begin with arn:aws:, and prices are in USD.
REGION = r"(?!cn-)[a-z]{2}-[a-z]+-\d"
REGION_WORDS = "an AWS region such as us-east-1; not of China, GovCloud or another partition, whose ARNs differ"

AMI = r"ami-([0-9a-f]{8}|[0-9a-f]{17})"
AMI_WORDS = "an AMI id such as ami-0123456789abcdef0"

ROLE_ARN = r"arn:aws:iam::\d{12}:role/[\w+=,.@/-]+"
ROLE_ARN_WORDS = "the ARN of an IAM role such as arn:aws:iam::123456789012:role/platform"

DURATION = r"(?=\d)(\d+h)?(\d+m)?(\d+s)?"
DURATION_WORDS = "a duration such as 90s, 10m or 1h30m"

EMAIL = r"[^@\s,]+@[^@\s,]+\.[^@\s,]+"
EMAIL_WORDS = "a mail address"

# What the images of this repository can open: hadoop-aws in spark, the provider amazon in airflow.
LAKE_URI = r"(s3a|hdfs)://[^/\s]\S*"
LAKE_URI_WORDS = "a URI that begins with s3a:// or hdfs://, with a bucket or host: the images open no other store"

LABEL_KEY = r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?"
LABEL_VALUE = r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?"
NODE_LABEL_WORDS = "a Kubernetes label: a key such as example.com/pool, and a text of 63 characters at most in quotes"

LOG_URI = r"s3://[^/\s]\S*"
LOG_URI_WORDS = "a URI that begins with s3://, with a bucket: the image airflow has the provider of no other store"

ANNOTATION = r"\S(.*\S)?"
ANNOTATION_WORDS = "an annotation: a key such as eks.amazonaws.com/role-arn, and a text"

GIT_URI = r"https://[^\s/@:]+(:443)?/\S+"
GIT_URI_WORDS = (
    "a URL that begins with https://, on port 443 and without a password: Airflow's pods reach no other port, and its "
    "image has no ssh; the token of a private repository belongs into the Airflow connection that `connection` names"
)
