from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="unknown_image", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", image="sparc")
