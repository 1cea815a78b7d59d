"""What the operators ask Kubernetes for, and what they refuse when the DAG file is parsed."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.sdk import DAG
from kubernetes import client
from kubernetes.client import ApiClient

import tidepool
from tidepool import CapacityError, JobError, JobPodOperator, SparkPodOperator
from tidepool import capacity as document
from tidepool.capacity import Capacity, Pool

DAGS = Path(__file__).resolve().parents[2] / "dags"

pytestmark = pytest.mark.usefixtures("capacity_file")


def pod_of(operator: JobPodOperator, dag: str = "d", run: str = "r", attempt: int = 1) -> dict[str, Any]:
    """The pod that the operator would create, as JSON."""
    operator.hook = mock.MagicMock(is_in_cluster=False)
    ti = SimpleNamespace(dag_id=dag, task_id=operator.task_id, run_id=run, try_number=attempt, map_index=-1)
    pod = operator.build_pod_request_obj({"ti": ti, "run_id": run, "dag": None})
    found: dict[str, Any] = ApiClient().sanitize_for_serialization(pod)
    return found


def test_task_id_and_application_are_enough() -> None:
    pod = pod_of(SparkPodOperator(task_id="clean", application="clean.py"), dag="flights", run="manual__1", attempt=2)
    container = pod["spec"]["containers"][0]
    assert container["image"] == "tidepool.local/spark:abc123"
    assert container["args"][:3] == ["spark-submit", "--name", "{{ ti.dag_id }}.{{ ti.task_id }}"]
    assert container["args"][-1] == "/opt/tidepool/jobs/clean.py"
    assert "spark.master=local[2,4]" in container["args"]
    assert container["resources"] == {
        "requests": {"cpu": "1680m", "memory": "6912Mi"},
        "limits": {"memory": "6912Mi"},
    }
    assert not container.get("command")  # the image's own init process
    assert pod["metadata"]["namespace"] == "tidepool-analytics"
    labels = pod["metadata"]["labels"]
    assert {key: value for key, value in labels.items() if key.startswith("tidepool.dev/")} == {
        "tidepool.dev/pool": "spot-small",
        "tidepool.dev/owner-dag": "flights",
        "tidepool.dev/owner-task": "clean",
        "tidepool.dev/owner-run": "manual__1",
        "tidepool.dev/attempt": "2",
        "tidepool.dev/team": "analytics",
    }
    assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_what_the_job_pod_promises_survives_the_stock_operator() -> None:
    spec = pod_of(SparkPodOperator(task_id="t", application="a.py"))["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "job"
    assert spec["priorityClassName"] == "tidepool-job"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["containers"][0]["workingDir"] == spec["containers"][0]["volumeMounts"][0]["mountPath"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [term["matchExpressions"][0]["values"] for term in terms] == [["spot-small"], ["on-demand-small"]]


def test_the_authors_own_arguments_are_added_and_take_nothing_away() -> None:
    operator = SparkPodOperator(
        task_id="t",
        application="a.py",
        application_args=["--day", "{{ ds }}"],
        conf={"spark.sql.shuffle.partitions": "99"},
        image="mine/spark:1",
        team="research",
        env_vars={"A": "b"},
        labels={"mine": "yes", "tidepool.dev/team": "sales"},
        priority_class_name="tidepool-job-high",
        tolerations=[{"key": "gpu", "operator": "Exists"}],
    )
    pod = pod_of(operator)
    container = pod["spec"]["containers"][0]
    assert container["image"] == "mine/spark:1"
    assert container["args"][-3:] == ["/opt/tidepool/jobs/a.py", "--day", "{{ ds }}"]
    assert "spark.sql.shuffle.partitions=99" in container["args"]
    names = [item["name"] for item in container["env"]]
    assert names == ["HOME", "PYTHONUNBUFFERED", "TIDEPOOL_LAKE", "A", "TIDEPOOL_CHECKPOINT"]
    assert [item["key"] for item in pod["spec"]["tolerations"]] == ["tidepool.dev/pool", "tidepool.dev/pool", "gpu"]
    assert pod["metadata"]["labels"]["mine"] == "yes"
    assert pod["spec"]["priorityClassName"] == "tidepool-job-high"


def test_the_team_says_where_a_job_runs_and_whose_it_is_whatever_the_labels_say() -> None:
    pod = pod_of(JobPodOperator(task_id="t", image="i:1", team="research", labels={"tidepool.dev/team": "sales"}))
    assert pod["metadata"]["namespace"] == "tidepool-research"
    assert pod["metadata"]["labels"]["tidepool.dev/team"] == "research"
    assert pod["metadata"]["annotations"]["tidepool.dev/team"] == "research"


def test_the_team_of_a_whole_dag_is_a_default_argument() -> None:
    with DAG("d", schedule=None, default_args={"team": "research", "namespace": None}):
        operator = SparkPodOperator(task_id="t", application="a.py")
    assert (operator.team, operator.namespace) == ("research", "tidepool-research")


@pytest.mark.parametrize("name", ["namespace", "service_account_name"])
def test_what_the_team_decides_is_refused_also_as_a_default_argument(name: str) -> None:
    with (
        DAG("d", schedule=None, default_args={name: "tidepool-research"}),
        pytest.raises(JobError, match=f"'t': not for the author to give: {name}: name a `team`"),
    ):
        SparkPodOperator(task_id="t", application="a.py")


def test_gpus_are_the_containers_own(
    capacity_of: Callable[..., Capacity], pool: Callable[..., Pool], capacity_file: Path
) -> None:
    capacity_file.write_text(document.dumps(capacity_of(pool("gpu", gpus=1), pool("plain"))))
    pod = pod_of(SparkPodOperator(task_id="t", application="a.py", gpus=1))
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["metadata"]["labels"]["tidepool.dev/pool"] == "gpu"


def test_any_image_can_be_a_job() -> None:
    pod = pod_of(JobPodOperator(task_id="t", image="duckdb:1", arguments=["query.sql"], exclusive=False, memory="1Gi"))
    container = pod["spec"]["containers"][0]
    assert (container["image"], container["args"]) == ("duckdb:1", ["query.sql"])
    assert container["resources"]["requests"] == {"cpu": "840m", "memory": "1024Mi"}


def test_defaults_suit_a_job_on_a_machine_that_is_yet_to_be_bought() -> None:
    operator = SparkPodOperator(task_id="t", application="a.py")
    assert operator.schedule_timeout_seconds == 1800
    assert operator.startup_timeout_seconds == 600
    assert (operator.retries, operator.retry_delay) == (3 + 10 + 2, datetime.timedelta(seconds=10))
    assert operator.on_finish_action.value == "delete_pod"
    assert operator.random_name_suffix
    assert operator.get_logs
    assert not operator.log_pod_spec_on_failure
    assert operator.pool == "default_pool"  # Airflow's own


def test_default_args_of_the_dag_win_over_tidepools_defaults() -> None:
    given = {
        "retries": 7,
        "platform_retries": 4,
        "schedule_timeout_seconds": 60,
        "memory": "2Gi",
        "on_finish_action": "keep_pod",
    }
    with DAG("d", schedule=None, default_args=given):
        operator = SparkPodOperator(task_id="t", application="a.py")
    assert operator.retries == 7 + 4 + 2
    assert operator.schedule_timeout_seconds == 60
    assert operator.on_finish_action.value == "keep_pod"
    assert operator.placement.memory_bytes == 2 * 1024**3


def test_every_attempt_of_a_task_in_a_run_finds_the_same_folder_for_checkpoints_unless_the_author_names_one() -> None:
    def folder(**asked: Any) -> set[str]:
        pods = [pod_of(JobPodOperator(task_id="t", image="i:1", **asked), attempt=attempt) for attempt in (1, 2)]
        found = [{each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]} for pod in pods]
        return {each["TIDEPOOL_CHECKPOINT"] for each in found}

    assert len(folder()) == 1
    assert folder().pop().endswith("/checkpoints/d/t/r")
    assert folder(env_vars={"TIDEPOOL_CHECKPOINT": "s3a://mine"}) == {"s3a://mine"}


def test_pool_is_the_machines_and_airflow_pool_is_airflows() -> None:
    with DAG("d", schedule=None, default_args={"pool": "on-demand-small"}):
        operator = SparkPodOperator(task_id="t", application="a.py", airflow_pool="quota")
    assert [pool.name for pool in operator.placement.pools] == ["on-demand-small"]
    assert operator.pool == "quota"


def test_a_mapped_task_gets_the_same_defaults() -> None:
    with DAG("d", schedule=None) as dag:
        SparkPodOperator.partial(task_id="t", application="a.py").expand(application_args=[["1"], ["2"]])
    mapped = dag.task_dict["t"]
    assert (mapped.retries, mapped.pool) == (15, "default_pool")
    unmapped = mapped.unmap({"application_args": ["1"]})
    assert unmapped.arguments[-1] == "1"
    assert unmapped.retries == 15
    assert unmapped.retry_policy == mapped.retry_policy


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"team": "sales"}, r"'clean': there is no team 'sales'; the teams are: analytics, research"),
        ({"gpus": 1}, r"'clean': gpus=1, but no job pool has so many on a machine; .*: none"),
        ({"namespace": "x", "service_account_name": "y"}, r"namespace: name a `team`; service_account_name: name a"),
        ({"pool": "gpu"}, r"'clean'.*no pool 'gpu'; the job pools are: on-demand-small, spot-small"),
        ({"memory": "1Ti"}, r"'clean' does not fit.*the largest machine.*2 cores and 6\.7 GiB"),
        ({"memory": "700Mi"}, r"'clean'.*heap"),
        ({"memory": "3GB"}, r"'clean'.*must be a Kubernetes quantity"),
        ({"cores": 0}, r"'clean'.*cores"),
        ({"application": "../x.py"}, r"'clean'.*application must be"),
        ({"affinity": {}, "container_resources": {"limits": {}}}, r"affinity: name a `pool`; container_resources: ask"),
        ({"arguments": ["x"]}, r"arguments: use `application_args`"),
        ({"conf": {"spark.master": "yarn"}}, r"'clean': conf spark\.master is derived from cores"),
        ({"application_args": "--day 1"}, r"'clean': application_args: must be a list, such as .*, not '--day 1'"),
        ({"application_args": None}, r"'clean': application_args: must be a list"),
        ({"retries": "a"}, r"'clean': retries: must be a whole number of attempts, 0 for none, not 'a'"),
        (
            {"platform_retries": -1, "memory_retries": 0.5},
            r"platform_retries: must be .*, not -1; memory_retries: must be .*, not 0\.5",
        ),
        (
            {"affinity": {}, "cores": 0, "market": "cheap"},
            r"cores: must .*; market must be .*; not for the author to give: affinity",
        ),
        (
            {"cores": 0, "market": "cheap", "team": "x", "pool": "y"},
            r"cores: must .*; market must .*; there is no team 'x'.*; there is no pool 'y'",
        ),
        (
            {"conf": {"spark.master": "yarn"}, "executors": 99, "application": "../x.py"},
            r"'clean': application must .*; conf spark.master is derived from cores.*; executors=99, with 2 cores",
        ),
    ],
)
def test_a_job_that_cannot_be_fails_where_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(JobError, match=words):
        SparkPodOperator(**{"task_id": "clean", "application": "clean.py"} | arguments)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (
            tidepool.SparkClusterOperator,
            {"gpus": 1, "executors": 0, "cores": 0, "driver_cores": "x", "application_args": "a"},
            r"gpus: executors have none.*; application_args.*; executors must .*; cores: .*not 0; cores: .*not 'x'",
        ),
        (
            tidepool.DaskClusterOperator,
            {"workers": 0, "deferrable": True, "team": "x", "image": "i:1"},
            r"'t': workers must .*; deferrable: not .*; there is no team 'x'",
        ),
        (tidepool.SparklingWaterPodOperator, {"executors": 2, "cores": 0}, r"executors: H2O .*; no image .*; cores"),
    ],
)
def test_everything_that_is_wrong_with_a_job_of_any_kind_is_told_at_once(
    kind: type[JobPodOperator], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(JobError, match=words):
        kind(**{"task_id": "t", "application": "a.py"} | given)


def test_retries_that_are_none_are_refused_also_of_a_mapped_task() -> None:
    with DAG("d"), pytest.raises(JobError, match=r"'t': memory_retries: must be a whole number"):
        SparkPodOperator.partial(task_id="t", application="a.py", memory_retries=-1)


FULL_POD_SPECS = {
    r"metadata.namespace of full_pod_spec: name a `team`": {"metadata": {"namespace": "x"}},
    r"spec.affinity of full_pod_spec: name a `pool`": {"spec": {"affinity": client.V1Affinity()}},
    r"spec.nodeName of full_pod_spec: name a `pool`": {"spec": {"node_name": "i-1"}},
    r"spec.serviceAccountName of full_pod_spec: name a `team`": {"spec": {"service_account_name": "job-driver"}},
    r"the first container's resources of full_pod_spec: ask for `cores`": {
        "resources": client.V1ResourceRequirements(requests={"cpu": "10m"})
    },
    r"metadata.labels tidepool.dev/pool of full_pod_spec: ": {"metadata": {"labels": {"tidepool.dev/pool": "system"}}},
    r"metadata.annotations tidepool.dev/lease of full_pod_spec: ": {
        "metadata": {"annotations": {"tidepool.dev/lease": "x"}}
    },
}


def full_pod_spec(
    metadata: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **container: Any
) -> client.V1Pod:
    base = client.V1Container(name="base", **container)
    return client.V1Pod(
        metadata=client.V1ObjectMeta(**metadata or {}), spec=client.V1PodSpec(containers=[base], **spec or {})
    )


@pytest.mark.parametrize("words", FULL_POD_SPECS)
def test_a_full_pod_spec_may_not_undo_what_the_arguments_may_not(words: str) -> None:
    with pytest.raises(JobError, match=f"'t': not for the author to give: {words}"):
        JobPodOperator(task_id="t", image="i:1", full_pod_spec=full_pod_spec(**FULL_POD_SPECS[words]))


def test_a_full_pod_spec_may_say_anything_else() -> None:
    more = full_pod_spec({"labels": {"mine": "yes"}}, {"runtime_class_name": "nvidia"}, tty=True)
    pod = pod_of(JobPodOperator(task_id="t", image="i:1", full_pod_spec=more))
    assert pod["metadata"]["labels"]["mine"] == "yes"
    assert (pod["spec"]["runtimeClassName"], pod["spec"]["containers"][0]["tty"]) == ("nvidia", True)
    assert pod["spec"]["serviceAccountName"] == "job"
    assert pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "1680m"


def test_where_a_job_is_and_whose_follows_from_the_job_whatever_labels_and_annotations_say() -> None:
    given = {"tidepool.dev/pool": "system", "tidepool.dev/main": "x", "tidepool.dev/holder": "9", "mine": "yes"}
    metadata = pod_of(JobPodOperator(task_id="t", image="i:1", labels=given, annotations=given))["metadata"]
    assert metadata["labels"]["tidepool.dev/pool"] == "spot-small"
    for kind in ("labels", "annotations"):
        assert metadata[kind]["mine"] == "yes"
        assert not {"tidepool.dev/main", "tidepool.dev/holder"} & set(metadata[kind])
    with DAG("d", default_args={"labels": given}):
        operator = JobPodOperator(task_id="t", image="i:1")
    assert operator.labels == {"mine": "yes"}  # by these the next attempt looks for the pod


def test_arguments_may_be_what_another_task_returns() -> None:
    with DAG("d", schedule=None):
        first = JobPodOperator(task_id="first", image="i:1", do_xcom_push=True)
        made = [
            SparkPodOperator(task_id="all", application="a.py", application_args=first.output),
            SparkPodOperator(task_id="some", application="a.py", application_args=["--rows", first.output["rows"]]),
            JobPodOperator(task_id="command", image="i:1", arguments=first.output),
        ]
    assert [each.upstream_task_ids for each in made] == [{"first"}] * 3
    for operator, returned, args in (
        (made[0], ["--day", 1], ["--day", "1"]),
        (made[1], 3, ["--rows", "3"]),
        (made[2], ["x", 2], ["x", "2"]),
    ):
        unknown = pod_of(operator)["spec"]["containers"][0]["args"]  # as `tidepool check` looks at it
        assert all(isinstance(each, str) for each in unknown)
        ti = mock.MagicMock(dag_id="d", task_id=operator.task_id, run_id="r", map_index=-1)
        ti.xcom_pull.return_value = returned
        operator.render_template_fields({"ti": ti, "run_id": "r"})
        assert pod_of(operator)["spec"]["containers"][0]["args"][-2:] == args


def test_without_a_capacity_document_the_dag_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEPOOL_CAPACITY")
    with pytest.raises(CapacityError, match="TIDEPOOL_CAPACITY is not set"):
        SparkPodOperator(task_id="t", application="a.py")


def test_an_image_that_the_environment_lacks_is_named(capacity_file: Path) -> None:
    capacity_file.write_text(capacity_file.read_text().replace('"spark": ', '"dask": '))
    with pytest.raises(JobError, match=r"no image given, and the capacity document has no 'spark' \(dask\)"):
        SparkPodOperator(task_id="t", application="a.py")


def test_the_public_names_are_these() -> None:
    assert sorted(tidepool.__all__) == [
        "CapacityError",
        "Cause",
        "DaskClusterOperator",
        "DaskPodOperator",
        "JobError",
        "JobFailed",
        "JobPodOperator",
        "SparkApplicationOperator",
        "SparkClusterOperator",
        "SparkPodOperator",
        "SparklingWaterPodOperator",
        "deadline_alert",
    ]
    for name in tidepool.__all__:
        assert getattr(tidepool, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'SparkOperator'; it has CapacityError"):
        tidepool.SparkOperator  # noqa: B018


def test_the_capacity_document_is_read_without_airflow() -> None:
    program = (
        "import sys, tidepool.capacity, tidepool.pod, tidepool.sizing, tidepool.spark_conf, tidepool.outcome\n"
        "print(sorted({'airflow', 'kubernetes', 'pulumi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=DAGS, check=True)
    assert done.stdout.strip() == "[]"
