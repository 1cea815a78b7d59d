from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="waits_too_short", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", schedule_timeout_seconds=60)
