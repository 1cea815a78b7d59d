"""Spark's standalone mode inside one pod: executors, with a master and a worker that nothing outside the pod can reach.

One JVM (`local[N]`) is less to go wrong, and nothing in it is copied between processes. But its garbage collector stops
all of its threads, for longer the larger the heap is, and from 32 GiB on each reference takes twice the space. So one
JVM is what a job has up to a heap of 64 GiB; above that, executors of less than 32 GiB each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidepool import spark_conf
from tidepool.job import MIB, JobError, human
from tidepool.pod import SCRATCH_FOLDER
from tidepool.sizing import (
    MARGIN_SHARE,
    PYTHON_PROCESS_MIB,
    SMALLEST_HEAP_MIB,
    SMALLEST_JVM_OVERHEAD_MIB,
    jvm,
    spark_memory,
)

LARGEST_HEAP_MIB = 64 * 1024
"""Of one JVM, where its author does not say. A judgement and no measurement: common advice for G1 ends thereabouts."""

LARGEST_EXECUTOR_HEAP_MIB = 31 * 1024
"""Java's references take 4 bytes in heaps of less than 32 GiB, and 8 in others (-XX:+UseCompressedOops)."""

LEAST_CORES = 2
"""Of an executor, where its author does not say: what is read once, such as a broadcast, is for more than one task."""

LARGEST_DRIVER_MIB = 9 * 1024
"""Heap and overhead: a driver plans, and gathers results (spark.driver.maxResultSize is 1 GiB)."""

DAEMON_HEAP_MIB = 128
DAEMONS_MIB = 2 * 288
"""Master and worker together: each had 208 MiB at most in a job with two executors, with that heap (2026-11-23)."""


@dataclass(frozen=True)
class Heap:
    """A JVM's memory, in MiB."""

    heap: int
    overhead: int


@dataclass(frozen=True)
class StandaloneMemory:
    """How the pod's memory limit is shared out, in MiB: driver, daemons, python, margin, and so many times executor."""

    driver: Heap
    executors: int
    executor: Heap
    daemons: int
    python: int
    margin: int


def executor_count(task: str, asked: int | None, cores: int, limit_bytes: int) -> int:
    """How many executors a job has in its pod; 0 for all in one JVM. asked: by its author; None follows from the heap.

    As few as have small heaps, and of them the number that uses most cores. Raises JobError where `asked` is no number
    of executors, or more than cores.
    """
    if asked is None:
        return _derived(task, cores, limit_bytes)
    if type(asked) is not int or asked < 0:
        raise JobError(f"task {task!r}: executors must be a whole number, 0 for all in one JVM, not {asked!r}")
    if asked > cores:
        raise JobError(f"task {task!r}: executors={asked}, with {cores} cores. Ask for more cores or fewer executors.")
    return asked


def _derived(task: str, cores: int, limit_bytes: int) -> int:
    most = cores // LEAST_CORES
    if most < 2 or spark_memory(task, limit_bytes, cores).heap <= LARGEST_HEAP_MIB:
        return 0
    counts = range(2, most + 1)
    small = [n for n in counts if memory(task, limit_bytes, cores, n).executor.heap <= LARGEST_EXECUTOR_HEAP_MIB]
    return max(small, key=lambda n: (cores // n * n, -n), default=most)


def memory(task: str, limit_bytes: int, cores: int, executors: int) -> StandaloneMemory:
    """Share out a pod's memory limit; the driver gets as much as an executor, where that is not too much for one.

    Raises JobError where too little is left for a heap.
    """
    limit = limit_bytes // MIB
    python = PYTHON_PROCESS_MIB * (cores // executors * executors + 1)
    margin = math.ceil(limit * MARGIN_SHARE)
    left = limit - DAEMONS_MIB - python - margin
    driver = min(left // (executors + 1), LARGEST_DRIVER_MIB)
    each, rest = divmod(left - driver, executors)
    smallest = Heap(*jvm(driver))
    if smallest.heap < SMALLEST_HEAP_MIB:
        heaps = (executors + 1) * (SMALLEST_HEAP_MIB + SMALLEST_JVM_OVERHEAD_MIB)
        least = math.ceil((heaps + DAEMONS_MIB + python) / (1 - MARGIN_SHARE)) + 1
        raise JobError(
            f"task {task!r}: of {human(limit_bytes)} of memory, with executors={executors}, the driver's heap and each "
            f"executor's gets {max(smallest.heap, 0)} MiB, and it needs {SMALLEST_HEAP_MIB} MiB. Ask for at least "
            f"{human(least * MIB)}, or for fewer executors."
        )
    return StandaloneMemory(smallest, executors, Heap(*jvm(each)), DAEMONS_MIB, python, margin + rest)


def settings(task: str, cores: int, shares: StandaloneMemory, extra: Mapping[str, str]) -> dict[str, str]:
    """Spark's settings; `extra` are the author's and win, except over what the size derives."""
    spark_conf.refuse_derived(task, extra, spark_conf.DERIVED)
    return {
        **spark_conf.in_one_pod(cores),
        "spark.master": "spark://127.0.0.1:7077",
        "spark.driver.memory": f"{shares.driver.heap}m",
        "spark.executor.memory": f"{shares.executor.heap}m",
        "spark.executor.cores": str(cores // shares.executors),
        # Read by images/spark/conf/executor-log4j2.properties: Spark tells executors nothing of the driver's level.
        "spark.executor.defaultJavaOptions": f"-Dlog.level={extra.get('spark.log.level', spark_conf.LOG_LEVEL)}",
        **extra,
    }


def command(cores: int, limit_bytes: int, shares: StandaloneMemory, submit: Sequence[str]) -> list[str]:
    """The command line of the pod, of spark-submit's.

    The worker's cores are as many as its executors use, so that there are so many executors; its memory is all of the
    pod's, as what they get of it was worked out here.
    """
    environment = {
        "SPARK_WORKER_CORES": str(cores // shares.executors * shares.executors),
        "SPARK_WORKER_MEMORY": f"{limit_bytes // MIB}m",
        "SPARK_DAEMON_MEMORY": f"{DAEMON_HEAP_MIB}m",
        "SPARK_LOCAL_DIRS": spark_conf.LOCAL_FOLDER,
        "SPARK_WORKER_DIR": f"{SCRATCH_FOLDER}/spark-worker",
    }
    return ["env", *(f"{name}={value}" for name, value in environment.items()), "standalone", *submit]
