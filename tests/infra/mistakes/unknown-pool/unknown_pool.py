from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="unknown_pool", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", pool="spot-smal")
