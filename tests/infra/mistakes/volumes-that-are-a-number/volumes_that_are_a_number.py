from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="volumes_that_are_a_number", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", volumes=5)
