from airflow.sdk import DAG
from flights import load

with DAG(dag_id="import_error", schedule=None):
    load()
