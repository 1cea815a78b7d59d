"""Dask in one pod, and as a scheduler with workers' pods that are made and replaced while the job runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from kubernetes.client import (
    ApiClient,
    V1ContainerState,
    V1ContainerStateTerminated,
    V1ContainerStatus,
    V1ObjectMeta,
    V1Pod,
    V1PodList,
    V1PodStatus,
)
from kubernetes.client.exceptions import ApiException

from tidepool import DaskClusterOperator, DaskPodOperator, JobError, JobPodOperator, dask_conf
from tidepool import capacity as document
from tidepool.capacity import Capacity, Pool
from tidepool.operators.members import MAIN_LABEL, REPLACEMENTS_PER_MEMBER, Members

IMAGES = Path(__file__).resolve().parents[2] / "images"

pytestmark = pytest.mark.usefixtures("dask_image")


@pytest.fixture
def dask_image(capacity_file: Path) -> None:
    capacity_file.write_text(
        capacity_file.read_text().replace('"spark": ', '"dask": "tidepool.local/dask:1", "spark": ')
    )


def pod_of(operator: JobPodOperator) -> dict[str, Any]:
    """The pod that the operator would create, as JSON."""
    operator.hook = mock.MagicMock(is_in_cluster=False)
    ti = SimpleNamespace(dag_id="d", task_id=operator.task_id, run_id="r", try_number=1, map_index=-1)
    operator.pod_request_obj = pod = operator.build_pod_request_obj({"ti": ti, "run_id": "r", "dag": None})
    found: dict[str, Any] = ApiClient().sanitize_for_serialization(pod)
    return found


def worker_of(operator: DaskClusterOperator) -> dict[str, Any]:
    """A worker's pod of a scheduler that runs, and so has a machine."""
    main = pod_of(operator)
    spec = {**main["spec"], "nodeName": "i-1"}
    return operator._worker({**main, "spec": spec, "status": {"phase": "Running", "podIP": "10.1.2.3"}}, "t-0")


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in pod["spec"]["containers"][0]["env"]}


def pools_of(pod: dict[str, Any]) -> list[str]:
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [each["values"][0] for term in terms["nodeSelectorTerms"] for each in term["matchExpressions"]]


@pytest.mark.parametrize(
    ("cores", "expected"),
    [(1, (1, 1)), (2, (2, 1)), (4, (4, 1)), (5, (5, 1)), (8, (4, 2)), (16, (4, 4)), (96, (12, 8))],
)
def test_cores_are_shared_out_to_processes_and_threads_as_dask_itself_would(
    cores: int, expected: tuple[int, int]
) -> None:
    assert dask_conf.processes(cores) == expected


def test_task_id_and_application_are_enough() -> None:
    pod = pod_of(DaskPodOperator(task_id="t", application="a.py", application_args=["--day", "1"]))
    container = pod["spec"]["containers"][0]
    assert container["image"] == "tidepool.local/dask:1"
    command = container["args"]
    assert command[-4:] == ["--", "/opt/tidepool/jobs/a.py", "--day", "1"]
    assert (value(command, "--workers"), value(command, "--threads"), value(command, "--host")) == (
        "2",
        "1",
        "127.0.0.1",
    )
    assert environment(pod)["DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT"] == "1800s"


def test_workers_and_program_and_margin_are_no_more_than_the_pods_memory() -> None:
    command = pod_of(DaskPodOperator(task_id="t", application="a.py", memory="3Gi"))["spec"]["containers"][0]["args"]
    each = int(value(command, "--memory-mib"))
    assert 3072 - 2 < 2 * each + dask_conf.PROGRAM_MIB + 154 <= 3072


def test_the_authors_own_settings_of_dask_win() -> None:
    name = "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT"
    pod = pod_of(DaskPodOperator(task_id="t", application="a.py", env_vars={name: "5s"}))
    assert [each for each in pod["spec"]["containers"][0]["env"] if each["name"] == name] == [
        {"name": name, "value": "5s"}
    ]


