"""The cluster's default StorageClass: encrypted gp3 volumes of the EBS CSI driver."""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as kubernetes

STORAGE_CLASS = "gp3"
PROVISIONER = "ebs.csi.aws.com"


def default_storage_class(opts: pulumi.ResourceOptions | None = None) -> kubernetes.storage.v1.StorageClass:
    """Volumes are made in the zone of the machine that needs them, and can grow."""
    return kubernetes.storage.v1.StorageClass(
        "default-storage-class",
        metadata={"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        provisioner=PROVISIONER,
        parameters={"type": "gp3", "encrypted": "true"},
        volume_binding_mode="WaitForFirstConsumer",
        allow_volume_expansion=True,
        reclaim_policy="Delete",
        opts=opts,
    )
