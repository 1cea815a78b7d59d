"""The flights jobs as the demo runs them, without the model: real Spark for the tests to disturb."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(
    dag_id="flights",
    schedule=None,
    catchup=False,
    default_args={"memory": "3Gi", "retry_delay": timedelta(seconds=1)},
    doc_md=__doc__,
):
    clean = SparkPodOperator(task_id="clean", application="flights_clean.py")
    clean >> SparkPodOperator(task_id="delays", application="flights_delays.py")
