"""Jobs whose end the tests decide: each attempt says that it started, waits for a file, and says that it ended."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from tidepool import JobPodOperator, capacity

JOB = """\
import os, pathlib, sys, time
folder = pathlib.Path("/lake/tests") / sys.argv[1]
folder.mkdir(exist_ok=True)
pod = os.environ["HOSTNAME"] + "\\n"
with (folder / "started").open("a") as file:
    file.write(pod)
print("waiting", flush=True)
while not (folder / "go").exists():
    time.sleep(0.1)
with (folder / "ended").open("a") as file:
    file.write(pod)
"""

with DAG(dag_id="waits", schedule=None, catchup=False, doc_md=__doc__):
    JobPodOperator(
        task_id="wait",
        image=capacity.load().images["spark"],
        arguments=["python3", "-c", JOB, "{{ run_id }}"],
        memory="1Gi",
        retry_delay=timedelta(seconds=1),
    )
