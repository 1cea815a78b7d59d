"""Records how a real pod ended as a case for test_outcome.py.

    python tests/dags/outcomes/record.py NAMESPACE POD CAUSE > tests/dags/outcomes/NAME.yaml

Watches the pod until it has ended or is gone, then reads its machine and the events of both; KUBECONFIG says where.
CAUSE is what was done to it. Write `about` and `says` by hand.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

NOISE = ("managedFields", "ownerReferences", "generateName", "selfLink", "resourceVersion", "generation")


def main(namespace: str, name: str, cause: str) -> None:
    """Print the case as YAML."""
    config.load_kube_config()
    api = client.CoreV1Api()
    pod: dict[str, Any] | None = None
    gone = False
    for event in watch.Watch().stream(api.list_namespaced_pod, namespace, field_selector=f"metadata.name={name}"):
        pod, gone = event["raw_object"], event["type"] == "DELETED"
        if gone or pod["status"].get("phase") in ("Succeeded", "Failed"):
            break
    seen: dict[str, Any] = {"pod": pod, "gone": gone}
    machine = ((pod or {}).get("spec") or {}).get("nodeName")
    if machine:
        try:
            seen["node"] = plain(api.read_node(machine))
        except ApiException as error:
            if error.status != 404:
                raise
            seen["node_gone"] = True
    listed = api.list_namespaced_event(namespace, field_selector=f"involvedObject.name={name}").items
    seen["events"] = [plain(event) for event in sorted(listed, key=lambda event: str(event.last_timestamp))]
    for body in filter(None, (pod, seen.get("node"), *seen["events"])):
        for key in NOISE:
            body["metadata"].pop(key, None)
    version = client.VersionApi().get_code().git_version
    case = {
        "about": "…",
        "source": f"recorded from a pod, Kubernetes {version}",
        "cause": cause,
        "says": "…",
        "seen": seen,
    }
    yaml.safe_dump(case, sys.stdout, sort_keys=False, allow_unicode=True, width=118)


def plain(thing: Any) -> dict[str, Any]:
    """An object of the client as the API server's JSON."""
    found: dict[str, Any] = client.ApiClient().sanitize_for_serialization(thing)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
