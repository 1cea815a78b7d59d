"""Jobs of a DAG that has a budget, and of one whose size is overridden: each attempt holds so much memory as its run's
conf says.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from tidepool import JobPodOperator, capacity

HOLD = """\
import sys, time
held = bytearray(int(sys.argv[1]) << 20)
held[::4096] = b"x" * len(held[::4096])
time.sleep(1)
"""

for name in ("spends", "sized"):
    with DAG(name, schedule=None, catchup=False, doc_md=__doc__):
        JobPodOperator(
            task_id="hold",
            image=capacity.load().images["spark"],
            arguments=["python3", "-c", HOLD, "{{ dag_run.conf['mib'][ti.try_number - 1] }}"],
            memory="512Mi",
            cores=1,
            exclusive=False,
            retry_delay=timedelta(seconds=1),
        )
