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

# A machine on its way into the warm pool is stopped soon after its first start. It must not join the cluster then, or a
# node that is NotReady stays behind. /run is empty again when the machine is started to work.
_STAY_OUT_WHILE_WARMING = """\
#!/bin/bash
set -euo pipefail
imds=http://169.254.169.254/latest
token=$(curl -sf --retry 5 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" $imds/api/token)
state=$(curl -sf --retry 5 -H "X-aws-ec2-metadata-token: $token" $imds/meta-data/autoscaling/target-lifecycle-state)
if [[ $state == Warmed:* ]]; then
  mkdir -p /run/systemd/system/nodeadm-run.service.d
  printf '[Unit]\\nConditionPathExists=!/run\\n' > /run/systemd/system/nodeadm-run.service.d/warming.conf
  systemctl daemon-reload
fi
"""


class UserDataError(ValueError):
    """The text holds no NodeConfig; the message says what is wrong with it."""


def render(
    *,
    cluster: str,
    endpoint: str,
    certificate_authority: str,
    service_cidr: str,
    max_pods: int,
    reserved: Mapping[str, str],
    labels: Mapping[str, str],
    taints: Sequence[Taint],
    instance_store: bool = False,
    warm: bool = False,
) -> str:
    """The user data of a pool's machines, the same text for the same input.

    certificate_authority: the API server's CA, PEM in base64; service_cidr: addresses of the cluster's Services;
    reserved: the kubelet's kubeReserved; instance_store: pods and images live on the NVMe disks as one RAID0;
    warm: the machine may come from a warm pool.
    """
    flags = ["--node-labels=" + ",".join(f"{key}={value}" for key, value in sorted(labels.items()))]
    if taints:
        flags.append("--register-with-taints=" + ",".join(f"{each.key}={each.value}:{each.effect}" for each in taints))
    config: dict[str, Any] = {
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
                    "kubeReserved": dict(reserved),
                    "shutdownGracePeriod": SHUTDOWN_GRACE_PERIOD,
                    "shutdownGracePeriodCriticalPods": SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS,
                    # Only the process that grew too large dies, so that Spark can say what happened to it.
                    "singleProcessOOMKill": True,
                },
                "flags": flags,
            },
        },
    }
    if instance_store:
        config["spec"]["instance"] = {"localStorage": {"strategy": "RAID0"}}
    parts = {CONTENT_TYPE: yaml.safe_dump(config, sort_keys=False, width=10_000)}
    if warm:
        parts["text/x-shellscript; charset=us-ascii"] = _STAY_OUT_WHILE_WARMING
    return (
        f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="{BOUNDARY}"\n\n'
        + "".join(f"--{BOUNDARY}\nContent-Type: {kind}\n\n{text}" for kind, text in parts.items())
        + f"--{BOUNDARY}--\n"
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
