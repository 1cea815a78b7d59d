from airflow.sdk import DAG

from tidepool import DaskClusterOperator

with DAG(dag_id="workers_over_the_quota", schedule=None):
    DaskClusterOperator(
        task_id="load", application="flights_dask.py", image="registry.example/dask:4f2a91c", workers=500, memory="2Gi"
    )
