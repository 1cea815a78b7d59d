"""Types and tags that rules of more than one module look for."""

from __future__ import annotations

GROUP = "aws:autoscaling/group:Group"

TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"

INSTANCES = ("aws:ec2/instance:Instance", "aws:ec2/spotInstanceRequest:SpotInstanceRequest")
"""Machines on their own, not of a group."""

LAUNCH_CONFIGURATION = "aws:ec2/launchConfiguration:LaunchConfiguration"

FILE_SYSTEM = "aws:efs/fileSystem:FileSystem"

NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"

CLUSTERS = ("eks:index:Cluster", "aws:eks/cluster:Cluster")

DATABASE = "aws:rds/instance:Instance"

DATABASE_CLUSTER = "aws:rds/cluster:Cluster"

BUCKET = "aws:s3/bucket:Bucket"

BUCKET_POLICY = "aws:s3/bucketPolicy:BucketPolicy"

OWNER, ENVIRONMENT, POOL = "tidepool.dev/owner", "tidepool.dev/environment", "tidepool.dev/pool"
PRODUCTION = "prod"
"""The environment, by its tag, in which what holds data is kept from every mistake."""
