"""A program on a machine with a GPU, which is bought for it. It needs a job pool whose machines have GPUs."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import JobPodOperator

with DAG(dag_id="gpu", schedule=None, catchup=False, tags=["example"], doc_md=__doc__):
    JobPodOperator(
        task_id="devices",
        image="docker.io/nvidia/cuda:13.0.1-base-ubuntu24.04",
        gpus=1,
        arguments=["nvidia-smi", "--list-gpus"],
    )
