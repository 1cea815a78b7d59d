from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="volume_as_a_plain_dictionary", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", volumes=[{"name": "scratch", "emptyDir": {}}])
