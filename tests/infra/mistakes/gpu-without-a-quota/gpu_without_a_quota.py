from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="gpu_without_a_quota", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", gpus=1)
