"""The stand-in for the EBS CSI driver: which claims get a volume, and which volumes go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes
import pytest

from infra.local.volumes import DRIVER, Volumes

client = kubernetes.client


class Cluster:
    """Claims and volumes, as the API server keeps them."""

    def __init__(self) -> None:
        self.claims: list[Any] = []
        self.volumes: dict[str, Any] = {}

    def list_persistent_volume_claim_for_all_namespaces(self) -> Any:
        return client.V1PersistentVolumeClaimList(items=self.claims)

    def list_persistent_volume(self) -> Any:
        return client.V1PersistentVolumeList(items=list(self.volumes.values()))

    def create_persistent_volume(self, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        if name in self.volumes:
            raise client.ApiException(status=409)
        self.volumes[name] = client.V1PersistentVolume(
            metadata=client.V1ObjectMeta(name=name, annotations=body["metadata"]["annotations"]),
            spec=client.V1PersistentVolumeSpec(
                persistent_volume_reclaim_policy=body["spec"]["persistentVolumeReclaimPolicy"],
                local=client.V1LocalVolumeSource(path=body["spec"]["local"]["path"]),
                claim_ref=client.V1ObjectReference(uid=body["spec"]["claimRef"]["uid"]),
            ),
            status=client.V1PersistentVolumeStatus(phase="Bound"),
        )

    def delete_persistent_volume(self, name: str) -> None:
        del self.volumes[name]


def claim(phase: str = "Pending", volume: str = "", driver: str = DRIVER, deleted: bool = False) -> Any:
    return client.V1PersistentVolumeClaim(
        metadata=client.V1ObjectMeta(
            name="data",
            namespace="tidepool",
            uid="1234",
            annotations={"volume.kubernetes.io/storage-provisioner": driver} if driver else None,
            deletion_timestamp="2026-11-23T00:00:00Z" if deleted else None,
        ),
        spec=client.V1PersistentVolumeClaimSpec(
            access_modes=["ReadWriteOnce"],
            storage_class_name="gp3",
            volume_name=volume or None,
            resources=client.V1VolumeResourceRequirements(requests={"storage": "5Gi"}),
        ),
        status=client.V1PersistentVolumeClaimStatus(phase=phase),
    )


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def volumes(cluster: Cluster, tmp_path: Path) -> Volumes:
    return Volumes(tmp_path / "volumes", cluster)


def test_a_claim_that_is_the_drivers_gets_a_folder_of_its_own(
    cluster: Cluster, volumes: Volumes, tmp_path: Path
) -> None:
    cluster.claims = [claim()]
    volumes.step()
    (volume,) = cluster.volumes.values()
    assert volume.spec.local.path == str(tmp_path / "volumes" / "pvc-1234")
    assert Path(volume.spec.local.path).is_dir()
    assert volume.spec.claim_ref.uid == "1234"


@pytest.mark.parametrize(
    "other",
    [
        claim(driver=""),  # no pod asked for it yet
        claim(driver="efs.csi.aws.com"),
        claim(phase="Bound", volume="pvc-1234"),
        claim(volume="by-hand"),
        claim(deleted=True),
    ],
    ids=["early", "another driver's", "bound", "of a volume that is named", "deleted"],
)
def test_a_claim_that_is_not_its_own_is_left_alone(cluster: Cluster, volumes: Volumes, other: Any) -> None:
    cluster.claims = [other]
    volumes.step()
    assert cluster.volumes == {}


def test_looking_twice_makes_nothing_twice(cluster: Cluster, volumes: Volumes) -> None:
    cluster.claims = [claim()]
    volumes.step()
    (folder,) = (Path(volume.spec.local.path) for volume in cluster.volumes.values())
    (folder / "block").write_text("kept")
    volumes.step()
    assert (folder / "block").read_text() == "kept"


def test_a_volume_goes_with_its_claim_and_not_before(cluster: Cluster, volumes: Volumes) -> None:
    cluster.claims = [claim()]
    volumes.step()
    (volume,) = cluster.volumes.values()
    folder = Path(volume.spec.local.path)
    volumes.step()
    assert folder.is_dir()
    cluster.claims, volume.status.phase = [], "Released"
    volumes.step()
    assert cluster.volumes == {}
    assert not folder.exists()


def test_a_volume_that_is_to_be_kept_or_is_anothers_stays(cluster: Cluster, volumes: Volumes) -> None:
    cluster.claims = [claim()]
    volumes.step()
    (volume,) = cluster.volumes.values()
    volume.status.phase = "Released"
    volume.spec.persistent_volume_reclaim_policy = "Retain"
    cluster.claims = []
    volumes.step()
    assert cluster.volumes
    volume.spec.persistent_volume_reclaim_policy = "Delete"
    volume.metadata.annotations = {}
    volumes.step()
    assert cluster.volumes
