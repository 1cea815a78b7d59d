from airflow.sdk import DAG

from tidepool import SparkClusterOperator

with DAG(dag_id="executors_that_fit_no_machine", schedule=None):
    SparkClusterOperator(task_id="clean", application="flights_clean.py", memory="40Gi")
