"""Jobs of more than one pod: a main pod, which Airflow follows, and its members, which end with it. Plain dicts.

The main pod runs the program (Spark's driver, Dask's scheduler), the members its work (executors, workers). Every
member has the main pod for its owner, so that Kubernetes removes it with that, whoever else has died.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tidepool import pod as pods
from tidepool.capacity import LABEL_PREFIX, POOL_LABEL, Capacity
from tidepool.labels import OWNER_NAMES
from tidepool.sizing import Placement

ROLE_LABEL = LABEL_PREFIX + "role"
"""What a member is, such as `executor`. Main pods, and jobs of one pod, don't have it."""

POD_NAME_VARIABLE = "TIDEPOOL_POD_NAME"
POD_IP_VARIABLE = "TIDEPOOL_POD_IP"
"""Environment variables with a pod's own name and address, as Kubernetes knows them."""

GRACE_SECONDS = 90
"""How long a member may take to hand over its data. A spot machine ends two minutes after its notice."""


def knowing_itself(main: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a pod that has its own name and address in its environment, as its members then have theirs."""
    fields = {POD_NAME_VARIABLE: "metadata.name", POD_IP_VARIABLE: "status.podIP"}
    own = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]
    made = copy.deepcopy(dict(main))
    container = made["spec"]["containers"][0]
    container["env"] = [*(container.get("env") or []), *own]
    return made


def member(main: Mapping[str, Any], placement: Placement, capacity: Capacity, role: str) -> dict[str, Any]:
    """The manifest of a member, without name and command, from the main pod's: what that has, the member has too.

    main: as it is asked for, not as the API server gives it back with its machine's name.

    Environment, volumes, rights and what its author asked for besides are the main pod's; place and size its own. It is
    not found by the labels by which Airflow finds the task's pod, and has no rights at the Kubernetes API.
    """
    given = copy.deepcopy(dict(main["spec"]))
    container = given["containers"][0]
    own = pods.manifest(placement, container["image"], capacity)
    spec = own["spec"]
    for key in ("affinity", "serviceAccountName", "automountServiceAccountToken"):
        given[key] = spec[key]
    given["tolerations"] = spec["tolerations"] + [
        each for each in given.get("tolerations") or [] if each not in spec["tolerations"]
    ]
    given["terminationGracePeriodSeconds"] = GRACE_SECONDS
    kept = {key: value for key, value in container.items() if key not in ("args", "command")}
    kept["resources"] = spec["containers"][0]["resources"]
    given["containers"] = [kept]
    metadata = main["metadata"]
    labels = {name: metadata["labels"][name] for name in OWNER_NAMES if name in metadata.get("labels", {})}
    said = metadata.get("annotations", {})
    annotations = {name: said[name] for name in OWNER_NAMES if name in said}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": placement.tenant.namespace,
            "labels": {**labels, ROLE_LABEL: role, POOL_LABEL: placement.pools[0].name},
            "annotations": {**annotations, pods.SAFE_TO_EVICT: "false"},
        },
        "spec": given,
    }


def owned_by(manifest: Mapping[str, Any], name: str, uid: str) -> dict[str, Any]:
    """The manifest with the main pod of this name and uid for its owner."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid, "controller": True}
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}
