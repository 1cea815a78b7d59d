"""The pod of a job as a Kubernetes manifest: plain dicts, as `kubectl apply` takes them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tidepool.capacity import GPU_RESOURCE, JOB_PRIORITY_CLASS, LABEL_PREFIX, POOL_LABEL, TEAM_LABEL, Capacity, Pool
from tidepool.job import MIB
from tidepool.labels import ATTEMPT, OWNER_DAG, OWNER_RUN, OWNER_TASK
from tidepool.sizing import Placement

CONTAINER = "base"
"""The name of the job's container: KubernetesPodOperator's own."""

USER_ID = 185
"""Who jobs run as, in every image."""

LAKE_VARIABLE = "TIDEPOOL_LAKE"
CHECKPOINT_VARIABLE = "TIDEPOOL_CHECKPOINT"
SCRATCH_FOLDER = "/tmp"  # noqa: S108 - an emptyDir of the pod's own, not the machine's
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"

GRACE_SECONDS = 120
"""From SIGTERM to SIGKILL: the whole notice of a spot machine. What does not handle SIGTERM ends at once."""

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_LENGTH = 63
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def manifest(placement: Placement, image: str, capacity: Capacity) -> dict[str, Any]:
    """The whole pod but for its command and its owner: team, placement, size, rights, scratch space and the lake.

    Pod Security's level "restricted" admits it.
    """
    pools = placement.pools
    # Memory that is requested and not limited, or limited and not requested, is somebody else's surprise: both are the
    # same. CPU has no limit: the job owns its machine, or its share when the machine is busy, and throttling it while
    # cores are idle would only make the machine cost longer.
    limits = {"memory": f"{placement.memory_bytes // MIB}Mi"}
    if placement.gpus:
        limits[GPU_RESOURCE] = str(placement.gpus)
    # The image's own HOME cannot be written to.
    environment = [{"name": "HOME", "value": SCRATCH_FOLDER}, {"name": "PYTHONUNBUFFERED", "value": "1"}]
    if capacity.lake is not None:
        environment.append({"name": LAKE_VARIABLE, "value": capacity.lake.uri})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": placement.tenant.namespace,
            "labels": {POOL_LABEL: pools[0].name, TEAM_LABEL: label_value(placement.team)},
            "annotations": {SAFE_TO_EVICT: "false"},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "serviceAccountName": placement.tenant.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "priorityClassName": JOB_PRIORITY_CLASS,
            "affinity": _affinity(pools),
            "tolerations": [
                taint.toleration() for taint in dict.fromkeys(taint for pool in pools for taint in pool.taints)
            ],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    # The image is read-only; whatever falls into the working directory falls into scratch.
                    "workingDir": SCRATCH_FOLDER,
                    "env": environment,
                    "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_FOLDER}],
                    "resources": {"requests": {"cpu": f"{placement.cpu_millis}m", **limits}, "limits": limits},
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


def owner(dag: str, task: str, run: str, attempt: int, team: str) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations that say whose pod it is: labels as Kubernetes allows them, annotations word for word."""
    annotations = {OWNER_DAG: dag, OWNER_TASK: task, OWNER_RUN: run, ATTEMPT: str(attempt), TEAM_LABEL: team}
    return {key: label_value(value) for key, value in annotations.items()}, annotations


def checkpoint_folder(lake: str, dag: str, task: str, run: str, map_index: int) -> str:
    """Where in the lake the attempts of one task in one run leave what the next one needs (dags/jobs/checkpoint.py)."""
    names = [dag, task, run] + ([str(map_index)] if map_index >= 0 else [])
    return "/".join((lake.rstrip("/"), "checkpoints", *(label_value(name) for name in names)))


def without_ours(given: Mapping[str, str] | None) -> dict[str, str]:
    """Labels or annotations without those that say whose pod it is and where: they are nobody else's to give."""
    return {key: value for key, value in (given or {}).items() if not key.startswith(LABEL_PREFIX)}


def may_land_on(pod: Mapping[str, Any], pools: Iterable[Pool]) -> tuple[Pool, ...]:
    """Those of the pools whose machines the pod's affinity allows; the one that its label names where it has none."""
    affinity = ((pod.get("spec") or {}).get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms")
    label = (pod["metadata"].get("labels") or {}).get(POOL_LABEL)
    return tuple(pool for pool in pools if (_term(pool) in terms if terms else pool.name == label))


def label_value(text: str) -> str:
    """A valid label value for any text: itself if it is one, else its valid part and a hash that keeps it unique."""
    if _LABEL_VALUE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[: _LABEL_LENGTH - len(digest) - 1].strip("-_.")
    return f"{kept}-{digest}" if kept else digest


def _affinity(pools: Sequence[Pool]) -> dict[str, Any]:
    """One term for each pool: its nodes carry all of its labels, and not every cluster's carry tidepool's.

    Required, not preferred: the autoscaler ignores preferences, and would buy a machine that the pod then shuns.
    """
    return {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": [_term(pool) for pool in pools]}}}


def _term(pool: Pool) -> dict[str, Any]:
    labels = sorted(pool.labels.items())
    return {"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in labels]}
