"""Spark with executors beside its driver in one pod."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="executors", schedule=None, catchup=False, doc_md=__doc__):
    SparkPodOperator(
        task_id="clean",
        application="flights_clean.py",
        pool="spot-small",
        memory="4Gi",
        executors=2,
        conf={"spark.log.level": "INFO"},
    )
