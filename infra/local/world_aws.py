"""Launch templates and Auto Scaling Groups in moto, from the inputs that Pulumi's AWS provider would get."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.local.addresses import require_local
from infra.local.errors import LocalError

POLL_SECONDS = 0.1


class WorldError(LocalError):
    """The local cloud can't make or answer something; the message says what, and what to do."""


class Aws:
    """The AWS API of one moto server, which must be on this machine. Nothing is sent before `wait`."""

    def __init__(self, url: str, region: str) -> None:
        self.url = require_local(url)
        settings: dict[str, Any] = {
            "endpoint_url": url,
            "region_name": region,
            "aws_access_key_id": "local",
            "aws_secret_access_key": "local",
            "config": Config(proxies={}),  # not even a proxy may see these requests
        }
        self.ec2: Any = boto3.client("ec2", **settings)
        self.autoscaling: Any = boto3.client("autoscaling", **settings)

    def wait(self, seconds: float) -> None:
        """Return as soon as moto answers for both services; WorldError after so many seconds."""
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
        # moto loads each service at its first request, which takes seconds: better now than one after the other later.
        self.ec2.describe_vpcs()
        self.autoscaling.describe_auto_scaling_groups()

    def launch_template(self, inputs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """A launch template by name; a new default version only where the data differ from the latest."""
        rest = dict(inputs)
        name = rest.pop("name")
        rest.pop("updateDefaultVersion")  # it always is here
        tags = _tags(rest.pop("tags", {}))
        data = _template_data(name, rest)
        found = self._template(name)
        if found is None:
            found = self.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]
        else:
            found = self._new_version(found, data)
        if tags:
            # Not at creation: moto takes the template's own tags into its data, which then never equal the wanted ones.
            self.ec2.create_tags(Resources=[found["LaunchTemplateId"]], Tags=tags)
        version = found["LatestVersionNumber"]
        return found["LaunchTemplateId"], {**inputs, "latestVersion": version, "defaultVersion": version}

    def _template(self, name: str) -> Any:
        try:
            return self.ec2.describe_launch_templates(LaunchTemplateNames=[name])["LaunchTemplates"][0]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "InvalidLaunchTemplateName.NotFoundException":
                return None
            raise

    def _new_version(self, found: Any, data: Any) -> Any:
        identity = found["LaunchTemplateId"]
        latest = self.ec2.describe_launch_template_versions(LaunchTemplateId=identity, Versions=["$Latest"])
        if latest["LaunchTemplateVersions"][0]["LaunchTemplateData"] == data:
            return found
        made = self.ec2.create_launch_template_version(LaunchTemplateId=identity, LaunchTemplateData=data)
        number = made["LaunchTemplateVersion"]["VersionNumber"]
        self.ec2.modify_launch_template(LaunchTemplateId=identity, DefaultVersion=str(number))
        return {**found, "LatestVersionNumber": number}

    def group(self, inputs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """An Auto Scaling Group by name. Its desired capacity is left to the autoscaler."""
        rest = dict(inputs)
        name = rest.pop("name")
        rest.pop("waitForCapacityTimeout")  # nothing waits here
        tags = [
            {
                "Key": tag["key"],
                "Value": tag["value"],
                "PropagateAtLaunch": tag["propagateAtLaunch"],
                "ResourceId": name,
                "ResourceType": "auto-scaling-group",
            }
            for tag in rest.pop("tags")
        ]
        suspended = rest.pop("suspendedProcesses")
        shape = {
            "MinSize": rest.pop("minSize"),
            "MaxSize": rest.pop("maxSize"),
            "VPCZoneIdentifier": ",".join(rest.pop("vpcZoneIdentifiers")),
            "MixedInstancesPolicy": _capitalised(rest.pop("mixedInstancesPolicy")),
            "CapacityRebalance": rest.pop("capacityRebalance"),
        }
        _nothing_left(name, rest)
        there = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        if there:
            self.autoscaling.update_auto_scaling_group(AutoScalingGroupName=name, **shape)
            stale = {tag["Key"] for tag in there[0].get("Tags", [])} - {tag["Key"] for tag in tags}
            if stale:
                self.autoscaling.delete_tags(
                    Tags=[
                        {"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": key} for key in sorted(stale)
                    ]
                )
            self.autoscaling.create_or_update_tags(Tags=tags)
        else:
            self.autoscaling.create_auto_scaling_group(AutoScalingGroupName=name, Tags=tags, **shape)
        self.autoscaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=suspended)
        return name, inputs

    def cluster(self, *, name: str, endpoint: str, certificate_authority: str, service_cidr: str) -> dict[str, Any]:
        """What EKS would say of the local cluster, in moto's default network."""
        vpc = self.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
        inside = [{"Name": "vpc-id", "Values": [vpc]}]
        subnets = self.ec2.describe_subnets(Filters=inside)["Subnets"]
        groups = self.ec2.describe_security_groups(Filters=[*inside, {"Name": "group-name", "Values": ["default"]}])
        return {
            "name": name,
            "endpoint": endpoint,
            "certificateAuthorities": [{"data": certificate_authority}],
            "kubernetesNetworkConfigs": [{"serviceIpv4Cidr": service_cidr}],
            "vpcConfig": {
                "vpcId": vpc,
                "subnetIds": [subnet["SubnetId"] for subnet in subnets],
                "clusterSecurityGroupId": groups["SecurityGroups"][0]["GroupId"],
            },
        }

    def subnets(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The subnets that all filters let through."""
        filters = [{"Name": each["name"], "Values": each["values"]} for each in inputs["filters"]]
        found = self.ec2.describe_subnets(Filters=filters)["Subnets"]
        return {"ids": sorted(subnet["SubnetId"] for subnet in found)}


def plain(value: Any) -> Any:
    """Inputs as Python wrote them: the runtime turns every number into a float and keeps absent values."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None and not key.startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _template_data(name: str, rest: dict[str, Any]) -> Any:
    """LaunchTemplateData as EC2's API names it."""
    specifications = rest.pop("tagSpecifications", [])
    data = {
        "ImageId": rest.pop("imageId"),
        "UserData": rest.pop("userData"),
        "SecurityGroupIds": rest.pop("vpcSecurityGroupIds"),
        "IamInstanceProfile": _capitalised(rest.pop("iamInstanceProfile")),
        "MetadataOptions": _capitalised(rest.pop("metadataOptions")),
        "BlockDeviceMappings": [_block_device(each) for each in rest.pop("blockDeviceMappings")],
        "TagSpecifications": [
            {"ResourceType": each["resourceType"], "Tags": _tags(each["tags"])} for each in specifications
        ],
    }
    _nothing_left(name, rest)
    return data


def _block_device(mapping: dict[str, Any]) -> dict[str, Any]:
    # The provider types these as text, EC2 as truth values.
    ebs = {key: value == "true" if value in ("true", "false") else value for key, value in mapping["ebs"].items()}
    return {"DeviceName": mapping["deviceName"], "Ebs": _capitalised(ebs)}


def _tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _capitalised(value: Any) -> Any:
    """The provider's names in EC2's spelling: launchTemplateId to LaunchTemplateId, at any depth."""
    if isinstance(value, dict):
        return {key[0].upper() + key[1:]: _capitalised(item) for key, item in value.items()}
    return [_capitalised(item) for item in value] if isinstance(value, list) else value


def _nothing_left(name: str, rest: dict[str, Any]) -> None:
    if rest:
        raise WorldError(
            f"{name}: the local cloud does not know what to do with {', '.join(sorted(rest))}; "
            "teach it in infra/local/world_aws.py"
        )
