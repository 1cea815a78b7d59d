"""Dask on many machines: a pod with the scheduler and the program, and workers that may be lost and are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient, V1Pod

from tidepool import capacity as capacity_document
from tidepool import cluster, dask_conf, ladder
from tidepool.capacity import Capacity, Market
from tidepool.explain import Part
from tidepool.job import Job
from tidepool.operators import arguments
from tidepool.operators.arguments import NO_POOL
from tidepool.operators.dask_pod import DaskPodOperator
from tidepool.operators.members import Members
from tidepool.operators.problems import Problems
from tidepool.outcome import Cause, Outcome
from tidepool.sizing import Placement, place


class DaskClusterOperator(DaskPodOperator):
    """Runs a Python program whose work is more than one machine can do, on Dask workers with machines of their own.

    workers: how many workers' pods. cores, memory, pool, machine, market, exclusive: of each, which gets a whole
    machine unless they say otherwise; a pod has a worker process for each few cores.
    scheduler_cores, scheduler_memory: of the pod with scheduler and program, which shares its machine.
    scheduler_market: where that runs; losing it loses the run, so that is not on spot unless `"spot"`, or None for
    either.
    application, application_args, image: as DaskPodOperator's. The other arguments are JobPodOperator's; what they put
    into the pod (environment, volumes, secrets) the workers have too. deferrable is refused: while the job runs, this
    task replaces workers that were lost.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        cores: int | None = None,
        memory: str | None = None,
        gpus: int = 0,
        pool: str = NO_POOL,
        machine: str | None = None,
        market: Market | None = None,
        exclusive: bool = True,
        scheduler_cores: int = 1,
        scheduler_memory: str = "2Gi",
        scheduler_market: Market | None = "on-demand",
        team: str | None = None,
        **kwargs: Any,
    ) -> None:
        task = kwargs.get("task_id", "")
        problems = Problems(task)
        if type(workers) is not int or workers < 1:
            problems.append(f"workers must be a whole number of at least 1, not {workers!r}")
        if kwargs.get("deferrable"):
            problems.append("deferrable: not with workers' pods, which this task replaces when lost")
        named = arguments.named_pool(pool)
        with problems:
            worker = Job(task, cores, memory, pool=named, machine=machine, exclusive=exclusive, gpus=gpus, team=team)
        with problems:
            capacity = ladder.offered(capacity_document.load(), market, task)
        with problems:
            super().__init__(
                cores=scheduler_cores,
                memory=scheduler_memory,
                market=scheduler_market,
                exclusive=False,
                team=team,
                **{**kwargs, "deferrable": False},
            )
        problems.tell()
        self.workers = workers
        self.worker_job, self.worker_market = worker, market
        self.worker_placement = place(worker, capacity)
        self.take(capacity, (self.placement, 1), (self.worker_placement, workers))
        # Where the DAG file is parsed: too little memory for a worker is said there.
        size = self.worker_placement.cores, self.worker_placement.memory_bytes
        dask_conf.worker_mib(task, size[1], dask_conf.processes(size[0])[0], beside_program=False)
        self._members: Members | None = None

    @classmethod
    def claimed(cls, given: Mapping[str, Any], capacity: Capacity) -> list[tuple[Placement, int]]:
        """The scheduler's pod and the workers'."""
        scheduler, worker = arguments.placed(given, capacity, "scheduler"), arguments.placed(given, capacity)
        return [(scheduler, 1), (worker, given.get("workers", 2))]

    def resize_members(self, placement: Placement, context: Any) -> None:
        """Give the workers another size."""
        self.worker_placement = placement

    def parts(self) -> list[Part]:
        """The pod of scheduler and program, and a worker's."""
        worker = Part(f"each of {self.workers} workers", self.worker_job, self.worker_market, self.worker_placement)
        return [Part("scheduler", self.job, self.market, self.placement), worker]

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """The pod of scheduler and program, which knows its own address."""
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        main = ApiClient().sanitize_for_serialization(pod)
        return PodGenerator.deserialize_model_dict(cluster.knowing_itself(main))

    def await_pod_start(self, pod: V1Pod) -> None:
        """Wait until the scheduler's pod has started; from then on it has workers."""
        super().await_pod_start(pod)
        running = self.pod_manager.read_pod(self.pod or pod)
        self._members = Members(self.client, running, self.workers, self._worker)
        self._members.start()

    def cleanup(self, pod: V1Pod, remote_pod: V1Pod, xcom_result: Any = None, context: Any = None) -> None:
        """Make no more workers, and delete the scheduler's pod: those that there are go with it."""
        if self._members is not None:
            self._members.stop()
        super().cleanup(pod, remote_pod, xcom_result=xcom_result, context=context)

    def as_members_tell(self, found: Outcome) -> Outcome:
        """Dask's scheduler gives a task up whose workers died, and does not know of what: their pods say."""
        starved = self._members.starved if self._members is not None else ""
        if found.cause is not Cause.APP_ERROR or not starved or "KilledWorker" not in found.message:
            return found
        return Outcome(Cause.OUT_OF_MEMORY, f"worker {starved} ran out of memory; {found.message}", of_members=True)

    def on_kill(self) -> None:
        """Make no more workers, and delete the scheduler's pod."""
        if self._members is not None:
            self._members.stop()
        super().on_kill()

    def _worker(self, main: dict[str, Any], name: str) -> dict[str, Any]:
        """The manifest of one worker's pod. main: the scheduler's pod as it runs."""
        placement = self.worker_placement
        # As it was asked for: what runs is tied to its machine.
        asked = ApiClient().sanitize_for_serialization(self.pod_request_obj)
        member = cluster.member(asked, placement, capacity_document.load(), dask_conf.ROLE)
        address = main["status"]["podIP"]
        return dask_conf.worker(self.task_id, member, placement.cores, placement.memory_bytes, address, name)

    def _command(self) -> list[str]:
        return dask_conf.scheduler(self._application, self._application_args)
