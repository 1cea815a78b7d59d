"""Spark in one pod: a PySpark program alone on a machine of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tidepool import capacity as capacity_document
from tidepool import spark_conf, spark_standalone
from tidepool.explain import Part
from tidepool.image import default_image
from tidepool.operators import arguments
from tidepool.operators.arguments import REFUSED
from tidepool.operators.job_pod import JobPodOperator
from tidepool.operators.problems import Problems
from tidepool.sizing import Placement, SparkMemory, spark_memory
from tidepool.spark_standalone import StandaloneMemory

IMAGE = "spark"

SPARK_REFUSED: Mapping[str, str] = {
    **REFUSED,
    "arguments": "use `application_args`",
    "cmds": "the image's own entry point runs spark-submit",
}


def owner_conf(team: str) -> dict[str, str]:
    """Settings without effect that say in Spark's own records whose application it was."""
    return {
        "spark.tidepool.dag": "{{ ti.dag_id }}",
        "spark.tidepool.task": "{{ ti.task_id }}",
        "spark.tidepool.run": "{{ run_id }}",
        "spark.tidepool.team": team,
    }


class SparkPodOperator(JobPodOperator):
    """Runs a PySpark program in one pod, with as much of the pod's memory for Spark's heaps as fits.

    application: a file in the image: a name in /opt/tidepool/jobs, or `local:///…`. application_args: its arguments.
    executors: that many JVMs beside the driver's, or 0 for all in one. Else one up to a heap of 64 GiB, and above that
    executors of less than 32 GiB each.
    conf: Spark settings over tidepool's own. image: the capacity document's `spark` unless given.
    The other arguments are JobPodOperator's; only task_id and application are needed.
    """

    refused = SPARK_REFUSED

    def __init__(
        self,
        *,
        application: str,
        application_args: Sequence[str] = (),
        conf: Mapping[str, str] | None = None,
        image: str | None = None,
        executors: int | None = None,
        **kwargs: Any,
    ) -> None:
        task = kwargs.get("task_id", "")
        capacity, problems = capacity_document.load(), Problems(task)
        conf = {**capacity.spark_conf, **(conf or {})}
        with problems:
            file = spark_conf.application_file(task, application)
        with problems:
            args = arguments.program_args(task, application_args)
        with problems:
            spark_conf.refuse_derived(task, conf, spark_conf.DERIVED)
        if image is None:
            with problems:
                image = default_image(task, IMAGE, capacity)
        with problems:
            super().__init__(image=image or IMAGE, **kwargs)
            self._executors = executors
            shares = self._shares()
        problems.tell()
        self._application = file
        self._application_args = args
        self._conf = conf
        self.arguments = self._command(shares)

    def resize(self, placement: Placement, context: Any) -> None:
        """Share out another size: Spark's settings follow from it."""
        super().resize(placement, context)
        self.arguments = self.render_template(self._command(self._shares()), context)

    def parts(self) -> list[Part]:
        """The pod, with how its memory is shared out."""
        return [dataclasses.replace(part, memory=self._shares()) for part in super().parts()]

    def _shares(self) -> SparkMemory | StandaloneMemory:
        """How the memory of one JVM, or of driver and executors, is shared out."""
        task, cores, limit = self.task_id, self.placement.cores, self.placement.memory_bytes
        executors = spark_standalone.executor_count(task, self._executors, cores, limit)
        return spark_standalone.memory(task, limit, cores, executors) if executors else spark_memory(task, limit, cores)

    def _command(self, shares: SparkMemory | StandaloneMemory) -> list[str]:
        cores, limit = self.placement.cores, self.placement.memory_bytes
        if isinstance(shares, StandaloneMemory):
            submit = self._submit(spark_standalone.settings(self.task_id, cores, shares, self._conf))
            return spark_standalone.command(cores, limit, shares, submit)
        return self._submit(spark_conf.settings(self.task_id, cores, shares, self._conf))

    def _submit(self, settings: Mapping[str, str]) -> list[str]:
        name = "{{ ti.dag_id }}.{{ ti.task_id }}"
        settings = {**settings, **owner_conf(self.team)}
        return spark_conf.spark_submit(name, self._application, self._application_args, settings)
