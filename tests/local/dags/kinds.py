"""Each job kind on the flights; of Dask and H2O where the machines have their images."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from tidepool import (
    DaskClusterOperator,
    DaskPodOperator,
    JobPodOperator,
    SparkClusterOperator,
    SparklingWaterPodOperator,
    capacity,
)

OPTIONS: dict[str, Any] = {
    "schedule": None,
    "catchup": False,
    "default_args": {"retries": 0, "platform_retries": 1, "memory_retries": 0, "retry_delay": timedelta(seconds=1)},
    "doc_md": __doc__,
}
IMAGES = capacity.load().images

with DAG("any_image", **OPTIONS):
    JobPodOperator(task_id="shell", image="spark", cmds=["sh", "-c"], arguments=["id -u; nproc"], memory="512Mi")

with DAG("spark_cluster", **OPTIONS):
    SparkClusterOperator(
        task_id="clean",
        application="flights_clean.py",
        memory="2500Mi",
        driver_memory="2Gi",
        conf={
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
            "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        },
    )

if "dask" in IMAGES:
    with DAG("dask_pod", **OPTIONS):
        DaskPodOperator(task_id="delays", application="flights_dask.py", memory="2Gi")

    with DAG("dask_cluster", **OPTIONS):
        DaskClusterOperator(task_id="delays", application="flights_dask.py", memory="2Gi", scheduler_memory="1Gi")

if "h2o" in IMAGES:
    with DAG("sparkling_water", **OPTIONS):
        SparklingWaterPodOperator(task_id="model", application="flights_h2o.py", memory="4Gi")
