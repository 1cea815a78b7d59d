from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="memory_that_ec2_sells", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", memory="8Gi")
