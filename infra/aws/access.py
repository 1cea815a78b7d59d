"""Who may use the cluster's API: IAM roles by name, each with one of EKS's access policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

POLICY = "arn:aws:eks::aws:cluster-access-policy/"
ADMIN_POLICY = f"{POLICY}AmazonEKSClusterAdminPolicy"
VIEW_POLICY = f"{POLICY}AmazonEKSViewPolicy"
"""Reads everything in all namespaces but Secrets."""


@dataclass(frozen=True)
class Access:
    """One role's access. name: stable, whatever else is in the list; policy: ARN of the access policy."""

    name: str
    principal: str
    policy: str


def granted(admins: Sequence[str], viewers: Sequence[str]) -> list[Access]:
    """The access of named roles, given by ARN. A role that is in both lists is an admin."""
    admin = [Access(_name("admin", arn), arn, ADMIN_POLICY) for arn in dict.fromkeys(admins)]
    view = [Access(_name("viewer", arn), arn, VIEW_POLICY) for arn in dict.fromkeys(viewers) if arn not in admins]
    return admin + view


def _name(kind: str, arn: str) -> str:
    """`admin-111122223333-platform` for arn:aws:iam::111122223333:role/teams/platform."""
    account, resource = arn.split(":")[4:6]
    return f"{kind}-{account}-{resource.rsplit('/', 1)[-1]}"
