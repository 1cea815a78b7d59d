"""The same Spark job as a SparkApplication. It needs the spark-operator: `tidepool:spark_operator: true`."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import SparkApplicationOperator

with DAG(dag_id="spark_application", schedule=None, catchup=False, tags=["example"], doc_md=__doc__):
    SparkApplicationOperator(task_id="clean", application="flights_clean.py", executors=(1, 2), memory="3Gi")
