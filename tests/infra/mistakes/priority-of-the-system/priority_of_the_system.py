from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="priority_of_the_system", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", priority_class_name="system-node-critical")
