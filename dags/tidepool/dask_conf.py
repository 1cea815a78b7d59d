"""The command lines of Dask in a job's pod and in its workers' pods, and how their memory is shared out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tidepool.cluster import POD_IP_VARIABLE
from tidepool.job import MIB, JobError, human
from tidepool.pod import SCRATCH_FOLDER
from tidepool.sizing import MARGIN_SHARE

ROLE = "worker"
FOLDER = "/opt/tidepool"
PORT = 8786

PROGRAM_MIB = 512
"""For the scheduler and the program itself, which hold results; an estimate."""

SMALLEST_WORKER_MIB = 256
_FEW_CORES = 4


def processes(cores: int) -> tuple[int, int]:
    """Worker processes, and threads in each: Dask's own rule. Few cores are a process each, since pandas' and numpy's
    Python code holds an interpreter's lock; many are about as many processes as threads, since each costs memory."""
    if cores <= _FEW_CORES:
        return cores, 1
    count = min(each for each in range(1, cores + 1) if cores % each == 0 and each >= math.sqrt(cores))
    return count, cores // count


def worker_mib(task: str, limit_bytes: int, workers: int, *, beside_program: bool) -> int:
    """MiB of memory for each of a pod's worker processes. Raises JobError where that is too little."""
    limit = limit_bytes // MIB
    kept = math.ceil(limit * MARGIN_SHARE) + (PROGRAM_MIB if beside_program else 0)
    each = (limit - kept) // workers
    if each < SMALLEST_WORKER_MIB:
        least = math.ceil((workers * SMALLEST_WORKER_MIB + (PROGRAM_MIB if beside_program else 0)) / (1 - MARGIN_SHARE))
        raise JobError(
            f"task {task!r}: of {human(limit_bytes)} of memory each of {workers} Dask workers gets {max(each, 0)} MiB, "
            f"and it needs {SMALLEST_WORKER_MIB} MiB. Ask for at least {human((least + 1) * MIB)}, or for fewer cores."
        )
    return each


def pod(task: str, cores: int, limit_bytes: int, application: str, args: Sequence[str]) -> list[str]:
    """The command of Dask in one pod; `application` is a path in the image."""
    workers, threads = processes(cores)
    memory = worker_mib(task, limit_bytes, workers, beside_program=True)
    return _job("127.0.0.1", workers, threads, memory, application, args)


def scheduler(application: str, args: Sequence[str]) -> list[str]:
    """The command of the pod with scheduler and program, whose workers are elsewhere."""
    return _job(f"$({POD_IP_VARIABLE})", 0, 0, 0, application, args)


def environment(schedule_timeout_seconds: int) -> dict[str, str]:
    """Dask's settings for every process of a job."""
    return {
        "DASK_TEMPORARY_DIRECTORY": f"{SCRATCH_FOLDER}/dask",
        "DASK_LOGGING__DISTRIBUTED": "warning",
        # Work that no worker takes would wait for ever; workers' machines are bought within this time, or not at all.
        "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": f"{schedule_timeout_seconds}s",
    }


def worker(
    task: str, member: Mapping[str, Any], cores: int, limit_bytes: int, scheduler_ip: str, name: str
) -> dict[str, Any]:
    """A worker's pod of this name, from a member's manifest. It ends by itself when it has lost its scheduler."""
    address = f"tcp://{scheduler_ip}:{PORT}"
    own = f"$({POD_IP_VARIABLE})"
    count, threads = processes(cores)
    memory = worker_mib(task, limit_bytes, count, beside_program=False)
    size = ["--nworkers", str(count), "--nthreads", str(threads), "--memory-limit", f"{memory}MiB"]
    container = {
        **member["spec"]["containers"][0],
        "args": ["dask", "worker", address, "--host", own, *size, "--no-dashboard", "--death-timeout", "60"],
        # Hooks see no $(…): their environment is the container's, and a shell reads it.
        "lifecycle": {
            "preStop": {
                "exec": {"command": ["sh", "-c", f'exec python {FOLDER}/dask_retire.py {address} "${POD_IP_VARIABLE}"']}
            }
        },
    }
    return {
        **member,
        "metadata": {**member["metadata"], "name": name},
        "spec": {**member["spec"], "containers": [container]},
    }


def _job(host: str, workers: int, threads: int, memory: int, application: str, args: Sequence[str]) -> list[str]:
    size = ["--workers", str(workers), "--threads", str(threads), "--memory-mib", str(memory)]
    return ["python", f"{FOLDER}/dask_job.py", "--host", host, *size, "--", application, *args]
