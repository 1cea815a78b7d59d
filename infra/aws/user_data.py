"""User data of a machine: the NodeConfig that nodeadm reads on an EKS machine (AL2023), as MIME text, and back.

The local cloud's machines are configured from this same text.
Source of the format: awslabs/amazon-eks-ami, nodeadm (`node.eks.aws/v1alpha1`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email import message_from_string
from typing import Any

import yaml

from tidepool.capacity import Taint

BOUNDARY = "tidepool-node-config"
CONTENT_TYPE = "application/node.eks.aws"
API_VERSION = "node.eks.aws/v1alpha1"

# A spot machine has 120 s from notice to its end; some of them pass before the kubelet hears of it.
SHUTDOWN_GRACE_PERIOD = "90s"
SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS = "15s"


class UserDataError(ValueError):
    """The text holds no NodeConfig; the message says what is wrong with it."""


def render(
    *,
    cluster: str,
    endpoint: str,
    certificate_authority: str,
    service_cidr: str,
    max_pods: int,
    labels: Mapping[str, str],
    taints: Sequence[Taint],
) -> str:
    """The user data of a pool's machines, the same text for the same input.

    certificate_authority: the API server's CA, PEM in base64; service_cidr: addresses of the cluster's Services.
    """
    flags = ["--node-labels=" + ",".join(f"{key}={value}" for key, value in sorted(labels.items()))]
    if taints:
        flags.append("--register-with-taints=" + ",".join(f"{each.key}={each.value}:{each.effect}" for each in taints))
    config = {
        "apiVersion": API_VERSION,
        "kind": "NodeConfig",
        "spec": {
            "cluster": {
                "name": cluster,
                "apiServerEndpoint": endpoint,
                "certificateAuthority": certificate_authority,
                "cidr": service_cidr,
            },
            "kubelet": {
                "config": {
                    "maxPods": max_pods,
                    "shutdownGracePeriod": SHUTDOWN_GRACE_PERIOD,
                    "shutdownGracePeriodCriticalPods": SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS,
                    # Only the process that grew too large dies, so that Spark can say what happened to it.
                    "singleProcessOOMKill": True,
                },
                "flags": flags,
            },
        },
    }
    return (
        f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="{BOUNDARY}"\n\n'
        f"--{BOUNDARY}\nContent-Type: {CONTENT_TYPE}\n\n"
        f"{yaml.safe_dump(config, sort_keys=False, width=10_000)}"
        f"--{BOUNDARY}--\n"
    )


def parse(text: str) -> dict[str, Any]:
    """The NodeConfig in a machine's user data (decoded from base64). Raises UserDataError if there isn't one."""
    for part in message_from_string(text).walk():
        if part.get_content_type() != CONTENT_TYPE:
            continue
        try:
            config = yaml.safe_load(str(part.get_payload()))
        except yaml.YAMLError as error:
            raise UserDataError(f"user data: the NodeConfig is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(config, dict) or config.get("kind") != "NodeConfig":
            raise UserDataError(f"user data: a part of type {CONTENT_TYPE} has no kind NodeConfig")
        if config.get("apiVersion") != API_VERSION:
            raise UserDataError(f"user data: NodeConfig is {config.get('apiVersion')!r}, must be {API_VERSION}")
        return config
    raise UserDataError(f"user data: no MIME part of type {CONTENT_TYPE}; was it written by infra/aws/user_data.py?")
