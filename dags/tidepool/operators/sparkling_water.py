"""H2O Sparkling Water in one pod: models on H2O, data by Spark, in one JVM on a machine of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidepool import capacity as capacity_document
from tidepool import h2o_conf
from tidepool.image import default_image
from tidepool.operators import arguments
from tidepool.operators.problems import Problems
from tidepool.operators.spark_pod import SparkPodOperator

IMAGE = "h2o"


class SparklingWaterPodOperator(SparkPodOperator):
    """Runs a PySpark program with H2O inside Spark's JVM: `H2OContext.getOrCreate()` is the job's own H2O cluster.

    Its Spark is 3.5, the newest that Sparkling Water has. H2O's frames and models are in Spark's heap.
    The arguments are SparkPodOperator's, without `executors`. image: the capacity document's `h2o` unless given.
    """

    def __init__(
        self,
        *,
        application: str,
        conf: Mapping[str, str] | None = None,
        image: str | None = None,
        **kwargs: Any,
    ) -> None:
        task = kwargs.get("task_id", "")
        problems = Problems(task)
        capacity = capacity_document.load()
        with problems:
            arguments.check(task, kwargs, {"executors": "H2O is in Spark's one JVM"})
        if image is None:
            with problems:
                image = default_image(task, IMAGE, capacity)
        conf = {**h2o_conf.SETTINGS, **(conf or {})}
        with problems:
            super().__init__(application=application, conf=conf, image=image or IMAGE, **{**kwargs, "executors": 0})
        problems.tell()
