from airflow.sdk import DAG

from tidepool import SparkPodOperator

SIZES = {[1]: 2}

with DAG(dag_id="list_as_a_key", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py")
