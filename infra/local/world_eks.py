"""EKS in moto: a cluster, which is the local control plane, and managed node groups as Auto Scaling Groups.

moto has the API of node groups but makes no machines for them. EKS makes an Auto Scaling Group from a group's launch
template, so that is done here. Machines that run keep what they are when their group changes; EKS would replace them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra.aws import asg_tags, instance_types, user_data
from infra.aws.allocatable import MIB, allocatable
from infra.local import world_iam
from infra.local.world_engine import Kind, Made, WorldError
from infra.local.world_machines import Groups, LaunchTemplates
from infra.local.world_rows import Inputs, is_gone, pairs, parameters_of
from infra.local.world_state import Entry

CLUSTER = "eks:index:Cluster"
NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"

CLUSTER_POLICY = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
CLUSTER_IN_PLACE = {"tags"}  # which the local control plane does not know
GROUP_IN_PLACE = {"launchTemplate", "scalingConfig", "updateConfig"}
EFFECTS = {"NO_SCHEDULE": "NoSchedule", "PREFER_NO_SCHEDULE": "PreferNoSchedule", "NO_EXECUTE": "NoExecute"}


@dataclass(frozen=True)
class ControlPlane:
    """The local control plane. version: Kubernetes' minor; certificate_authority: PEM in base64."""

    endpoint: str
    certificate_authority: str
    service_cidr: str
    version: str


class Clusters:
    """pulumi_eks.Cluster: in moto what EKS says of it, and the role and the security group that come with one."""

    def __init__(self, clients: Mapping[str, Any], control_plane: ControlPlane) -> None:
        self._eks, self._ec2, self._iam = clients["eks"], clients["ec2"], clients["iam"]
        self._control_plane = control_plane

    @property
    def kind(self) -> Kind:
        """For the engine."""
        return Kind(lambda inputs, taken: self._make(inputs), self._change, self._delete)

    def _make(self, inputs: Inputs) -> Made:
        self._require_ours(inputs)
        name = inputs["name"]
        group = self._security_group(name, inputs["vpcId"])
        try:
            self._eks.describe_cluster(name=name)
        except ClientError as error:
            if not is_gone(error):
                raise
            self._create(inputs)
        return Made(name, self._outputs(inputs, group))

    def _change(self, old: Entry, inputs: Inputs) -> Made:
        changed = {key for key in old.inputs.keys() | inputs.keys() if old.inputs.get(key) != inputs.get(key)}
        if not changed <= CLUSTER_IN_PLACE:
            raise WorldError(
                f"cluster {old.id}: the local control plane can't change its "
                f"{', '.join(sorted(changed - CLUSTER_IN_PLACE))}; take the local cloud down and up again"
            )
        return Made(old.id, self._outputs(inputs, old.outputs["clusterSecurityGroupId"]))

    def _delete(self, old: Entry) -> None:
        for delete, parameters in (
            (self._eks.delete_cluster, {"name": old.id}),
            (self._iam.detach_role_policy, {"RoleName": _role(old.id), "PolicyArn": CLUSTER_POLICY}),
            (self._iam.delete_role, {"RoleName": _role(old.id)}),
            (self._ec2.delete_security_group, {"GroupId": old.outputs["clusterSecurityGroupId"]}),
        ):
            try:
                delete(**parameters)
            except ClientError as error:
                if not is_gone(error):
                    raise

    def _create(self, inputs: Inputs) -> None:
        trust = {"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        with contextlib.suppress(self._iam.exceptions.EntityAlreadyExistsException):  # of an interrupted deploy
            self._iam.create_role(RoleName=_role(inputs["name"]), AssumeRolePolicyDocument=policy)
        if world_iam.has_policy(self._iam, CLUSTER_POLICY):
            self._iam.attach_role_policy(RoleName=_role(inputs["name"]), PolicyArn=CLUSTER_POLICY)
        role = self._iam.get_role(RoleName=_role(inputs["name"]))["Role"]["Arn"]
        access = {
            "subnetIds": inputs["subnetIds"],
            "endpointPrivateAccess": inputs["endpointPrivateAccess"],
            "endpointPublicAccess": inputs["endpointPublicAccess"],
        }
        key = {"resources": ["secrets"], "provider": {"keyArn": inputs["encryptionConfigKeyArn"]}}
        self._eks.create_cluster(
            name=inputs["name"],
            version=inputs["version"],
            roleArn=role,
            resourcesVpcConfig=access,
            kubernetesNetworkConfig={"serviceIpv4Cidr": inputs["kubernetesServiceIpAddressRange"]},
            encryptionConfig=[key],
            logging={"clusterLogging": [{"types": inputs["enabledClusterLogTypes"], "enabled": True}]},
            tags=inputs["tags"],
        )

    def _security_group(self, name: str, vpc: str) -> str:
        """The group that EKS makes for machines and control plane, in which all may talk."""
        group = f"eks-cluster-sg-{name}"
        filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": [group]}]
        for there in self._ec2.describe_security_groups(Filters=filters)["SecurityGroups"]:
            return str(there["GroupId"])
        made = self._ec2.create_security_group(GroupName=group, Description=f"Of the EKS cluster {name}", VpcId=vpc)
        everything = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": made["GroupId"]}]}
        self._ec2.authorize_security_group_ingress(GroupId=made["GroupId"], IpPermissions=[everything])
        return str(made["GroupId"])

    def _require_ours(self, inputs: Inputs) -> None:
        ours = self._control_plane
        for key, said, there in (
            ("version", inputs["version"], ours.version),
            ("service addresses", inputs["kubernetesServiceIpAddressRange"], ours.service_cidr),
        ):
            if said != there:
                raise WorldError(f"cluster {inputs['name']}: {key} {said}, but the local control plane has {there}")

    def _outputs(self, inputs: Inputs, group: str) -> dict[str, Any]:
        name, ours = inputs["name"], self._control_plane
        cluster = {"server": ours.endpoint, "certificate-authority-data": ours.certificate_authority}
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
            "users": [],
        }
        return {
            **inputs,
            "clusterSecurityGroupId": group,
            "kubeconfig": kubeconfig,
            "kubeconfigJson": json.dumps(kubeconfig),
        }


