"""IAM and KMS in moto: roles, policies, instance profiles and keys."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from infra.local.world_rows import Inputs, Row, calls, is_gone, named, sets, tagger
from infra.local.world_state import Entry


def has_policy(iam: Any, arn: str) -> bool:
    """Whether there is such a policy; moto knows AWS's own only where it is started with them."""
    try:
        iam.get_policy(PolicyArn=arn)
    except ClientError as error:
        if is_gone(error):
            return False
        raise
    return True


def _set_profile_role(client: Any, identity: str, wanted: str, before: str | None) -> None:
    profile = client.get_instance_profile(InstanceProfileName=identity)["InstanceProfile"]
    for role in profile["Roles"]:
        client.remove_role_from_instance_profile(InstanceProfileName=identity, RoleName=role["RoleName"])
    client.add_role_to_instance_profile(InstanceProfileName=identity, RoleName=wanted)


def _delete_profile(client: Any, old: Entry) -> None:
    client.remove_role_from_instance_profile(InstanceProfileName=old.id, RoleName=old.inputs["role"])
    client.delete_instance_profile(InstanceProfileName=old.id)


def _set_rotation(client: Any, identity: str, wanted: bool, before: bool | None) -> None:
    (client.enable_key_rotation if wanted else client.disable_key_rotation)(KeyId=identity)


def _delete_key(client: Any, old: Entry) -> None:
    client.schedule_key_deletion(KeyId=old.id, PendingWindowInDays=old.inputs.get("deletionWindowInDays", 30))


def _find_key(client: Any, inputs: Inputs) -> list[str]:
    """A key has no name: the one that is said to be for the same."""
    keys = [client.describe_key(KeyId=each["KeyId"])["KeyMetadata"] for each in client.list_keys()["Keys"]]
    wanted = inputs.get("description")
    return [key["KeyId"] for key in keys if wanted and key["Enabled"] and key["Description"] == wanted]


def _find_policy(client: Any, inputs: Inputs) -> list[str]:
    pages = client.get_paginator("list_policies").paginate(Scope="Local")
    return [each["Arn"] for page in pages for each in page["Policies"] if each["PolicyName"] == inputs["name"]]


def _find_alias(client: Any, inputs: Inputs) -> list[str]:
    return [each["AliasName"] for each in client.list_aliases()["Aliases"] if each["AliasName"] == inputs["name"]]


ROWS = {
    "aws:iam/role:Role": Row(
        service="iam",
        create="create_role",
        id="Role.RoleName",
        names={"name": "roleName", "assumeRolePolicy": "assumeRolePolicyDocument"},
        setters={
            "assumeRolePolicy": sets("update_assume_role_policy", "RoleName", "PolicyDocument"),
            "tags": tagger("tag_role", "untag_role", "RoleName"),
        },
        find=named("get_role", "Role.RoleName", "RoleName"),
        delete=calls("delete_role", RoleName="id"),
        outputs={"arn": "arn:aws:iam::{account}:role/{name}"},
        auto_name="name",
    ),
    "aws:iam/rolePolicy:RolePolicy": Row(
        service="iam",
        create="put_role_policy",
        id="{role}:{name}",
        names={"name": "policyName", "role": "roleName", "policy": "policyDocument"},
        put="put_role_policy",
        identity=("name", "role"),
        delete=calls("delete_role_policy", RoleName="role", PolicyName="name"),
        auto_name="name",
    ),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": Row(
        service="iam",
        create="attach_role_policy",
        id="{role}/{policyArn}",
        names={"role": "roleName"},
        delete=calls("detach_role_policy", RoleName="role", PolicyArn="policyArn"),
    ),
    "aws:iam/policy:Policy": Row(
        service="iam",
        create="create_policy",
        id="Policy.Arn",
        names={"name": "policyName", "policy": "policyDocument"},
        setters={"tags": tagger("tag_policy", "untag_policy", "PolicyArn")},
        find=_find_policy,
        delete=calls("delete_policy", PolicyArn="id"),
        outputs={"arn": "{id}"},
        auto_name="name",
    ),
    "aws:iam/instanceProfile:InstanceProfile": Row(
        service="iam",
        create="create_instance_profile",
        id="InstanceProfile.InstanceProfileName",
        names={"name": "instanceProfileName"},
        setters={
            "role": _set_profile_role,
            "tags": tagger("tag_instance_profile", "untag_instance_profile", "InstanceProfileName"),
        },
        find=named("get_instance_profile", "InstanceProfile.InstanceProfileName", "InstanceProfileName"),
        delete=_delete_profile,
        outputs={"arn": "arn:aws:iam::{account}:instance-profile/{name}"},
        auto_name="name",
    ),
    "aws:kms/key:Key": Row(
        service="kms",
        create="create_key",
        id="KeyMetadata.KeyId",
        setters={"enableKeyRotation": _set_rotation, "tags": tagger("tag_resource", "untag_resource", "KeyId")},
        ignored=("deletionWindowInDays",),  # used when it is deleted
        find=_find_key,
        delete=_delete_key,
        outputs={"arn": "arn:aws:kms:{region}:{account}:key/{id}", "keyId": "{id}"},
    ),
    "aws:kms/alias:Alias": Row(
        service="kms",
        create="create_alias",
        id="{name}",
        names={"name": "aliasName"},
        put="update_alias",
        identity=("name",),
        find=_find_alias,
        delete=calls("delete_alias", AliasName="id"),
        outputs={"arn": "arn:aws:kms:{region}:{account}:{name}"},
    ),
}
