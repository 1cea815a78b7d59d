"""What really happens to pods is named as it was brought about; TIDEPOOL_RECORD=1 keeps it for tests/dags/outcomes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from infra import naming
from infra.local.kube import api_client
from infra.local.progress import Progress
from infra.local.reclaim import reclaim
from tests.dags.outcomes import record
from tests.local.conftest import SPOT
from tidepool.capacity import POOL_LABEL
from tidepool.outcome import Seen, conclude

pytestmark = pytest.mark.local_cloud

NAMESPACE = naming.tenant_namespace("jobs")
CASES = Path(__file__).parents[1] / "dags" / "outcomes"
WAIT = "import time; time.sleep(3600)"
HUNGRY = "data = []\nwhile True: data.append(bytearray(b'x' * 2**24))"


def evict(local: Any, name: str) -> None:
    eviction = kubernetes.client.V1Eviction(metadata=kubernetes.client.V1ObjectMeta(name=name, namespace=NAMESPACE))
    local.api.create_namespaced_pod_eviction(name, NAMESPACE, eviction)


def delete(local: Any, name: str) -> None:
    local.api.delete_namespaced_pod(name, NAMESPACE)


def take_back_with_notice(local: Any, name: str) -> None:
    reclaim(local.cloud, local.pod(name).spec.node_name, 60, Progress(), is_announced=True)


def take_back(local: Any, name: str) -> None:
    local.aws.reclaim(local.pod(name).spec.node_name)


def waits_for_its_image(pod: dict[str, Any]) -> bool:
    states = [each["state"] for each in pod["status"].get("containerStatuses") or []]
    return any(state.get("waiting", {}).get("reason") == "ErrImagePull" for state in states)


def has_no_machine(pod: dict[str, Any]) -> bool:
    return any(each["reason"] == "Unschedulable" for each in pod["status"].get("conditions") or [] if "reason" in each)


@dataclass(frozen=True)
class End:
    """act: what is done to the pod once it runs, if anything. is_over: when there is nothing more to wait for."""

    cause: str
    about: str
    says: str
    code: str = WAIT
    act: Callable[[Any, str], None] | None = None
    is_over: Callable[[dict[str, Any]], bool] = record.has_ended
    image: str = ""
    selector: dict[str, str] | None = None
    is_alone: bool = False


ENDS = {
    "ok": End("ok", "A program that ends well.", "succeeded", "print('done')"),
    "app-error": End("app_error", "A program that raises.", "ValueError: no", "raise ValueError('no')"),
    "out-of-memory": End("out_of_memory", "More memory than the pod may have.", "OOMKilled", HUNGRY),
    "image-pull": End(
        "image_pull", "There is no such registry.", "ErrImagePull", image="127.0.0.1:1/x:1", is_over=waits_for_its_image
    ),
    "unschedulable": End(
        "unschedulable", "No machine is like that.", "nodes are available", selector={"a": "b"}, is_over=has_no_machine
    ),
    "deleted": End("cancelled", "Somebody deleted the running pod.", "deleted", act=delete),
    "evicted": End("evicted", "Evicted from a machine that is well.", "Eviction API", act=evict),
    "spot-notice": End(
        "spot_reclaim",
        "A notice, tainted and drained.",
        "spot-itn",
        act=take_back_with_notice,
        selector={POOL_LABEL: SPOT},
        is_alone=True,
    ),
    "node-lost": End("node_lost", "The machine was ended without a word.", "gone", act=take_back, is_alone=True),
}


def test_what_happens_to_a_pod_is_named_as_it_was_brought_about(local: Any) -> None:
    version = kubernetes.client.VersionApi(api_client(local.cloud.kubeconfig)).get_code().git_version
    with ThreadPoolExecutor(len(ENDS)) as watching:
        watched = {
            name: watching.submit(record.seen, local.api, NAMESPACE, f"recorded-{name}", end.is_over)
            for name, end in ENDS.items()
        }
        for name, end in ENDS.items():
            local.create(manifest(local, f"recorded-{name}", end))
        for name, end in ENDS.items():
            if end.act is not None:
                local.runs(f"recorded-{name}", 120)
                end.act(local, f"recorded-{name}")
        found = {name: each.result() for name, each in watched.items()}
    wrong = []
    for name, end in ENDS.items():
        if os.environ.get("TIDEPOOL_RECORD"):
            text = record.case(found[name], end.cause, end.about, end.says, version)
            (CASES / f"recorded-{name}.yaml").write_text(text, encoding="utf-8")
        told = conclude(Seen(**found[name]))
        if told.cause != end.cause or end.says not in told.message:
            wrong.append(f"{name}: {told}")
    assert not wrong, "\n".join(wrong)


def manifest(local: Any, name: str, end: End) -> dict[str, Any]:
    made: dict[str, Any] = local.job_pod(name, end.code, cores=1, memory="256Mi", exclusive=end.is_alone)
    [container] = made["spec"]["containers"]
    container["terminationMessagePolicy"] = "FallbackToLogsOnError"  # as the operators have it
    container["image"] = end.image or container["image"]
    if end.selector:
        made["spec"]["nodeSelector"] = end.selector
    return made
