from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="gpu_on_a_cpu_pool", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", pool="spot-small", gpus=1, team="research")
