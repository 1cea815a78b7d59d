"""Types and tags that rules of more than one module look for."""

from __future__ import annotations

GROUP = "aws:autoscaling/group:Group"

TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"

NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"

CLUSTERS = ("eks:index:Cluster", "aws:eks/cluster:Cluster")

DATABASE = "aws:rds/instance:Instance"

BUCKET = "aws:s3/bucket:Bucket"

BUCKET_POLICY = "aws:s3/bucketPolicy:BucketPolicy"

OWNER, ENVIRONMENT, POOL = "tidepool.dev/owner", "tidepool.dev/environment", "tidepool.dev/pool"
PRODUCTION = "prod"
"""The environment, by its tag, in which what holds data is kept from every mistake."""
