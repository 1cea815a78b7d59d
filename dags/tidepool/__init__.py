"""tidepool's library for DAG authors: `from tidepool import SparkPodOperator`.

Names are loaded when they are first used, so that the capacity document can be read where there is no Airflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidepool.capacity import CapacityError
    from tidepool.job import JobError
    from tidepool.operators.dask_cluster import DaskClusterOperator
    from tidepool.operators.dask_pod import DaskPodOperator
    from tidepool.operators.deadline_alert import deadline_alert
    from tidepool.operators.job_pod import JobPodOperator
    from tidepool.operators.spark_application import SparkApplicationOperator
    from tidepool.operators.spark_cluster import SparkClusterOperator
    from tidepool.operators.spark_pod import SparkPodOperator
    from tidepool.operators.sparkling_water import SparklingWaterPodOperator
    from tidepool.outcome import Cause, JobFailed

_HOMES = {
    "CapacityError": "tidepool.capacity",
    "Cause": "tidepool.outcome",
    "DaskClusterOperator": "tidepool.operators.dask_cluster",
    "DaskPodOperator": "tidepool.operators.dask_pod",
    "JobError": "tidepool.job",
    "JobFailed": "tidepool.outcome",
    "JobPodOperator": "tidepool.operators.job_pod",
    "SparkApplicationOperator": "tidepool.operators.spark_application",
    "SparkClusterOperator": "tidepool.operators.spark_cluster",
    "SparkPodOperator": "tidepool.operators.spark_pod",
    "SparklingWaterPodOperator": "tidepool.operators.sparkling_water",
    "deadline_alert": "tidepool.operators.deadline_alert",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tidepool' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
