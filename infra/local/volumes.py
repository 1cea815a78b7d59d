"""Persistent volumes: a stand-in for the EBS CSI driver, which needs a machine that disks are attached to.

A claim whose StorageClass names the driver gets a folder of this host, once a pod asks for it. All machines share the
host's disk, so a volume follows its pod to any of them, as an EBS volume does within its zone. It is as large as the
disk is, whatever was asked for. A volume goes with its claim where its class says so (reclaimPolicy Delete).
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import kubernetes
from urllib3.exceptions import HTTPError

from infra.local.daemon import log

DRIVER = "ebs.csi.aws.com"
_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_INTERVAL_SECONDS = 0.5
_CONFLICT = 409


class Volumes:
    """Folders below `folder` for the claims that the cluster leaves to the driver."""

    def __init__(self, folder: Path, api: kubernetes.client.CoreV1Api) -> None:
        self._folder, self._api = folder, api

    def run(self, stop: threading.Event) -> None:
        """Make and remove volumes until told to stop; an API server that is away is waited for."""
        while not stop.wait(_INTERVAL_SECONDS):
            try:
                self.step()
            except (HTTPError, kubernetes.client.ApiException, OSError) as error:
                log(f"volumes wait: {type(error).__name__}: {error}")

    def step(self) -> None:
        """One look at the claims and volumes, and what follows from it."""
        for claim in self._api.list_persistent_volume_claim_for_all_namespaces().items:
            if waits(claim):
                self._make(claim)
        for volume in self._api.list_persistent_volume().items:
            if abandoned(volume):
                self._remove(volume)

    def _make(self, claim: Any) -> None:
        path = self._folder / f"pvc-{claim.metadata.uid}"
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o770)  # the kubelet gives it to the pod's fsGroup
        try:
            self._api.create_persistent_volume(manifest(claim, path))
        except kubernetes.client.ApiException as error:
            if error.status != _CONFLICT:
                raise
        else:
            log(f"volume {path.name} for {claim.metadata.namespace}/{claim.metadata.name}")

    def _remove(self, volume: Any) -> None:
        self._api.delete_persistent_volume(volume.metadata.name)
        shutil.rmtree(self._folder / volume.metadata.name, ignore_errors=True)
        log(f"volume {volume.metadata.name} is gone with its claim")


def waits(claim: Any) -> bool:
    """Whether a claim waits for the driver: the controller manager writes down whose work it is, when it is time."""
    annotations = claim.metadata.annotations or {}
    return (
        claim.status.phase == "Pending"
        and not claim.spec.volume_name
        and claim.metadata.deletion_timestamp is None
        and annotations.get(_PROVISIONER) == DRIVER
    )


def abandoned(volume: Any) -> bool:
    """Whether a volume of the driver's is to be removed, as its claim was."""
    annotations = volume.metadata.annotations or {}
    return (
        volume.status.phase == "Released"
        and volume.spec.persistent_volume_reclaim_policy == "Delete"
        and annotations.get(_PROVISIONED_BY) == DRIVER
    )


def manifest(claim: Any, path: Path) -> dict[str, Any]:
    """The PersistentVolume for a claim: a folder that pods of any machine may have, one at a time."""
    every_machine = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": path.name, "annotations": {_PROVISIONED_BY: DRIVER}},
        "spec": {
            "capacity": {"storage": claim.spec.resources.requests["storage"]},
            "accessModes": list(claim.spec.access_modes),
            "storageClassName": claim.spec.storage_class_name,
            "persistentVolumeReclaimPolicy": "Delete",
            # Not hostPath: of this type the kubelet gives the folder to the pod's fsGroup.
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [every_machine]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.metadata.namespace,
                "name": claim.metadata.name,
                "uid": claim.metadata.uid,
            },
        },
    }
