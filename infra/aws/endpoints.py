"""The AWS services that machines and pods of the private subnets call, each of which can have an interface endpoint."""

from __future__ import annotations

INTERFACE_SERVICES = (
    "autoscaling",  # the cluster-autoscaler
    "ec2",  # the VPC CNI, the EBS CSI driver
    "ecr.api",  # images
    "ecr.dkr",
    "eks",  # managed nodes
    "eks-auth",  # the pod identity agent
    "logs",  # CloudWatch
    "sts",  # credentials
)
"""Without an endpoint, or with the setting off, the same calls go through the NAT gateway."""


def service_name(region: str, service: str) -> str:
    """The name that AWS gives an endpoint service of a region."""
    return f"com.amazonaws.{region}.{service}"
