"""Spark by the spark-operator: what it is asked for, and what becomes of the task. A fake makes the driver pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from kubernetes.client.exceptions import ApiException

from infra import versions
from tests.dags.fake_kubernetes import NAMESPACE, Clock, Kubernetes, Watch, connect, context
from tidepool import Cause, JobFailed, SparkApplicationOperator, spark_application
from tidepool.operators import application_manager
from tidepool.operators import spark_application as operators

Object = dict[str, Any]


class SparkOperator:
    """Applications in memory. react: what it does with a new one; unless told otherwise, it starts the driver's pod."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self.kubernetes = kubernetes
        self.there: dict[str, Object] = {}
        self.made: list[Object] = []
        self.react: Callable[[Object], None] = self.start_driver
        self.answer_lost = False

    def start_driver(self, application: Object) -> None:
        template = application["spec"]["driver"]["template"]
        self.kubernetes.put(application["metadata"]["name"], labels=dict(template["metadata"]["labels"]))

    def say(self, application: Object, state: str, message: str = "") -> None:
        application["status"] = {"applicationState": {"state": state, "errorMessage": message}}

    def create_namespaced_custom_object(self, group: str, version: str, namespace: str, plural: str, body: Any) -> None:
        assert (group, version, plural) == ("sparkoperator.k8s.io", "v1beta2", "sparkapplications")
        assert namespace == body["metadata"]["namespace"] == NAMESPACE
        name = body["metadata"]["name"]
        if name in self.there:
            raise ApiException(status=409)
        self.there[name] = body
        self.made.append(body)
        self.react(body)
        if self.answer_lost:
            self.answer_lost = False
            raise ApiException(status=504)

    def get_namespaced_custom_object(self, group: str, version: str, namespace: str, plural: str, name: str) -> Object:
        if name not in self.there:
            raise ApiException(status=404)
        return self.there[name]

    def list_namespaced_custom_object(
        self, group: str, version: str, namespace: str, plural: str, label_selector: str
    ) -> Object:
        wanted = dict(each.split("=") for each in label_selector.split(","))
        found = [each for each in self.there.values() if wanted.items() <= each["metadata"].get("labels", {}).items()]
        return {"items": found}

    def delete_namespaced_custom_object(self, group: str, version: str, namespace: str, plural: str, name: str) -> None:
        if name not in self.there:
            raise ApiException(status=404)
        del self.there[name]
        self.kubernetes.pods.pop(name, None)


