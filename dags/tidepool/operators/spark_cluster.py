"""Spark on its Kubernetes scheduler: a driver's pod, and executors on machines of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient, V1Pod

from tidepool import capacity as capacity_document
from tidepool import cluster, ladder, spark_cluster_conf, spark_conf
from tidepool.capacity import Capacity, Market
from tidepool.explain import Part
from tidepool.image import default_image
from tidepool.job import Job
from tidepool.operators import arguments
from tidepool.operators.arguments import NO_POOL
from tidepool.operators.job_pod import JobPodOperator
from tidepool.operators.problems import Problems
from tidepool.operators.spark_pod import IMAGE, SPARK_REFUSED, owner_conf
from tidepool.sizing import Placement, SparkMemory, place, spark_memory


class SparkClusterOperator(JobPodOperator):
    """Runs a PySpark program whose work is more than one machine can do, with executors that may be lost and replaced.

    executors: how many, or the fewest and the most, between which Spark chooses by the work that waits.
    cores, memory, pool, machine, market, exclusive: of each executor, which gets a whole machine unless they say
    otherwise.
    driver_cores, driver_memory: of the driver's pod, which shares its machine. driver_market: where the driver runs;
    losing it loses the run, so that is not on spot unless `"spot"`, or None for either.
    application, application_args, conf, image: as SparkPodOperator's. The other arguments are JobPodOperator's; what
    they put into the pod (environment, volumes, secrets) the executors have too.

    The driver's pod runs under the ServiceAccount job-driver, which may make and remove pods of its namespace.
    """

    refused = SPARK_REFUSED

    def __init__(
        self,
        *,
        application: str,
        application_args: Sequence[str] = (),
        conf: Mapping[str, str] | None = None,
        image: str | None = None,
        executors: int | tuple[int, int] = 2,
        cores: int | None = None,
        memory: str | None = None,
        gpus: int = 0,
        pool: str = NO_POOL,
        machine: str | None = None,
        market: Market | None = None,
        exclusive: bool = True,
        driver_cores: int = 1,
        driver_memory: str = "2Gi",
        driver_market: Market | None = "on-demand",
        team: str | None = None,
        **kwargs: Any,
    ) -> None:
        task = kwargs.get("task_id", "")
        capacity, problems = capacity_document.load(), Problems(task)
        conf = {**capacity.spark_conf, **(conf or {})}
        if gpus:
            problems.append("gpus: executors have none; run the program in one pod, by SparkPodOperator")
        with problems:
            file = spark_conf.application_file(task, application)
        with problems:
            args = arguments.program_args(task, application_args)
        with problems:
            spark_conf.refuse_derived(task, conf, spark_cluster_conf.DERIVED)
        spark_image = IMAGE
        with problems:
            spark_image = default_image(task, IMAGE, capacity) if image is None else capacity.images.get(image, image)
        with problems:
            count = spark_cluster_conf.executor_count(task, executors)
        named = arguments.named_pool(pool)
        with problems:
            executor = Job(task, cores, memory, pool=named, machine=machine, exclusive=exclusive, team=team)
        with problems:
            offered = ladder.offered(capacity, market, task)
        with problems:
            super().__init__(
                image=spark_image,
                cores=driver_cores,
                memory=driver_memory,
                market=driver_market,
                exclusive=False,
                team=team,
                **kwargs,
            )
        problems.tell()
        self.executor_job, self.executor_market = executor, market
        self.executor_placement = place(executor, offered)
        self.take(capacity, (self.placement, 1), (self.executor_placement, max(1, count[0])))
        self._spark_image = spark_image
        self._executors = count
        self._application = file
        self._application_args = args
        self._conf = conf
        self._schedule_timeout = capacity.schedule_timeout_seconds
        self.arguments = self._command()

    @classmethod
    def claimed(cls, given: Mapping[str, Any], capacity: Capacity) -> list[tuple[Placement, int]]:
        """The driver's pod and the fewest executors'."""
        fewest, _ = spark_cluster_conf.executor_count(given["task_id"], given.get("executors", 2))
        driver, executor = arguments.placed(given, capacity, "driver"), arguments.placed(given, capacity)
        return [(driver, 1), (executor, max(1, fewest))]

    def resize(self, placement: Placement, context: Any) -> None:
        """Give the driver another size."""
        super().resize(placement, context)
        self.arguments = self.render_template(self._command(), context)

    def resize_members(self, placement: Placement, context: Any) -> None:
        """Give the executors another size."""
        self.executor_placement = placement
        self.arguments = self.render_template(self._command(), context)

    def parts(self) -> list[Part]:
        """The driver's pod and an executor's, each with how its memory is shared out."""
        driver, executor = self.placement, self.executor_placement
        fewest, most = self._executors
        many = f"each of {most} executors" if fewest == most else f"each of {fewest} to {most} executors"
        return [
            Part("driver", self.job, self.market, driver, self._memory_of(driver)),
            Part(many, self.executor_job, self.executor_market, executor, self._memory_of(executor)),
        ]

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """The driver's pod, which has the executors' with it."""
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        main = ApiClient().sanitize_for_serialization(pod)
        executor = cluster.member(main, self.executor_placement, capacity_document.load(), spark_cluster_conf.ROLE)
        return PodGenerator.deserialize_model_dict(spark_cluster_conf.driver(main, executor))

    def _memory_of(self, placement: Placement) -> SparkMemory:
        return spark_memory(self.task_id, placement.memory_bytes, placement.cores)

    def _command(self) -> list[str]:
        executor, driver = self.executor_placement, self.placement
        settings = spark_cluster_conf.settings(
            self.task_id,
            self._spark_image,
            self._executors,
            executor,
            self._memory_of(executor),
            self._memory_of(driver),
            self._schedule_timeout,
            self._conf,
        )
        name = "{{ ti.dag_id }}.{{ ti.task_id }}"
        settings |= owner_conf(self.team)
        return spark_conf.spark_submit(name, self._application, self._application_args, settings)
