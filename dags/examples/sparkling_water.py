"""A gradient boosting machine of H2O over flights that Spark reads, in one pod. It needs the image h2o."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import SparklingWaterPodOperator

with DAG(dag_id="sparkling_water", schedule=None, catchup=False, tags=["example"], doc_md=__doc__):
    SparklingWaterPodOperator(task_id="model", application="flights_h2o.py", memory="4Gi")
