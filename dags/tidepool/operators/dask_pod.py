"""Dask in one pod: a program alone on a machine of its own, with a worker process for each few cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes.client import V1EnvVar, V1Pod

from tidepool import capacity as capacity_document
from tidepool import dask_conf, spark_conf
from tidepool.image import default_image
from tidepool.operators import arguments
from tidepool.operators.arguments import REFUSED
from tidepool.operators.job_pod import JobPodOperator
from tidepool.operators.problems import Problems
from tidepool.sizing import Placement

IMAGE = "dask"

DASK_REFUSED: Mapping[str, str] = {
    **REFUSED,
    "arguments": "use `application_args`",
    "cmds": "the image's own entry point runs Dask",
}


class DaskPodOperator(JobPodOperator):
    """Runs a Python program with a Dask cluster in its own pod: scheduler, workers and program share one machine.

    application: a file in the image: a name in /opt/tidepool/jobs, or `local:///…`. `distributed.Client()` without
    arguments is its cluster. application_args: its arguments. image: the capacity document's `dask` unless given.
    The other arguments are JobPodOperator's; only task_id and application are needed.
    """

    refused = DASK_REFUSED

    def __init__(
        self,
        *,
        application: str,
        application_args: Sequence[str] = (),
        image: str | None = None,
        **kwargs: Any,
    ) -> None:
        task = kwargs.get("task_id", "")
        capacity, problems = capacity_document.load(), Problems(task)
        with problems:
            file = spark_conf.application_file(task, application)
        with problems:
            args = arguments.program_args(task, application_args)
        if image is None:
            with problems:
                image = default_image(task, IMAGE, capacity)
        with problems:
            super().__init__(image=image or IMAGE, **kwargs)
        problems.tell()
        self._application = file
        self._application_args = args
        self._schedule_timeout = capacity.schedule_timeout_seconds
        self.arguments = self._command()

    def resize(self, placement: Placement, context: Any) -> None:
        """Share out another size: the workers' memory follows from it."""
        super().resize(placement, context)
        self.arguments = self.render_template(self._command(), context)

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> V1Pod:
        """The pod, with Dask's settings; the author's own win."""
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        container = pod.spec.containers[0]
        given = {each.name for each in container.env or []}
        settings = dask_conf.environment(self._schedule_timeout)
        own = [V1EnvVar(name=name, value=value) for name, value in settings.items() if name not in given]
        container.env = [*(container.env or []), *own]
        return pod

    def _command(self) -> list[str]:
        size = self.placement.cores, self.placement.memory_bytes
        return dask_conf.pod(self.task_id, *size, self._application, self._application_args)
