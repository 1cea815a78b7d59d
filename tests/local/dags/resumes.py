"""Jobs with checkpoints: one of plain Python, whose units take a tenth of a second, and one of Spark."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import JobPodOperator, SparkPodOperator, capacity

UNITS = 150
JOB = f"""\
import sys, time
sys.path.insert(0, "/opt/tidepool/jobs")
from checkpoint import resumable
with resumable(0) as work:
    for unit in range(work.state, {UNITS}):
        time.sleep(0.1)
        work.state = unit + 1
        print("unit", unit + 1, "is done", flush=True)
"""

with DAG(dag_id="resumes_plain", schedule=None, catchup=False, doc_md=__doc__):
    JobPodOperator(
        task_id="plain", image=capacity.load().images["spark"], arguments=["python3", "-c", JOB], memory="1Gi"
    )

with DAG(dag_id="resumes_spark", schedule=None, catchup=False, doc_md=__doc__):
    SparkPodOperator(task_id="spark", application="flights_months.py", memory="3Gi")