def test_more_memory_after_want_of_it_is_the_workers() -> None:
    operator = DaskPodOperator(task_id="t", application="a.py", memory="2Gi")
    before = int(value(operator.arguments, "--memory-mib"))
    bigger = DaskPodOperator(task_id="t", application="a.py", memory="3Gi").placement
    with mock.patch.object(operator, "render_template", lambda content, context: content):
        operator.resize(bigger, {})
    assert int(value(operator.arguments, "--memory-mib")) > before


def test_the_scheduler_is_on_demand_and_the_workers_on_the_best_pools_there_are() -> None:
    operator = DaskClusterOperator(task_id="t", application="a.py")
    main = pod_of(operator)
    worker = worker_of(operator)
    assert pools_of(main) == ["on-demand-small"]
    assert pools_of(worker) == ["spot-small", "on-demand-small"]
    assert "nodeName" not in worker["spec"]
    assert value(main["spec"]["containers"][0]["args"], "--host") == "$(TIDEPOOL_POD_IP)"
    assert value(main["spec"]["containers"][0]["args"], "--workers") == "0"
    assert "TIDEPOOL_POD_IP" in environment(main)


def test_a_worker_finds_the_scheduler_and_has_what_the_author_put_into_the_pod() -> None:
    operator = DaskClusterOperator(task_id="t", application="a.py", env_vars={"A": "b"}, team="research")
    worker = worker_of(operator)
    container = worker["spec"]["containers"][0]
    assert container["args"][:3] == ["dask", "worker", "tcp://10.1.2.3:8786"]
    assert value(container["args"], "--memory-limit") == "3283MiB"
    assert value(container["args"], "--host") == "$(TIDEPOOL_POD_IP)"
    assert environment(worker)["A"] == "b"
    assert container["resources"]["limits"] == {"memory": "6912Mi"}
    assert worker["metadata"]["namespace"] == "tidepool-research"
    assert worker["metadata"]["labels"]["tidepool.dev/role"] == "worker"
    assert not {"dag_id", "task_id", "run_id"} & set(worker["metadata"]["labels"])
    assert worker["spec"]["automountServiceAccountToken"] is False


def test_a_worker_that_must_go_gives_its_results_to_others_by_a_script_of_the_image() -> None:
    operator = DaskClusterOperator(task_id="t", application="a.py")
    worker = worker_of(operator)
    [*shell, script] = worker["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert shell == ["sh", "-c"]
    assert script == 'exec python /opt/tidepool/dask_retire.py tcp://10.1.2.3:8786 "$TIDEPOOL_POD_IP"'
    dockerfile = (IMAGES / "dask" / "Dockerfile").read_text()
    assert "images/dask/dask_retire.py /opt/tidepool/" in dockerfile


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"workers": 0}, r"'t': workers must be a whole number of at least 1, not 0"),
        ({"deferrable": True}, r"'t': deferrable: not with workers' pods"),
        ({"memory": "300Mi"}, r"each of 2 Dask workers gets 142 MiB, and it needs 256 MiB. Ask for at least .*540Mi"),
        ({"memory": "1Ti"}, r"'t' does not fit"),
        ({"scheduler_memory": "1Ti"}, r"'t' does not fit"),
        ({"gpus": 1}, r"gpus=1, but no job pool"),
        ({"arguments": ["x"]}, r"arguments: use `application_args`"),
        ({"application": "../x.py"}, r"application must be"),
    ],
)
def test_a_cluster_that_cannot_be_fails_where_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(JobError, match=words):
        DaskClusterOperator(**{"task_id": "t", "application": "a.py"} | arguments)


def test_an_environment_without_dasks_image_says_so(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool], capacity_file: Path
) -> None:
    capacity_file.write_text(document.dumps(capacity_of(pool("spot-small"))))
    with pytest.raises(JobError, match=r"no image given, and the capacity document has no 'dask' \(spark\)"):
        DaskPodOperator(task_id="t", application="a.py")


