from datetime import timedelta

from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="unit_of_time_that_is_none", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", execution_timeout=timedelta(hour=1))
