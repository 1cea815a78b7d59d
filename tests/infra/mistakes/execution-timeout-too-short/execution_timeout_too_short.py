from datetime import timedelta

from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="execution_timeout_too_short", schedule=None, default_args={"execution_timeout": timedelta(minutes=2)}):
    SparkPodOperator(task_id="load", application="flights_clean.py")
