"""The spark-submit command line of Spark in one pod; here with one JVM, and as many threads as the job has cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidepool.job import JobError
from tidepool.pod import SCRATCH_FOLDER
from tidepool.sizing import SparkMemory

JOBS_FOLDER = "/opt/tidepool/jobs"
TASK_FAILURES = 4
"""How often one Spark task may fail before the job does. `local[N]` alone would mean once."""

SHUFFLE_PARTITIONS_PER_CORE = 4
LOCAL_FOLDER = f"{SCRATCH_FOLDER}/spark"
LOG_LEVEL = "WARN"

DERIVED = {
    "spark.master": "cores",
    "spark.driver.memory": "memory",
    "spark.driver.cores": "cores",
    "spark.local.dir": "the pod's scratch volume",
    "spark.executor.memory": "memory",
    "spark.executor.cores": "executors",
    "spark.executor.instances": "executors",
    "spark.cores.max": "executors",
    "spark.dynamicAllocation.enabled": "executors",
}
"""Settings that follow from the job's size: by hand they would break the fit into pod and machine."""


def application_file(task: str, application: str) -> str:
    """Where a job's program is in the image: a bare name is looked for in the jobs folder.

    `local:///…` and absolute paths are taken as they are. Raises JobError for names that lead elsewhere.
    """
    path = application.removeprefix("local://") if isinstance(application, str) else ""
    if not path or ".." in path.split("/") or "://" in path:
        raise JobError(
            f"task {task!r}: application must be a file of the image, such as 'clean.py' (in {JOBS_FOLDER}) or "
            f"'local:///opt/my/clean.py', not {application!r}"
        )
    return path if path.startswith("/") else f"{JOBS_FOLDER}/{path}"


def refuse_derived(task: str, extra: Mapping[str, str], derived: Mapping[str, str]) -> None:
    """Raise JobError where `extra` has settings that follow from what the job asks for."""
    there = {key: derived[key] for key in extra if key in derived}
    if there:
        raise JobError(
            f"task {task!r}: "
            + "; ".join(f"conf {key} is derived from {source}" for key, source in there.items())
            + ". Ask for cores and memory instead."
        )


def settings(task: str, cores: int, memory: SparkMemory, extra: Mapping[str, str]) -> dict[str, str]:
    """Spark's settings for a pod of this size; `extra` are the author's and win, except over what the size derives."""
    refuse_derived(task, extra, DERIVED)
    return {
        **in_one_pod(cores),
        "spark.master": f"local[{cores},{TASK_FAILURES}]",
        "spark.driver.memory": f"{memory.heap}m",
        "spark.local.dir": LOCAL_FOLDER,
        **extra,
    }


def in_one_pod(cores: int) -> dict[str, str]:
    """What holds wherever all of Spark is in one pod."""
    return {
        # The default is a folder beside the program, where the image is read-only.
        "spark.sql.warehouse.dir": f"file:{SCRATCH_FOLDER}/warehouse",
        # Nothing has to find it by name, and nothing outside the pod may connect.
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # Nobody can reach the UI of a pod that lives for one job; it would only cost memory and start-up time.
        "spark.ui.enabled": "false",
        "spark.log.level": LOG_LEVEL,
        "spark.sql.adaptive.enabled": "true",
        # The default of 200 is for a cluster: most of them would be empty files and scheduling here.
        "spark.sql.shuffle.partitions": str(SHUFFLE_PARTITIONS_PER_CORE * cores),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }


def spark_submit(name: str, application: str, args: Sequence[str], conf: Mapping[str, str]) -> list[str]:
    """The command line as a list of arguments; `application` is a path in the image."""
    options = [part for key in sorted(conf) for part in ("--conf", f"{key}={conf[key]}")]
    return ["spark-submit", "--name", name, *options, application, *args]
