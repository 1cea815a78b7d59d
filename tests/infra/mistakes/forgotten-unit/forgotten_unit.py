from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="forgotten_unit", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", memory="3")