class NodeGroups:
    """aws.eks.NodeGroup, with the Auto Scaling Group that EKS makes of it."""

    def __init__(self, eks: Any, templates: LaunchTemplates, groups: Groups) -> None:
        self._eks, self._templates, self._groups = eks, templates, groups

    @property
    def kind(self) -> Kind:
        """For the engine."""
        return Kind(self._make, self._change, self._delete)

    def _make(self, inputs: Inputs, taken: frozenset[str]) -> Made:
        cluster = inputs["clusterName"]
        there = self._eks.list_nodegroups(clusterName=cluster)["nodegroups"]
        free = [each for each in there if each.startswith(_prefix(inputs)) and f"{cluster}:{each}" not in taken]
        name = free[0] if free else self._create(inputs)
        return self._with_group(name, inputs)

    def _change(self, old: Entry, inputs: Inputs) -> Made | None:
        changed = {key for key in old.inputs.keys() | inputs.keys() if old.inputs.get(key) != inputs.get(key)}
        if not changed <= GROUP_IN_PLACE:
            return None
        name = old.outputs["nodeGroupName"]
        scaling = parameters_of(self._eks, "update_nodegroup_config", {"scalingConfig": inputs["scalingConfig"]})
        self._eks.update_nodegroup_config(clusterName=inputs["clusterName"], nodegroupName=name, **scaling)
        return self._with_group(name, inputs)

    def _delete(self, old: Entry) -> None:
        self._groups.delete(old.outputs["resources"][0]["autoscalingGroups"][0]["name"])
        try:
            self._eks.delete_nodegroup(
                clusterName=old.inputs["clusterName"], nodegroupName=old.outputs["nodeGroupName"]
            )
        except ClientError as error:
            if not is_gone(error):
                raise

    def _create(self, inputs: Inputs) -> str:
        rest = dict(inputs)
        prefix, name = rest.pop("nodeGroupNamePrefix", ""), rest.pop("nodeGroupName", "")
        renamed = {"nodegroupName": name or f"{prefix}{secrets.token_hex(4)}", "nodeRole": rest.pop("nodeRoleArn")}
        request = {"subnets": rest.pop("subnetIds"), **renamed, **rest}
        answer = self._eks.create_nodegroup(**parameters_of(self._eks, "create_nodegroup", request))
        return str(answer["nodegroup"]["nodegroupName"])

    def _with_group(self, name: str, inputs: Inputs) -> Made:
        cluster, template = inputs["clusterName"], inputs["launchTemplate"]
        arn = self._eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]["nodegroupArn"]
        group, scaling = f"eks-{name}-{arn.rpartition('/')[2]}", inputs["scalingConfig"]
        policy = {
            "instancesDistribution": {"onDemandPercentageAboveBaseCapacity": 100},
            "launchTemplate": {
                "launchTemplateSpecification": {"launchTemplateId": template["id"], "version": template["version"]},
                "overrides": [{"instanceType": each} for each in inputs["instanceTypes"]],
            },
        }
        shape = {
            "minSize": scaling["minSize"],
            "maxSize": scaling["maxSize"],
            "desiredCapacity": scaling["desiredSize"],
            "vpcZoneIdentifier": ",".join(inputs["subnetIds"]),
            "mixedInstancesPolicy": policy,
        }
        data = self._templates.data(template["id"], template["version"])
        tags = [
            {**tag, "PropagateAtLaunch": not tag["Key"].startswith(asg_tags.PREFIX)}
            for tag in pairs(_tags(name, inputs, data))
        ]
        self._groups.put(group, shape, tags, suspended=[])
        made = {"nodeGroupName": name, "arn": arn, "resources": [{"autoscalingGroups": [{"name": group}]}]}
        return Made(f"{cluster}:{name}", {**inputs, **made})


