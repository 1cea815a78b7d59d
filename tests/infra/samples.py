"""Settings that tests change one thing of."""

from __future__ import annotations

import dataclasses
from typing import Any

from infra.aws.instance_types import table
from infra.settings.model_aws import AwsPool

TAGS = {"tidepool.dev/owner": "data", "tidepool.dev/environment": "dev"}


def aws_pool(*types: str, **changes: Any) -> AwsPool:
    """A spot pool called `spot` in two zones, of the given instance types."""
    pool = AwsPool(
        name="spot",
        instance_types=tuple(table()[name] for name in types or ("m6i.xlarge", "m5.xlarge")),
        market="spot",
        minimum=0,
        maximum=10,
        priority=50,
        max_pods=20,
        unneeded_time="10m",
        zones=("us-east-1a", "us-east-1b"),
        group_per_zone=False,
        root_volume_gib=80,
        nvme=False,
        image="",
        warm=0,
        capacity_rebalance=False,
    )
    return dataclasses.replace(pool, **changes)
