from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="xcom_without_rights", schedule=None):
    SparkPodOperator(task_id="load", application="flights_clean.py", do_xcom_push=True)