def _tags(name: str, inputs: Inputs, template: Mapping[str, Any]) -> dict[str, str]:
    """Those that EKS sets, and what machines are: EKS lets the autoscaler ask for that, here it stands in the tags."""
    config = user_data.parse(base64.b64decode(template["UserData"]).decode())["spec"]["kubelet"]["config"]
    machine = instance_types.table()[inputs["instanceTypes"][0]]
    disk = template["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]
    size = allocatable(machine, config["maxPods"], disk)
    cluster = inputs["clusterName"]
    return {
        "eks:cluster-name": cluster,
        "eks:nodegroup-name": name,
        f"kubernetes.io/cluster/{cluster}": "owned",
        f"{asg_tags.PREFIX}enabled": "true",
        f"{asg_tags.PREFIX}{cluster}": "owned",
        f"{asg_tags.TEMPLATE}resources/cpu": f"{size.cpu_millis}m",
        f"{asg_tags.TEMPLATE}resources/memory": f"{size.memory_bytes // MIB}Mi",
        f"{asg_tags.TEMPLATE}resources/ephemeral-storage": f"{size.ephemeral_storage_bytes // MIB}Mi",
        f"{asg_tags.TEMPLATE}resources/pods": str(size.pods),
        **{f"{asg_tags.TEMPLATE}label/{key}": value for key, value in inputs["labels"].items()},
        **{
            f"{asg_tags.TEMPLATE}taint/{each['key']}": f"{each['value']}:{EFFECTS[each['effect']]}"
            for each in inputs["taints"]
        },
    }


def _role(cluster: str) -> str:
    return f"{cluster}-eks-role"


def _prefix(inputs: Inputs) -> str:
    return str(inputs.get("nodeGroupName") or inputs["nodeGroupNamePrefix"])
