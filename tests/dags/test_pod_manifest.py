from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest

from tidepool import pod as pods
from tidepool.capacity import Capacity, Pool, Taint, Tenant
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
            "namespace": "tidepool-analytics",
            "labels": {"tidepool.dev/pool": "spot-small", "tidepool.dev/team": "analytics"},
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 120,
            "serviceAccountName": "job",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "priorityClassName": "tidepool-job",
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "tidepool.dev/pool", "operator": "In", "values": [name]}]}
                            for name in ("spot-small", "on-demand-small")
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
                        {"name": "TIDEPOOL_LAKE", "value": "hdfs://namenode.tidepool:8020/lake"},
                    ],
                    "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH}],
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
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
    }


def test_a_pool_is_selected_by_its_own_labels_and_its_own_taints_are_tolerated(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    """As in a cluster that was there before: nothing on its nodes is tidepool's."""
    jobs = Taint("jobs", "", "NoSchedule")
    first = dataclasses.replace(pool("batch"), labels={"pool": "batch", "disk": "nvme"}, taints=(jobs,))
    second = dataclasses.replace(pool("spare", priority=1), labels={"pool": "spare"}, taints=(jobs,))
    capacity = capacity_of(first, second)
    spec = pods.manifest(place(Job("t"), capacity), "i:1", capacity)["spec"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [{each["key"]: each["values"] for each in term["matchExpressions"]} for term in terms] == [
        {"pool": ["batch"], "disk": ["nvme"]},
        {"pool": ["spare"]},
    ]
    assert spec["tolerations"] == [{"key": "jobs", "operator": "Equal", "value": "", "effect": "NoSchedule"}]


def test_without_a_lake_the_job_is_told_of_none(capacity: Capacity) -> None:
    dry = dataclasses.replace(capacity, lake=None)
    (container,) = pods.manifest(place(Job("t"), dry), "image:1", dry)["spec"]["containers"]
    assert [each["name"] for each in container["env"]] == ["HOME", "PYTHONUNBUFFERED"]


def test_a_team_gets_its_own_namespace_identity_and_label(capacity: Capacity) -> None:
    other = dataclasses.replace(capacity, tenants={**capacity.tenants, "R&D": Tenant("tidepool-rd", "runner")})
    pod = pods.manifest(place(Job("t", team="R&D"), other), "image:1", other)
    assert (pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]) == ("tidepool-rd", "runner")
    assert pod["metadata"]["labels"]["tidepool.dev/team"] == pods.label_value("R&D")


def test_gpus_are_requested_and_limited_alike_and_only_where_asked_for(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool]
) -> None:
    capacity = capacity_of(pool("gpu", gpus=4), pool("plain"))
    (container,) = pods.manifest(place(Job("t", gpus=2, memory="3Gi"), capacity), "i:1", capacity)["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "1680m", "memory": "3072Mi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "3072Mi", "nvidia.com/gpu": "2"},
    }


def test_pod_security_restricted_admits_the_pod(capacity: Capacity) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, every rule of the level."""
    spec = pods.manifest(place(Job("t"), capacity), "image:1", capacity)["spec"]
    (container,) = spec["containers"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & spec.keys()
    assert {kind for volume in spec["volumes"] for kind in volume.keys() - {"name"}} <= {"emptyDir"}
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert not {"sysctls", "seLinuxOptions", "appArmorProfile"} & spec["securityContext"].keys()
    assert container["securityContext"].keys() == {"allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"ports", "lifecycle", "livenessProbe"} & container.keys()


def test_isolation_never_uses_pod_affinity(capacity: Capacity) -> None:
    spec = pods.manifest(place(Job("t"), capacity), "image:1", capacity)["spec"]
    assert list(spec["affinity"]) == ["nodeAffinity"]


def test_each_task_of_each_run_has_a_folder_of_its_own_for_checkpoints() -> None:
    runs = [("d", "t", "manual__2026-11-22T10:00:00+00:00", -1), ("d", "t", "manual__2026-11-22T10:00:00+00:00", 0)]
    runs += [("d", "t", "manual__2026-11-22T10:00:01+00:00", -1), ("d", "t.u", "r", -1), ("d.t", "u", "r", -1)]
    folders = [pods.checkpoint_folder("hdfs://namenode:8020/lake/", *run) for run in runs]
    assert len(set(folders)) == len(runs)
    for folder in folders:
        assert folder.startswith("hdfs://namenode:8020/lake/checkpoints/d")
        assert ":" not in folder.removeprefix("hdfs://namenode:8020"), "HDFS has no colons in names"
