"""The flights of New York in 2013: cleaned, then counted and modelled side by side, each alone on its own machine."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import SparkPodOperator

with DAG(
    dag_id="flights_daily",
    schedule=None,
    catchup=False,
    tags=["example"],
    default_args={
        "memory": "3Gi",
        # Each job is over in half a minute: the JVM's second compiler would cost a third more CPU than it saves.
        "conf": {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"},
    },
    doc_md=__doc__,
):
    clean = SparkPodOperator(task_id="clean", application="flights_clean.py")
    delays = SparkPodOperator(task_id="delays", application="flights_delays.py")
    model = SparkPodOperator(task_id="model", application="flights_model.py")

    clean >> [delays, model]
