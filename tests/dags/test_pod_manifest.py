from __future__ import annotations

import dataclasses
import re

import pytest

from tidepool import pod as pods
from tidepool.capacity import Capacity, Lake
from tidepool.job import Job
from tidepool.sizing import place

SCRATCH = pods.SCRATCH_FOLDER

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
VALID = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")

HOSTILE = [
    "",
    "plain",
    "manual__2026-11-22T10:00:00+00:00",
    "a" * 300,
    "-starts-and-ends-",
    "…",
    "Ærøskøbing & Söhne",
    "x\n{{ var.value.secret }}",
    "../../etc/passwd",
    "🌊" * 80,
    "." * 63,
    "a" * 62 + "-",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_name_becomes_a_valid_label_value(text: str) -> None:
    value = pods.label_value(text)
    assert len(value) <= 63
    assert VALID.fullmatch(value)


def test_names_that_differ_get_labels_that_differ() -> None:
    names = [*HOSTILE, "a" * 301, "a" * 299 + "b", "Ærøskøbing + Söhne", "a b", "a-b"]
    assert len({pods.label_value(name) for name in names}) == len(names)


def test_names_that_are_label_values_stay_as_they_are() -> None:
    assert pods.label_value("flights_daily.v2") == "flights_daily.v2"


def test_the_owner_is_on_the_pod_as_labels_and_word_for_word_as_annotations() -> None:
    labels, annotations = pods.owner("my dag", "clean", "manual__2026-11-22T10:00:00+00:00", 3, "R&D")
    assert annotations == {
        "tidepool.dev/owner-dag": "my dag",
        "tidepool.dev/owner-task": "clean",
        "tidepool.dev/owner-run": "manual__2026-11-22T10:00:00+00:00",
        "tidepool.dev/attempt": "3",
        "tidepool.dev/team": "R&D",
    }
    assert labels.keys() == annotations.keys()
    assert labels["tidepool.dev/owner-task"] == "clean"
    assert labels["tidepool.dev/attempt"] == "3"
    assert all(VALID.fullmatch(value) for value in labels.values())


def test_the_whole_pod(capacity: Capacity) -> None:
    placement = place(Job("clean", memory="3Gi"), capacity)
    assert pods.manifest(placement, "tidepool.local/spark:abc123", capacity) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": "tidepool-jobs",
            "labels": {"tidepool.dev/pool": "spot-small"},
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        },
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "job",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {
                                        "key": "tidepool.dev/pool",
                                        "operator": "In",
                                        "values": ["spot-small", "on-demand-small"],
                                    }
                                ]
                            }
                        ]
                    }
                }
            },
            "tolerations": [
                {"key": "tidepool.dev/pool", "operator": "Equal", "value": name, "effect": "NoSchedule"}
                for name in ("spot-small", "on-demand-small")
            ],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 185,
                "runAsGroup": 185,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "base",
                    "image": "tidepool.local/spark:abc123",
                    "imagePullPolicy": "IfNotPresent",
                    "workingDir": SCRATCH,
                    "env": [
                        {"name": "HOME", "value": SCRATCH},
                        {"name": "PYTHONUNBUFFERED", "value": "1"},
                        {"name": "TIDEPOOL_LAKE", "value": "file:///lake"},
                    ],
                    "volumeMounts": [
                        {"name": "scratch", "mountPath": SCRATCH},
                        {"name": "lake", "mountPath": "/lake"},
                    ],
                    "resources": {
                        "requests": {"cpu": "1680m", "memory": "3072Mi"},
                        "limits": {"memory": "3072Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "lake", "hostPath": {"path": "/var/lib/tidepool/lake", "type": "Directory"}},
            ],
        },
    }


def test_a_remote_lake_is_named_and_not_mounted(capacity: Capacity) -> None:
    remote = dataclasses.replace(capacity, lake=Lake(uri="s3a://bucket/lake"))
    spec = pods.manifest(place(Job("t"), remote), "image:1", remote)["spec"]
    assert {"name": "TIDEPOOL_LAKE", "value": "s3a://bucket/lake"} in spec["containers"][0]["env"]
    assert [volume["name"] for volume in spec["volumes"]] == ["scratch"]


def test_isolation_never_uses_pod_affinity(capacity: Capacity) -> None:
    spec = pods.manifest(place(Job("t"), capacity), "image:1", capacity)["spec"]
    assert list(spec["affinity"]) == ["nodeAffinity"]
