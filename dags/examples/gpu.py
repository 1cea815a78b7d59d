"""A program on a machine with a GPU, which is bought for it. It needs a job pool whose machines have GPUs."""

from __future__ import annotations

from airflow.sdk import DAG

from tidepool import JobPodOperator

# On a machine with NVIDIA's driver its runtime puts nvidia-smi into the container, whatever the image.
SHOW = 'echo "visible: $NVIDIA_VISIBLE_DEVICES"; if command -v nvidia-smi; then nvidia-smi --list-gpus; fi'

with DAG(dag_id="gpu", schedule=None, catchup=False, tags=["example"], doc_md=__doc__):
    JobPodOperator(task_id="devices", image="spark", gpus=1, cmds=["sh", "-c"], arguments=[SHOW])
