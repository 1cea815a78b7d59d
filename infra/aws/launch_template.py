"""What the launch templates of all machines have in common, whoever scales the machines. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

ROOT_DEVICE = "/dev/xvda"  # of the EKS-optimised Amazon Linux 2023 AMIs
TAGGED = ("instance", "volume", "network-interface")
"""What a launch tags by itself: the tags of a group or node group reach none, or only some, of these."""


def common(root_volume_gib: int, tags: Mapping[str, str]) -> dict[str, Any]:
    """Inputs of `aws.ec2.LaunchTemplateArgs`. tags: of the template, and of what is launched from it."""
    return {
        "update_default_version": True,
        # One hop: the machine itself reaches its credentials, pods don't.
        "metadata_options": {"http_endpoint": "enabled", "http_tokens": "required", "http_put_response_hop_limit": 1},
        "block_device_mappings": [
            {
                "device_name": ROOT_DEVICE,
                "ebs": {
                    "volume_type": "gp3",
                    "volume_size": root_volume_gib,
                    "encrypted": "true",
                    "delete_on_termination": "true",
                },
            }
        ],
        "tag_specifications": [{"resource_type": kind, "tags": dict(tags)} for kind in TAGGED],
        "tags": dict(tags),
    }


def encoded(user_data: str) -> str:
    """User data as a launch template takes it."""
    return base64.b64encode(user_data.encode()).decode()
