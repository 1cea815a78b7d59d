"""A Spark job on two machines of its own: the driver where nothing is reclaimed, the executors on spot machines."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import SparkClusterOperator

with DAG(dag_id="spark_cluster", schedule=None, catchup=False, tags=["example"], doc_md=__doc__):
    SparkClusterOperator(task_id="clean", application="flights_clean.py", executors=2, memory="3Gi")
