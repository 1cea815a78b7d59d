from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="image_without_a_tag", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", image="registry.example/spark")
