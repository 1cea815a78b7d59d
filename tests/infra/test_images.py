from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra.aws import images
from infra.aws.instance_types import Architecture
from infra.settings.model_aws import AwsPool, Machines
from tests.infra.recording import made_by
from tests.infra.samples import aws_pool

PARAMETER = "aws:ssm/getParameter:getParameter"


@pytest.mark.parametrize(
    ("architecture", "variant", "expected"),
    [
        # As published: awslabs/amazon-eks-ami and Karpenter's own tests name them so.
        ("x86_64", "standard", "x86_64/standard/amazon-eks-node-al2023-x86_64-standard-1.35-v20260930/image_id"),
        ("arm64", "standard", "arm64/standard/amazon-eks-node-al2023-arm64-standard-1.35-v20260930/image_id"),
        ("x86_64", "nvidia", "x86_64/nvidia/amazon-eks-node-al2023-x86_64-nvidia-1.35-v20260930/image_id"),
        ("arm64", "nvidia", "arm64/nvidia/amazon-eks-node-al2023-arm64-nvidia-1.35-v20260930/image_id"),
    ],
)
def test_a_release_of_the_ami_is_a_parameter_of_its_own(
    architecture: Architecture, variant: images.Variant, expected: str
) -> None:
    path = images.parameter("1.35", "v20260930", architecture, variant)
    assert path == f"/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/{expected}"


@pytest.mark.parametrize(
    ("pool", "part"),
    [
        (aws_pool("m5.large"), "/x86_64/standard/"),
        (aws_pool("m7g.large"), "/arm64/standard/"),
        (aws_pool("g5.xlarge"), "/x86_64/nvidia/"),
    ],
)
def test_the_ami_fits_the_pools_machines(pool: AwsPool, part: str) -> None:
    assert part in images.pool_parameter(pool, "1.36", "v20260827")


def image_of(pool: AwsPool, machines: Machines, **calls: Any) -> list[str]:
    found: list[str] = []
    made_by(
        lambda: pulumi.Output.from_input(images.image_id(pool, machines, "1.36")).apply(found.append),
        calls={token: lambda _, answer=answer: answer for token, answer in calls.items()},
    )
    return found


def test_a_pools_own_ami_comes_before_that_of_all_machines_and_that_before_the_release() -> None:
    release = Machines(ami_release="v20260827", image="", minimum_spot_types=2)
    given = Machines(ami_release="", image="ami-all", minimum_spot_types=2)
    assert image_of(aws_pool(image="ami-own"), given) == ["ami-own"]
    assert image_of(aws_pool(), given) == ["ami-all"]
    assert image_of(aws_pool(), release, **{PARAMETER: {"insecureValue": "ami-looked-up"}}) == ["ami-looked-up"]
