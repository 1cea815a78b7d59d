"""Every argument of KubernetesPodOperator is accepted, or refused on purpose: whatever provider is installed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.secret import Secret
from kubernetes import client
from kubernetes.client import ApiClient

from tidepool import (
    DaskPodOperator,
    JobError,
    JobPodOperator,
    SparkApplicationOperator,
    SparkClusterOperator,
    SparkPodOperator,
)
from tidepool.operators.arguments import REFUSED

pytestmark = pytest.mark.usefixtures("capacity_file")

OWN = {"image"}
"""Arguments of tidepool's own too."""

CONTAINER = "spec.containers.0"


def has(name: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda variables: name in [each["name"] for each in variables]


IN_POD: dict[str, tuple[Any, str, Any]] = {
    "name": ("my-job", "metadata.name", lambda name: name.startswith("my-job-")),
    "cmds": (["sh", "-c"], f"{CONTAINER}.command", ["sh", "-c"]),
    "arguments": (["a", "b"], f"{CONTAINER}.args", ["a", "b"]),
    "ports": ([client.V1ContainerPort(container_port=80)], f"{CONTAINER}.ports.0.containerPort", 80),
    "volume_mounts": ([client.V1VolumeMount(name="v", mount_path="/v")], f"{CONTAINER}.volumeMounts.1.mountPath", "/v"),
    "volumes": ([client.V1Volume(name="v", empty_dir={})], "spec.volumes.1.name", "v"),
    "env_vars": ({"A": "b"}, f"{CONTAINER}.env", has("A")),
    "env_from": (
        [client.V1EnvFromSource(config_map_ref=client.V1ConfigMapEnvSource(name="c"))],
        f"{CONTAINER}.envFrom.0.configMapRef.name",
        "c",
    ),
    "secrets": ([Secret("env", "S", "s", "k")], f"{CONTAINER}.env", has("S")),
    "configmaps": (["c"], f"{CONTAINER}.envFrom.0.configMapRef.name", "c"),
    "labels": ({"mine": "yes"}, "metadata.labels.mine", "yes"),
    "annotations": ({"mine": "yes"}, "metadata.annotations.mine", "yes"),
    "base_container_name": ("main", f"{CONTAINER}.name", "main"),
    "image_pull_policy": ("Always", f"{CONTAINER}.imagePullPolicy", "Always"),
    "runtime_class_name": ("gvisor", "spec.runtimeClassName", "gvisor"),
    "node_selector": ({"zone": "a"}, "spec.nodeSelector.zone", "a"),
    "image_pull_secrets": ([client.V1LocalObjectReference(name="s")], "spec.imagePullSecrets.0.name", "s"),
    "automount_service_account_token": (True, "spec.automountServiceAccountToken", True),
    "hostnetwork": (True, "spec.hostNetwork", True),
    "host_aliases": ([client.V1HostAlias(ip="10.0.0.1", hostnames=["h"])], "spec.hostAliases.0.ip", "10.0.0.1"),
    "tolerations": ([client.V1Toleration(key="gpu", operator="Exists")], "spec.tolerations.-1.key", "gpu"),
    "security_context": ({"fsGroup": 7}, "spec.securityContext.fsGroup", 7),
    "container_security_context": ({"runAsUser": 7}, f"{CONTAINER}.securityContext.runAsUser", 7),
    "dnspolicy": ("Default", "spec.dnsPolicy", "Default"),
    "dns_config": (client.V1PodDNSConfig(searches=["x"]), "spec.dnsConfig.searches", ["x"]),
    "hostname": ("h", "spec.hostname", "h"),
    "subdomain": ("s", "spec.subdomain", "s"),
    "schedulername": ("mine", "spec.schedulerName", "mine"),
    "full_pod_spec": (
        client.V1Pod(metadata=client.V1ObjectMeta(labels={"mine": "yes"})),
        "metadata.labels.mine",
        "yes",
    ),
    "init_containers": ([client.V1Container(name="i", image="i")], "spec.initContainers.0.name", "i"),
    "priority_class_name": ("tidepool-job-low", "spec.priorityClassName", "tidepool-job-low"),
    "pod_runtime_info_envs": (
        [client.V1EnvVar(name="N", value_from={"fieldRef": {"fieldPath": "spec.nodeName"}})],
        f"{CONTAINER}.env",
        has("N"),
    ),
    "termination_grace_period": (7, "spec.terminationGracePeriodSeconds", 7),
    "termination_message_policy": ("File", f"{CONTAINER}.terminationMessagePolicy", "File"),
    "active_deadline_seconds": (7, "spec.activeDeadlineSeconds", 7),
}
"""By argument: a value, where in the pod it is found, and as what or how."""

OF_THE_TASK: dict[str, Any] = {
    "kubernetes_conn_id": "mine",
    "random_name_suffix": False,
    "in_cluster": True,
    "cluster_context": "c",
    "reattach_on_restart": False,
    "durable": False,
    "startup_timeout_seconds": 7,
    "startup_check_interval_seconds": 7,
    "schedule_timeout_seconds": 7,
    "get_logs": False,
    "base_container_status_polling_interval": 7.0,
    "init_container_logs": True,
    "container_logs": True,
    "config_file": "/etc/kubeconfig",
    "xcom_sidecar_container_security_context": {"runAsUser": 7},
    "log_events_on_failure": True,
    "log_events_on_startup": False,
    "do_xcom_push": True,
    "skip_on_exit_code": [7],
    "deferrable": True,
    "poll_interval": 7.0,
    "log_pod_spec_on_failure": True,
    "on_finish_action": "keep_pod",
    "on_kill_action": "keep_pod",
    "is_delete_operator_pod": True,
    "callbacks": [KubernetesPodOperatorCallback],
    "progress_callback": print,
    "logging_interval": 7,
    "trigger_kwargs": {"a": 1},
    "container_name_log_prefix_enabled": False,
    "log_formatter": lambda name, line: line,
}
"""By argument: a value. They say how the task follows its pod."""

KEPT_AS = {"is_delete_operator_pod": "on_finish_action", "progress_callback": "_progress_callback"}
"""The provider keeps these under another name."""

KINDS: list[tuple[Any, dict[str, Any]]] = [
    (JobPodOperator, {"image": "i:1"}),
    (SparkPodOperator, {"application": "a.py"}),
    (SparkClusterOperator, {"application": "a.py"}),
    (SparkApplicationOperator, {"application": "a.py"}),
    (DaskPodOperator, {"application": "a.py", "image": "i:1"}),
]

ADVICE = (
    "KubernetesPodOperator has arguments that nobody has looked at: put each into IN_POD or OF_THE_TASK with a value, "
    "or refuse it (REFUSED in dags/tidepool/operators/arguments.py) where it would undo a job's place, size or owner"
)


def stock() -> set[str]:
    return set(inspect.signature(KubernetesPodOperator.__init__).parameters) - {"self", "kwargs"}


def unknown(there: set[str]) -> list[str]:
    return sorted(there - set(IN_POD) - set(OF_THE_TASK) - set(REFUSED) - OWN)


def test_every_argument_of_the_provider_has_been_looked_at() -> None:
    assert unknown(stock()) == [], ADVICE


def test_an_argument_that_a_new_provider_brings_is_noticed() -> None:
    assert unknown({*stock(), "sidecars"}) == ["sidecars"]


def test_nothing_is_listed_that_the_provider_no_longer_has() -> None:
    assert sorted({*IN_POD, *OF_THE_TASK, *REFUSED, *OWN} - stock()) == []


def built(operator: JobPodOperator) -> dict[str, Any]:
    operator.hook = mock.MagicMock(is_in_cluster=False)
    ti = SimpleNamespace(dag_id="d", task_id=operator.task_id, run_id="r", try_number=1, map_index=-1)
    pod = operator.build_pod_request_obj({"ti": ti, "run_id": "r", "dag": None})
    found: dict[str, Any] = ApiClient().sanitize_for_serialization(pod)
    return found


def at(pod: Any, path: str) -> Any:
    for key in path.split("."):
        pod = pod[int(key)] if isinstance(pod, list) else pod[key]
    return pod


@pytest.mark.parametrize(("kind", "what"), KINDS, ids=lambda each: getattr(each, "__name__", ""))
@pytest.mark.parametrize("name", IN_POD)
def test_what_is_for_the_pod_comes_into_it(kind: Any, what: dict[str, Any], name: str) -> None:
    value, path, expected = IN_POD[name]
    given = {"task_id": "t", **what, name: value}
    if name in kind.refused:
        with pytest.raises(JobError, match=f"not for the author to give: {name}: "):
            kind(**given)
        return
    pod = built(kind(**given))
    found = at(pod, path)
    assert expected(found) if callable(expected) else found == expected
    assert pod["metadata"]["labels"]["tidepool.dev/owner-task"] == "t"


@pytest.mark.filterwarnings("ignore:`reattach_on_restart` is deprecated")
@pytest.mark.parametrize(("kind", "what"), KINDS, ids=lambda each: getattr(each, "__name__", ""))
@pytest.mark.parametrize("name", OF_THE_TASK)
def test_what_is_for_the_task_is_kept_by_it(kind: Any, what: dict[str, Any], name: str) -> None:
    operator = kind(**{"task_id": "t", **what, name: OF_THE_TASK[name]})
    kept = getattr(operator, KEPT_AS.get(name, name))
    if name != "is_delete_operator_pod":  # which the provider no longer heeds
        assert getattr(kept, "value", kept) == OF_THE_TASK[name]
    assert built(operator)["spec"]["containers"][0]["name"] == "base"


@pytest.mark.parametrize(("kind", "what"), KINDS, ids=lambda each: getattr(each, "__name__", ""))
def test_what_would_undo_a_job_is_refused_by_every_kind(kind: Any, what: dict[str, Any]) -> None:
    for name in REFUSED:
        with pytest.raises(JobError, match=f"not for the author to give: {name}: "):
            kind(**{"task_id": "t", **what, name: {"a": "b"}})