class Api:
    """The part of the API server that Members speaks to."""

    def __init__(self) -> None:
        self.pods: dict[str, V1Pod] = {}
        self.answers: list[ApiException] = []
        self.logs: dict[str, str] = {}
        self.asked = 0

    def list_namespaced_pod(self, namespace: str, label_selector: str, **_: Any) -> V1PodList:
        key, _equals, uid = label_selector.partition("=")
        return V1PodList(items=[pod for pod in self.pods.values() if pod.metadata.labels[key] == uid])

    def read_namespaced_pod_log(self, name: str, namespace: str, **_: Any) -> str:
        if name not in self.logs:
            raise ApiException(status=404, reason="Not Found")
        return self.logs[name]

    def create_namespaced_pod(self, namespace: str, body: dict[str, Any], **_: Any) -> None:
        self.asked += 1
        if self.answers:
            raise self.answers.pop()
        name = body["metadata"]["name"]
        if name in self.pods:
            raise ApiException(status=409)
        metadata = V1ObjectMeta(name=name, labels=body["metadata"]["labels"])
        metadata.owner_references = body["metadata"]["ownerReferences"]
        self.pods[name] = V1Pod(metadata=metadata, status=V1PodStatus(phase="Running"))


@pytest.fixture
def api() -> Api:
    return Api()


def members(api: Any, count: int = 2) -> Members:
    main = V1Pod(metadata=V1ObjectMeta(name="job", namespace="n", uid="u"))
    return Members(api, main, count, lambda _, name: {"metadata": {"name": name, "labels": {}}, "spec": {}})


def test_members_are_made_once_and_go_with_their_main_pod(api: Api) -> None:
    kept = members(api)
    kept.step()
    kept.step()
    assert sorted(api.pods) == ["job-0", "job-1"]
    [owner] = api.pods["job-0"].metadata.owner_references
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "job", "u")


def test_members_that_were_lost_are_replaced_under_new_names(api: Api) -> None:
    kept = members(api)
    kept.step()
    api.pods["job-0"].status.phase = "Failed"
    del api.pods["job-1"]
    kept.step()
    assert sorted(api.pods) == ["job-0", "job-2", "job-3"]


def test_the_last_words_of_a_member_that_failed_are_in_the_tasks_log_once(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    kept = members(api)
    kept.step()
    for pod in api.pods.values():
        ended = V1ContainerStateTerminated(exit_code=1, reason="Error", message="no space left")
        pod.status.phase = "Failed"
        pod.status.container_statuses = [
            V1ContainerStatus(
                name="base",
                image="i",
                image_id="i",
                ready=False,
                restart_count=0,
                state=V1ContainerState(terminated=ended),
            )
        ]
    api.logs = {"job-0": "starting\nOSError: no space left\n"}
    caplog.set_level("INFO")
    kept.step()
    kept.step()
    assert [line for line in caplog.messages if "job-0" in line or "job-1" in line] == [
        "Pod job-0 of the job ended with app_error: exit code 1\nno space left",
        "job-0: starting",
        "job-0: OSError: no space left",
        "Pod job-1 of the job ended with app_error: exit code 1\nno space left",
        "The log of pod job-1 cannot be read: Not Found",
    ]


def test_a_later_attempt_goes_on_with_the_members_that_there_are(api: Api) -> None:
    members(api).step()
    members(api).step()
    assert sorted(api.pods) == ["job-0", "job-1"]


def test_a_member_whose_creation_was_not_answered_is_not_made_twice(api: Api) -> None:
    kept = members(api)
    kept.step()
    for pod in api.pods.values():
        pod.metadata.labels = {MAIN_LABEL: "seen late"}
    kept._next = 0
    kept.step()
    assert sorted(api.pods) == ["job-0", "job-1"]


def test_what_the_api_server_refuses_is_asked_for_again(api: Api) -> None:
    api.answers = [ApiException(status=403, reason="quota")]
    kept = members(api)
    with pytest.raises(ApiException):
        kept.step()
    kept.step()
    assert sorted(api.pods) == ["job-0", "job-1"]


def test_a_job_that_loses_one_member_after_the_other_gets_no_more(api: Api) -> None:
    kept = members(api, count=1)
    for _ in range(2 * REPLACEMENTS_PER_MEMBER):
        kept.step()
        for pod in api.pods.values():
            pod.status.phase = "Failed"
    assert api.asked == 1 + REPLACEMENTS_PER_MEMBER
