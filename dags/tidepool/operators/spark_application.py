"""Spark by the spark-operator: a SparkApplication, whose driver's pod is followed to its end like any job's."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.utils.pod_manager import OnKillAction
from kubernetes.client import ApiClient, CustomObjectsApi, V1Pod

from tidepool import capacity as capacity_document
from tidepool import cluster, spark_application, spark_cluster_conf
from tidepool.operators.application_manager import ApplicationPodManager, Applications
from tidepool.operators.job_pod import JobPodOperator
from tidepool.operators.spark_cluster import SparkClusterOperator


class SparkApplicationOperator(SparkClusterOperator):
    """Runs a PySpark program as a SparkApplication, where an environment has the spark-operator (`spark_operator`).

    The arguments are SparkClusterOperator's, and so are place, size, rights and ends: the spark-operator starts the
    driver's pod instead of this task. It never restarts an application: another attempt is Airflow's.
    """

    @cached_property
    def pod_manager(self) -> ApplicationPodManager:
        """The pod manager whose pods the spark-operator makes."""
        made = ApplicationPodManager(kube_client=self.client, callbacks=self.callbacks)
        api = CustomObjectsApi(self.client.api_client)
        made.applications = Applications(api, self._application_of, self.schedule_timeout_seconds)
        made.leaves = self.attempt.leaves
        return made

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """The job's pod, as it would be without the spark-operator: the driver's is made of it."""
        return JobPodOperator.build_pod_request_obj(self, context, dry_run=dry_run)

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Any) -> V1Pod:
        """The pod that an earlier attempt left running, also where the spark-operator has yet to start it."""
        for left in self.pod_manager.of_task(pod_request_obj) if self.durable else ():
            self.log.info("Application %s of an earlier attempt: waiting for its driver's pod", left.metadata.name)
            self.pod = left  # on_kill deletes it
            self.pod_manager.settle(left, self.attempt.check_killed)
            self.pod = None
        return super().get_or_create_pod(pod_request_obj, context)

    def on_kill(self) -> None:
        """Delete the driver's pod and its application, unless a later attempt has taken them over or they are kept."""
        pod = self.pod
        held = pod is not None and self.attempt.is_taken_over(pod)
        super().on_kill()
        if pod is not None and not held and self.on_kill_action is not OnKillAction.KEEP_POD:
            self.pod_manager.delete_pod(pod)

    def _application_of(self, pod: V1Pod) -> dict[str, Any]:
        """The manifest of the application whose driver's pod is to be this."""
        main = ApiClient().sanitize_for_serialization(pod)
        executor = cluster.member(main, self.executor_placement, capacity_document.load(), spark_cluster_conf.ROLE)
        driver, workers = [(each, self._memory_of(each)) for each in (self.placement, self.executor_placement)]
        return spark_application.manifest(main, executor, self._executors, driver, workers)
