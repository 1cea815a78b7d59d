from airflow.sdk import DAG

from tidepool import SparkApplicationOperator

with DAG(dag_id="executors_over_the_quota", schedule=None):
    SparkApplicationOperator(task_id="clean", application="flights_clean.py", executors=40)
