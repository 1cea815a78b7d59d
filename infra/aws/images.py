"""The AMI of machines: the EKS-optimised Amazon Linux 2023 of one release, never `recommended`.

Each release is a parameter of its own in Systems Manager, so that the same settings give the same machines until
somebody changes the release. Source of the names: awslabs/amazon-eks-ami, releases.
"""

from __future__ import annotations

from typing import Literal

import pulumi
import pulumi_aws as aws

from infra.aws.instance_types import Architecture
from infra.settings.model_aws import AwsPool, Machines, SystemNodes

Variant = Literal["standard", "nvidia"]


def parameter(kubernetes: str, release: str, architecture: Architecture, variant: Variant) -> str:
    """The name of the parameter with an AMI's id. kubernetes: minor such as `1.36`; release: such as `v20260827`."""
    name = f"amazon-eks-node-al2023-{architecture}-{variant}-{kubernetes}-{release}"
    return f"/aws/service/eks/optimized-ami/{kubernetes}/amazon-linux-2023/{architecture}/{variant}/{name}/image_id"


def pool_parameter(pool: AwsPool, kubernetes: str, release: str) -> str:
    """The parameter for a pool's machines: NVIDIA's driver is in the AMI where they have GPUs."""
    return parameter(kubernetes, release, pool.instance_types[0].architecture, "nvidia" if pool.gpus else "standard")


def image_id(pool: AwsPool, machines: Machines, kubernetes: str) -> pulumi.Input[str]:
    """The AMI id of a pool: its own, else the one for all machines, else that of the release for its machines."""
    if given := pool.image or machines.image:
        return given
    return _look_up(pool_parameter(pool, kubernetes, machines.ami_release))


def system_image_id(nodes: SystemNodes, machines: Machines, kubernetes: str) -> pulumi.Input[str]:
    """The AMI id of system machines: the one for all machines, else that of the release for their processor."""
    if machines.image:
        return machines.image
    return _look_up(parameter(kubernetes, machines.ami_release, nodes.instance_types[0].architecture, "standard"))


def _look_up(name: str) -> pulumi.Output[str]:
    # `value` would be a secret, and hide the AMI's id in every preview.
    return aws.ssm.get_parameter_output(name=name).insecure_value
