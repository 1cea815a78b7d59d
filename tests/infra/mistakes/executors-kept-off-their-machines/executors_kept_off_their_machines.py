from airflow.sdk import DAG

from tidepool import SparkClusterOperator

with DAG(dag_id="executors_kept_off_their_machines", schedule=None):
    SparkClusterOperator(
        task_id="clean",
        application="flights_clean.py",
        market="spot",
        node_selector={"tidepool.dev/pool": "on-demand-small"},
    )
