"""What the keeper keeps of an object that a watch tells it: whose it is, where, its size and its state. Pure.

Of a job's pod that is a third. Ten thousand are in memory at once.
"""

from __future__ import annotations

from tidepool.objects import Object

_METADATA = ("managedFields", "selfLink", "generateName")
_NODE_STATUS = ("images", "volumesAttached", "volumesInUse", "nodeInfo", "capacity", "features", "runtimeHandlers")
_CONTAINER = ("name", "resources", "restartPolicy")
_POD_SPEC = ("nodeName", "overhead")
_POD_STATUS = ("phase", "reason", "message", "conditions", "startTime", "podIP")
_CONTAINER_STATUS = ("name", "state", "lastState", "restartCount")


def pare(thing: Object) -> Object:
    """A pod, node or any other object without what nobody here reads."""
    metadata = {key: value for key, value in thing["metadata"].items() if key not in _METADATA}
    spec = thing.get("spec")
    if spec is not None and "containers" in spec:
        return {**thing, "metadata": metadata, "spec": _pod(spec), "status": _state(thing.get("status") or {})}
    if spec is not None and "status" in thing:
        status = {key: value for key, value in thing["status"].items() if key not in _NODE_STATUS}
        return {**thing, "metadata": metadata, "status": status}
    return {**thing, "metadata": metadata}


def _pod(spec: Object) -> Object:
    kept = {key: spec[key] for key in _POD_SPEC if key in spec}
    for name in ("containers", "initContainers"):
        if spec.get(name):
            kept[name] = [{key: each[key] for key in _CONTAINER if key in each} for each in spec[name]]
    claims = [each for each in spec.get("volumes") or [] if "persistentVolumeClaim" in each or "ephemeral" in each]
    return kept | ({"volumes": claims} if claims else {})


def _state(status: Object) -> Object:
    kept = {key: status[key] for key in _POD_STATUS if key in status}
    if status.get("containerStatuses"):
        kept["containerStatuses"] = [
            {key: each[key] for key in _CONTAINER_STATUS if key in each} for each in status["containerStatuses"]
        ]
    return kept
