"""Launch templates and Auto Scaling Groups in moto. A group's desired capacity is left to the autoscaler."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from infra.local.world_engine import Kind, Made
from infra.local.world_rows import Inputs, is_gone, pairs, parameters_of, require_all_used
from infra.local.world_state import Entry

Tags = list[dict[str, Any]]


class LaunchTemplates:
    """Launch templates by name; a new version, the default one from then on, only where the data differ."""

    def __init__(self, ec2: Any) -> None:
        self._ec2 = ec2

    @property
    def kind(self) -> Kind:
        """For the engine."""
        return Kind(lambda inputs, taken: self._from(inputs), self._change, self._delete)

    def put(self, name: str, data: Inputs, tags: dict[str, str]) -> tuple[str, int]:
        """The id and the newest version of the template of that name, which is made or changed to these data."""
        request = {"LaunchTemplateName": name, "LaunchTemplateData": data}
        request = parameters_of(self._ec2, "create_launch_template", request)
        found = self._find(name)
        if found is None:
            found = self._ec2.create_launch_template(**request)["LaunchTemplate"]
        elif self.data(found["LaunchTemplateId"]) != request["LaunchTemplateData"]:
            found = self._new_version(found, request["LaunchTemplateData"])
        if tags:
            # Not at creation: moto takes the template's own tags into its data, which then never equal the wanted ones.
            self._ec2.create_tags(Resources=[found["LaunchTemplateId"]], Tags=pairs(tags))
        return found["LaunchTemplateId"], found["LatestVersionNumber"]

    def data(self, identity: str, version: str = "$Latest") -> dict[str, Any]:
        """What machines of a template's version are."""
        found = self._ec2.describe_launch_template_versions(LaunchTemplateId=identity, Versions=[version])
        return dict(found["LaunchTemplateVersions"][0]["LaunchTemplateData"])

    def delete(self, identity: str) -> None:
        """Delete a template; one that is gone is no error."""
        try:
            self._ec2.delete_launch_template(LaunchTemplateId=identity)
        except ClientError as error:
            if not is_gone(error):
                raise

    def _from(self, inputs: Inputs) -> Made:
        rest = dict(inputs)
        name, tags = rest.pop("name"), rest.pop("tags", {})
        rest.pop("updateDefaultVersion")  # it always is here
        groups = {"securityGroupIds": rest.pop("vpcSecurityGroupIds")} if "vpcSecurityGroupIds" in rest else {}
        identity, version = self.put(name, {**rest, **groups}, tags)
        return Made(identity, {**inputs, "latestVersion": version, "defaultVersion": version})

    def _change(self, old: Entry, inputs: Inputs) -> Made | None:
        return self._from(inputs) if inputs["name"] == old.inputs["name"] else None

    def _delete(self, old: Entry) -> None:
        self.delete(old.id)

    def _find(self, name: str) -> Any:
        try:
            return self._ec2.describe_launch_templates(LaunchTemplateNames=[name])["LaunchTemplates"][0]
        except ClientError as error:
            if is_gone(error):
                return None
            raise

    def _new_version(self, found: Any, data: Any) -> Any:
        identity = found["LaunchTemplateId"]
        made = self._ec2.create_launch_template_version(LaunchTemplateId=identity, LaunchTemplateData=data)
        number = made["LaunchTemplateVersion"]["VersionNumber"]
        self._ec2.modify_launch_template(LaunchTemplateId=identity, DefaultVersion=str(number))
        return {**found, "LatestVersionNumber": number}


class Groups:
    """Auto Scaling Groups by name."""

    def __init__(self, autoscaling: Any) -> None:
        self._autoscaling = autoscaling

    @property
    def kind(self) -> Kind:
        """For the engine."""
        return Kind(lambda inputs, taken: self._from(inputs), self._change, self._delete)

    def put(self, name: str, shape: Inputs, tags: Tags, suspended: list[str]) -> None:
        """Make the group of that name, or change it to this. shape: its parameters; the desired size is a new one's."""
        there = self._autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        operation = "update_auto_scaling_group" if there else "create_auto_scaling_group"
        given = {key: value for key, value in shape.items() if not there or key.lower() != "desiredcapacity"}
        request = parameters_of(self._autoscaling, operation, {"AutoScalingGroupName": name, **given})
        written = [{**tag, "ResourceId": name, "ResourceType": "auto-scaling-group"} for tag in tags]
        if there:
            self._autoscaling.update_auto_scaling_group(**request)
            self._autoscaling.create_or_update_tags(Tags=written)
            self._remove_stale(name, there[0], tags, suspended)
        else:
            self._autoscaling.create_auto_scaling_group(**request, Tags=written)
        if suspended:
            self._autoscaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=suspended)

    def delete(self, name: str) -> None:
        """Delete a group with its machines; one that is gone is no error."""
        if self._autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]:
            self._autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)

    def _from(self, inputs: Inputs) -> Made:
        rest = dict(inputs)
        name = rest.pop("name")
        rest.pop("waitForCapacityTimeout", None)  # nothing waits here
        rest.pop("forceDelete", None)  # it always is here
        tags = [
            {"Key": tag["key"], "Value": tag["value"], "PropagateAtLaunch": tag["propagateAtLaunch"]}
            for tag in rest.pop("tags", [])
        ]
        warm, suspended = rest.pop("warmPool", None), rest.pop("suspendedProcesses", [])
        rest["vpcZoneIdentifier"] = ",".join(rest.pop("vpcZoneIdentifiers"))
        if template := rest.pop("launchTemplate", None):
            rest["launchTemplate"] = {"launchTemplateId": template["id"], "version": template["version"]}
        self.put(name, rest, tags, suspended)
        if warm:
            request = {"autoScalingGroupName": name, **warm}
            self._autoscaling.put_warm_pool(**parameters_of(self._autoscaling, "put_warm_pool", request))
        return Made(name, inputs)

    def _change(self, old: Entry, inputs: Inputs) -> Made | None:
        if inputs["name"] != old.inputs["name"]:
            return None
        require_all_used(old.name, dict.fromkeys(old.inputs.keys() - inputs.keys()))
        return self._from(inputs)

    def _delete(self, old: Entry) -> None:
        self.delete(old.id)

    def _remove_stale(self, name: str, there: Any, tags: Tags, suspended: list[str]) -> None:
        keys = {tag["Key"] for tag in there.get("Tags", [])} - {tag["Key"] for tag in tags}
        if keys:
            of = {"ResourceId": name, "ResourceType": "auto-scaling-group"}
            self._autoscaling.delete_tags(Tags=[{**of, "Key": key} for key in sorted(keys)])
        resumed = {each["ProcessName"] for each in there.get("SuspendedProcesses", [])} - set(suspended)
        if resumed:
            self._autoscaling.resume_processes(AutoScalingGroupName=name, ScalingProcesses=sorted(resumed))
