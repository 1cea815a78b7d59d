from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="more_cores_than_a_machine", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", cores=16)
