from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="mapped_tasks", schedule=None):
    tasks = SparkPodOperator.partial(task_id="load", application="flights_clean.py", schedule_timeout_seconds=60)
    tasks.expand(application_args=[["1"], ["2"]])
