"""One Dask program, in one pod, and then with workers on two machines of their own. It needs the image dask."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import DaskClusterOperator, DaskPodOperator

with DAG(dag_id="dask", schedule=None, catchup=False, tags=["example"], doc_md=__doc__):
    in_one_pod = DaskPodOperator(task_id="in_one_pod", application="flights_dask.py", memory="3Gi")
    with_workers = DaskClusterOperator(
        task_id="with_workers", application="flights_dask.py", workers=2, memory="2Gi", scheduler_memory="1Gi"
    )
    in_one_pod >> with_workers
