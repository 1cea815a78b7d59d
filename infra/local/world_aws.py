"""The AWS API of the local cloud: one moto server, as a side of the engine."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

from infra.local import world_eks, world_events, world_iam, world_network, world_rows, world_storage
from infra.local.addresses import require_local
from infra.local.world_eks import ControlPlane
from infra.local.world_engine import Kind, WorldError
from infra.local.world_machines import Groups, LaunchTemplates
from infra.local.world_monitor import Registration

POLL_SECONDS = 0.1
ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
CALLER_IDENTITY = "aws:index/getCallerIdentity:getCallerIdentity"

_WARM_UP = {
    "ec2": "describe_vpcs",
    "autoscaling": "describe_auto_scaling_groups",
    "ecr": "describe_repositories",
    "eks": "list_clusters",
    "events": "list_rules",
    "iam": "list_roles",
    "kms": "list_keys",
    "logs": "describe_log_groups",
    "s3": "list_buckets",
    "sqs": "list_queues",
    "sts": "get_caller_identity",
}
"""The services that are used, each with a look that changes nothing."""

NOT_HERE = {
    "aws:eks/addon:Addon": "moto has no EKS addons; the local cloud runs its own kube-proxy, network, DNS and volumes",
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": "moto has no EKS Pod Identity; local pods call no AWS API",
    "aws:eks/accessEntry:AccessEntry": "moto has no EKS access entries; the local admin has a client certificate",
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": "moto has no EKS access entries",
    "docker-build:index:Image": "local images are built by `tidepool local up`",
}
"""What can't be had in moto, and why."""


class Aws:
    """The AWS API of one moto server, which must be on this machine. Nothing is sent before `wait`. A Side."""

    name = "aws"

    def __init__(self, url: str, region: str) -> None:
        self.url = require_local(url)
        self._region = region
        settings: dict[str, Any] = {
            "endpoint_url": url,
            "region_name": region,
            "aws_access_key_id": "local",
            "aws_secret_access_key": "local",
            "config": Config(proxies={}, max_pool_connections=20),  # not even a proxy may see these requests
        }
        session: Any = boto3.Session()
        self.clients: dict[str, Any] = {name: session.client(name, **settings) for name in _WARM_UP}
        self.identity = ""
        self._kinds: dict[str, Kind] = {}

    def wait(self, seconds: float) -> None:
        """Return as soon as moto answers for every service; WorldError after so many seconds."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + seconds
        while True:
            try:
                opener.open(f"{self.url}/moto-api/", timeout=5).close()
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > deadline:
                    raise WorldError(
                        f"moto does not answer at {self.url} after {seconds:.0f} s ({error}); "
                        "`tidepool local logs moto` shows why"
                    ) from error
                time.sleep(POLL_SECONDS)
            else:
                break
        # moto loads each service at its first request, which takes up to a second: better now than one after the other.
        with ThreadPoolExecutor(max_workers=4) as workers:
            for answer in [workers.submit(getattr(self.clients[name], look)) for name, look in _WARM_UP.items()]:
                answer.result()
        default = [{"Name": "is-default", "Values": ["true"]}]
        self.identity = self.clients["ec2"].describe_vpcs(Filters=default)["Vpcs"][0]["VpcId"]

    def serve(self, control_plane: ControlPlane) -> None:
        """Get ready to make things; EKS clusters are the one local control plane."""
        rows = {**world_network.ROWS, **world_iam.ROWS, **world_storage.ROWS, **world_events.ROWS}
        templates, groups = LaunchTemplates(self.clients["ec2"]), Groups(self.clients["autoscaling"])
        self._kinds = {
            **{type_: world_rows.kind(row, self.clients[row.service], self._region) for type_, row in rows.items()},
            "aws:ec2/launchTemplate:LaunchTemplate": templates.kind,
            "aws:autoscaling/group:Group": groups.kind,
            world_eks.CLUSTER: world_eks.Clusters(self.clients, control_plane).kind,
            world_eks.NODE_GROUP: world_eks.NodeGroups(self.clients["eks"], templates, groups).kind,
        }

    def kind(self, type_: str) -> Kind | None:
        """How resources of a type are made; world_engine.Side."""
        return self._kinds.get(type_)

    def call(self, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The answer to a look-up; world_engine.Side."""
        if token == CALLER_IDENTITY:
            said = self.clients["sts"].get_caller_identity()
            return {"accountId": said["Account"], "arn": said["Arn"], "userId": said["UserId"], "id": said["Account"]}
        return None

    def lacks(self, asked: Registration) -> str | None:
        """Why a resource can't be had in moto; world_engine.Side."""
        if asked.type == ATTACHMENT and not world_iam.has_policy(self.clients["iam"], asked.inputs["policyArn"]):
            return f"moto does not know the policy {asked.inputs['policyArn']}"
        return NOT_HERE.get(asked.type)

    def lacks_parts(self, asked: Registration) -> dict[str, str]:
        """Parts of a resource that can't be had in moto, each with the reason; world_engine.Side."""
        if asked.type != world_eks.CLUSTER or world_iam.has_policy(self.clients["iam"], world_eks.CLUSTER_POLICY):
            return {}
        return {"policy of its role": f"moto does not know the policy {world_eks.CLUSTER_POLICY}"}
