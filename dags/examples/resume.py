"""A job that goes on where it was when its machine is reclaimed: it says itself what it has done."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(dag_id="resume", schedule=None, catchup=False, tags=["example"], doc_md=__doc__):
    SparkPodOperator(
        task_id="months",
        application="flights_months.py",
        memory="3Gi",
        deadline=timedelta(hours=2),
        expected=timedelta(minutes=10),
        checkpoint_every=timedelta(minutes=2),
    )
