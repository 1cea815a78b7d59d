"""Any command of any image, alone on a machine or beside others: here Python and a shell of the Spark image."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import JobPodOperator

with DAG(dag_id="any_image", schedule=None, catchup=False, tags=["example"], doc_md=__doc__):
    alone = JobPodOperator(
        task_id="alone", image="spark", arguments=["python", "-c", "import os; print(os.cpu_count(), 'cores')"]
    )
    beside_others = JobPodOperator(
        task_id="beside_others",
        image="spark",
        cmds=["sh", "-c"],
        arguments=['df -h /tmp && echo "the lake is $TIDEPOOL_LAKE"'],
        cores=1,
        memory="512Mi",
        exclusive=False,
    )
    alone >> beside_others
