"""Records how a real pod ended as a case for test_outcome.py.

    python tests/dags/outcomes/record.py NAMESPACE POD CAUSE > tests/dags/outcomes/NAME.yaml

Watches the pod until it has ended or is gone, then reads its machine and the events of both; KUBECONFIG says where.
CAUSE is what was done to it. Write `about` and `says` by hand.

`TIDEPOOL_RECORD=1 pytest tests/local/test_cloud_outcomes.py` records anew all that the local cloud can bring about.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import yaml
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

Object = dict[str, Any]
NOISE = ("managedFields", "ownerReferences", "generateName", "selfLink", "resourceVersion", "generation")
LONGEST_SECONDS = 300


def main(namespace: str, name: str, cause: str) -> None:
    """Print the case as YAML."""
    config.load_kube_config()
    found = seen(client.CoreV1Api(), namespace, name)
    sys.stdout.write(case(found, cause, about="…", says="…", version=client.VersionApi().get_code().git_version))


def has_ended(pod: Object) -> bool:
    """Whether it runs no more."""
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def seen(api: client.CoreV1Api, namespace: str, name: str, is_over: Callable[[Object], bool] = has_ended) -> Object:
    """What there is to be seen of a pod once it is over or gone, which may be to come yet."""
    pod: Object | None = None
    gone = False
    selector = f"metadata.name={name}"
    stream = watch.Watch().stream(
        api.list_namespaced_pod, namespace, field_selector=selector, timeout_seconds=LONGEST_SECONDS
    )
    for event in stream:
        pod, gone = event["raw_object"], event["type"] == "DELETED"
        if gone or is_over(event["raw_object"]):
            break
    found: Object = {"pod": pod, "gone": gone}
    machine = ((pod or {}).get("spec") or {}).get("nodeName")
    if machine:
        try:
            found["node"] = plain(api.read_node(machine))
            found["node"]["status"].pop("images", None)
        except ApiException as error:
            if error.status != 404:
                raise
            found["node_gone"] = True
    listed = api.list_namespaced_event(namespace, field_selector=f"involvedObject.name={name}").items
    found["events"] = [plain(event) for event in sorted(listed, key=lambda event: str(event.last_timestamp))]
    for body in filter(None, (pod, found.get("node"), *found["events"])):
        for key in NOISE:
            body["metadata"].pop(key, None)
    return found


def case(found: Object, cause: str, about: str, says: str, version: str) -> str:
    """The case as YAML."""
    source = f"recorded from a pod, Kubernetes {version}"
    body = {"about": about, "source": source, "cause": cause, "says": says, "seen": found}
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=118)


def plain(thing: Any) -> Object:
    """An object of the client as the API server's JSON."""
    found: Object = client.ApiClient().sanitize_for_serialization(thing)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
