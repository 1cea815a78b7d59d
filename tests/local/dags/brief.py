"""Jobs that take seconds, for tests that disturb what watches them."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from tidepool import JobPodOperator, capacity

SECONDS = {"short": 8, "long": 16}

with DAG("brief", schedule=None, catchup=False, max_active_runs=4, doc_md=__doc__):
    for name, seconds in SECONDS.items():
        JobPodOperator(
            task_id=name,
            image=capacity.load().images["spark"],
            arguments=["python3", "-c", f"import time; time.sleep({seconds})"],
            exclusive=False,
            memory="256Mi",
            retry_delay=timedelta(seconds=1),
        )