@pytest.fixture
def operator(kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> SparkOperator:
    made = SparkOperator(kubernetes)
    monkeypatch.setattr(operators, "CustomObjectsApi", lambda _: made)
    return made


def task(operator: SparkOperator, **arguments: Any) -> SparkApplicationOperator:
    given = {"task_id": "clean", "application": "clean.py", "application_args": ["--day", "1"], "executors": 3}
    made = SparkApplicationOperator(**given | arguments)
    connect(made, operator.kubernetes)
    return made


def failed(job: SparkApplicationOperator) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        job.execute(context())
    return caught.value


def test_the_spark_operator_is_asked_for_what_the_job_asks_for(operator: SparkOperator) -> None:
    task(operator, conf={"spark.sql.shuffle.partitions": "9"}).execute(context())
    [application] = operator.made
    spec = application["spec"]
    assert (application["apiVersion"], application["kind"]) == ("sparkoperator.k8s.io/v1beta2", "SparkApplication")
    assert (spec["type"], spec["mode"], spec["restartPolicy"]) == ("Python", "cluster", {"type": "Never"})
    assert spec["mainApplicationFile"] == "local:///opt/tidepool/jobs/clean.py"
    assert spec["arguments"] == ["--day", "1"]
    assert spec["image"] == "tidepool.local/spark:abc123"
    assert spec["executor"]["instances"] == 3
    assert spec["sparkConf"]["spark.sql.shuffle.partitions"] == "9"
    assert spec["sparkConf"]["spark.decommission.enabled"] == "true"
    assert spec["sparkConf"]["spark.kubernetes.driver.pod.name"] == application["metadata"]["name"]
    assert not [value for value in spec["sparkConf"].values() if "$(" in value]


def test_pods_are_as_large_as_those_that_spark_makes_by_itself(operator: SparkOperator) -> None:
    task(operator, driver_memory="3Gi").execute(context())
    spec = operator.made[0]["spec"]
    sizes = [
        sum(int(spec[part][field].removesuffix("m")) for field in ("memory", "memoryOverhead"))
        for part in ("driver", "executor")
    ]
    assert sizes == [3072, 6912]
    assert spec["executor"]["coreRequest"] == "1680m"


def test_driver_and_executors_have_their_place_their_rights_and_their_owner(operator: SparkOperator) -> None:
    task(operator, env_vars={"A": "b"}).execute(context())
    spec = operator.made[0]["spec"]
    driver, executor = (spec[part]["template"] for part in ("driver", "executor"))
    assert (driver["spec"]["serviceAccountName"], executor["spec"]["serviceAccountName"]) == ("job-driver", "job")
    for pod in (driver, executor):
        [container] = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert "A" in [each["name"] for each in container["env"]]
        assert not {"args", "command", "resources"} & set(container)
        assert pod["metadata"]["labels"]["tidepool.dev/owner-dag"] == "d"
        assert pod["spec"]["affinity"]["nodeAffinity"]
    # By these a later attempt finds the driver's pod, and only that.
    assert "dag_id" in driver["metadata"]["labels"]
    assert "dag_id" not in executor["metadata"]["labels"]
    assert operator.made[0]["metadata"]["labels"]["tidepool.dev/owner-dag"] == "d"


def test_labels_that_the_spark_operator_puts_on_all_pods_of_an_application_are_true_of_each(
    operator: SparkOperator,
) -> None:
    task(operator).execute(context())
    [application] = operator.made
    for part in ("driver", "executor"):
        own = application["spec"][part]["template"]["metadata"]["labels"]
        assert application["metadata"]["labels"].items() <= own.items()
    assert "tidepool.dev/role" not in application["metadata"]["labels"]
    assert "tidepool.dev/owner-task" in application["metadata"]["labels"]


def test_a_driver_is_told_to_make_and_remove_nothing_besides_pods(operator: SparkOperator) -> None:
    task(operator).execute(context())
    settings = operator.made[0]["spec"]["sparkConf"]
    assert settings["spark.kubernetes.executor.disableConfigMap"] == "true"
    assert settings["spark.kubernetes.driver.service.deleteOnTermination"] == "false"
    assert "NetworkPolicy" in settings["spark.kubernetes.driver.pod.excludedFeatureSteps"]


def test_executors_that_come_and_go_are_the_spark_operators_dynamic_allocation(operator: SparkOperator) -> None:
    task(operator, executors=(0, 8)).execute(context())
    spec = operator.made[0]["spec"]
    assert spec["dynamicAllocation"] == {"enabled": True, "minExecutors": 0, "maxExecutors": 8}
    assert spec["executor"]["instances"] == 1  # the resource's least
    assert spec["sparkConf"]["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"


def test_a_job_that_succeeds_leaves_no_application(operator: SparkOperator) -> None:
    task(operator).execute(context())
    assert (operator.there, operator.kubernetes.pods) == ({}, {})
    assert len(operator.made) == 1


def test_a_driver_that_fails_is_the_jobs_failure_with_its_cause(operator: SparkOperator) -> None:
    def script(name: str) -> None:
        operator.kubernetes.end(name, "Failed", 137, "OOMKilled")
        Watch.last = operator.kubernetes.json(name)

    operator.kubernetes.script = script
    assert failed(task(operator)).cause is Cause.OUT_OF_MEMORY
    assert operator.there == {}


def test_an_application_that_cannot_be_submitted_says_why(operator: SparkOperator) -> None:
    operator.react = lambda application: operator.say(application, "FAILED", "failed to run spark-submit")
    error = failed(task(operator))
    assert error.cause is Cause.UNKNOWN
    assert "could not start its driver: failed to run spark-submit" in error.message
    assert operator.there == {}


def test_an_application_waits_for_its_teams_quota_as_every_job_does(operator: SparkOperator, clock: Clock) -> None:
    def react(application: Object) -> None:
        if clock.passed < 100:
            operator.say(application, "FAILED", "pods is forbidden: exceeded quota: quota")
        else:
            operator.start_driver(application)

    operator.react = react
    task(operator).execute(context())
    assert 100 <= clock.passed < 120
    assert operator.there == {}
    operator.react = lambda application: operator.say(application, "FAILED", "exceeded quota: quota")
    error = failed(task(operator, schedule_timeout_seconds=60))
    assert (error.cause, error.message) == (
        Cause.UNSCHEDULABLE,
        "the team's quota is used up: exceeded quota: quota",
    )
    assert operator.there == {}


def test_an_environment_without_the_spark_operator_says_so_after_the_time_that_machines_take(
    operator: SparkOperator, clock: Clock
) -> None:
    operator.react = lambda _: None
    error = failed(task(operator, schedule_timeout_seconds=300))
    assert error.cause is Cause.UNSCHEDULABLE
    assert "no driver's pod after 300 s" in error.message
    assert "does the spark-operator run (tidepool:spark_operator in stacks/)?" in error.message
    assert operator.there == {}
    assert 300 <= clock.passed < 310


def test_an_application_whose_creation_was_not_answered_is_not_made_twice(operator: SparkOperator) -> None:
    operator.answer_lost = True
    task(operator).execute(context())
    assert len(operator.made) == 1


def test_an_application_that_somebody_deletes_before_it_has_a_driver_is_cancelled(operator: SparkOperator) -> None:
    operator.react = lambda application: operator.there.pop(application["metadata"]["name"])
    error = failed(task(operator))
    assert (error.cause, error.message) == (
        Cause.CANCELLED,
        "its SparkApplication was deleted before it had a driver",
    )


def test_an_application_of_a_pod_before_this_one_is_waited_for(operator: SparkOperator, clock: Clock) -> None:
    job = task(operator)
    name = job.build_pod_request_obj(context()).metadata.name
    operator.there[name] = {"metadata": {"name": name, "deletionTimestamp": "now"}}
    clock.at = [(10, lambda: operator.there.clear())]
    job.execute(context())
    assert len(operator.made) == 1
    assert clock.passed >= 10


class WorkerDied(BaseException):
    """SIGKILL, as far as Python can be killed."""


def died(operator: SparkOperator, clock: Clock, **arguments: Any) -> None:
    """A first attempt whose worker dies while its application has no driver yet."""

    def die() -> None:
        raise WorkerDied

    react, operator.react = operator.react, lambda application: None
    clock.at = [(clock.passed + 3, die)]
    with pytest.raises(WorkerDied):
        task(operator, **arguments).execute(context(1))
    operator.react = react
    assert len(operator.there) == 1


def test_a_driver_that_is_yet_to_come_for_a_dead_worker_is_the_next_attempts(
    operator: SparkOperator, clock: Clock
) -> None:
    died(operator, clock)
    [application] = operator.there.values()
    clock.at = [(clock.passed + 20, lambda: operator.start_driver(application))]
    task(operator).execute(context(2))
    assert (len(operator.made), operator.kubernetes.most_live) == (1, 1)
    assert (operator.there, operator.kubernetes.pods) == ({}, {})


def test_an_application_of_a_dead_worker_that_gets_no_driver_is_gone_before_the_next_is_made(
    operator: SparkOperator, clock: Clock
) -> None:
    died(operator, clock)
    [left] = operator.there
    there: list[list[str]] = []
    operator.react = lambda application: (there.append(list(operator.there)), operator.start_driver(application))
    task(operator).execute(context(2))
    [[made]] = there
    assert made != left
    assert operator.kubernetes.most_live == 1
    assert (operator.there, operator.kubernetes.pods) == ({}, {})


def test_an_application_of_a_dead_worker_goes_with_a_task_that_is_stopped_while_it_waits_for_it(
    operator: SparkOperator, clock: Clock
) -> None:
    died(operator, clock)
    job = task(operator)
    clock.at = [(clock.passed + 5, job.on_kill)]
    with pytest.raises(JobFailed) as caught:
        job.execute(context(2))
    assert caught.value.cause is Cause.CANCELLED
    assert operator.there == {}


def test_the_application_of_another_mapped_instance_is_left_alone(operator: SparkOperator, clock: Clock) -> None:
    died(operator, clock)
    other = context(2)
    other["ti"].map_index = 1
    task(operator).execute(other)
    assert len(operator.there) == 1


def test_an_application_that_a_later_attempt_has_taken_over_is_left_to_it(operator: SparkOperator) -> None:
    old, new = task(operator), task(operator)

    def script(name: str) -> None:
        new.get_or_create_pod(operator.kubernetes.pods[name], context(2))
        operator.kubernetes.end(name, "Succeeded")

    operator.kubernetes.script = script
    old.execute(context(1))
    assert len(operator.there) == len(operator.kubernetes.pods) == 1


def test_a_finished_application_is_left_where_nobody_hears_of_its_end(operator: SparkOperator) -> None:
    orphan = context(1)
    orphan["ti"].get_task_states.side_effect = EOFError("the worker was killed")
    task(operator).execute(orphan)
    assert len(operator.there) == len(operator.kubernetes.pods) == 1
    task(operator).execute(context(2))
    assert len(operator.made) == 1
    assert (operator.there, operator.kubernetes.pods) == ({}, {})


def test_a_task_that_is_killed_leaves_no_application(operator: SparkOperator) -> None:
    job = task(operator)
    operator.kubernetes.script = lambda _: job.on_kill()
    assert failed(job).cause is Cause.CANCELLED
    assert (operator.there, operator.kubernetes.pods) == ({}, {})


@pytest.mark.parametrize(
    ("phase", "code", "event"),
    [("Succeeded", 0, {"status": "success"}), ("Failed", 1, {"status": "failed", "message": "Container state failed"})],
)
def test_a_deferred_task_comes_back_to_its_drivers_end_and_leaves_no_application(
    operator: SparkOperator, phase: str, code: int, event: dict[str, str]
) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        task(operator, deferrable=True, kubernetes_conn_id=None).execute(context())
    [name] = operator.there
    assert deferred.value.trigger.serialize()[1]["pod_name"] == name
    operator.kubernetes.end(name, phase, code)
    again = task(operator, deferrable=True, kubernetes_conn_id=None)
    told = {**event, "name": name, "namespace": NAMESPACE}
    if phase == "Succeeded":
        assert again.trigger_reentry(context(), told) is None
    else:
        with pytest.raises(JobFailed) as caught:
            again.trigger_reentry(context(), told)
        assert caught.value.cause is Cause.APP_ERROR
    assert (operator.there, operator.kubernetes.pods) == ({}, {})


def test_a_task_whose_author_keeps_what_is_killed_keeps_the_application_and_its_driver(operator: SparkOperator) -> None:
    job = task(operator, on_kill_action="keep_pod", on_finish_action="keep_pod")

    def killed(name: str) -> None:
        job.on_kill()
        assert len(operator.there) == len(operator.kubernetes.pods) == 1
        operator.kubernetes.end(name, "Succeeded")

    operator.kubernetes.script = killed
    assert failed(job).cause is Cause.CANCELLED
    assert len(operator.there) == len(operator.kubernetes.pods) == 1


def test_the_spark_version_that_the_spark_operator_is_told_is_the_images() -> None:
    assert spark_application.SPARK_VERSION == versions.SPARK


def test_the_application_is_looked_for_more_often_than_a_machine_takes() -> None:
    assert application_manager.LOOK_SECONDS <= 5
