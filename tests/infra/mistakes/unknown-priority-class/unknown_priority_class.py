from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="unknown_priority_class", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", priority_class_name="high")
