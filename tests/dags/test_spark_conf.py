from __future__ import annotations

import pytest

from tidepool import spark_conf
from tidepool.job import MIB, JobError
from tidepool.pod import SCRATCH_FOLDER
from tidepool.sizing import SparkMemory, spark_memory

MEMORY = SparkMemory(heap=1934, overhead=384, python=600, margin=154)


@pytest.mark.parametrize(
    ("application", "file"),
    [
        ("clean.py", "/opt/tidepool/jobs/clean.py"),
        ("etl/clean.py", "/opt/tidepool/jobs/etl/clean.py"),
        ("/opt/mine/clean.py", "/opt/mine/clean.py"),
        ("local:///opt/mine/clean.py", "/opt/mine/clean.py"),
    ],
)
def test_an_application_is_a_file_of_the_image(application: str, file: str) -> None:
    assert spark_conf.application_file("t", application) == file


@pytest.mark.parametrize("application", ["", "../secret.py", "s3a://bucket/clean.py", "http://x/y.py", None])
def test_an_application_from_elsewhere_is_refused(application: object) -> None:
    with pytest.raises(JobError, match="task 't': application must be a file of the image"):
        spark_conf.application_file("t", application)  # type: ignore[arg-type]


def test_the_cluster_is_one_jvm_with_a_thread_for_each_core_that_retries_its_tasks() -> None:
    settings = spark_conf.settings("t", 4, MEMORY, {})
    assert settings["spark.master"] == "local[4,4]"
    assert settings["spark.driver.memory"] == "1934m"
    assert settings["spark.local.dir"] == f"{SCRATCH_FOLDER}/spark"
    assert settings["spark.sql.shuffle.partitions"] == "16"


def test_the_authors_settings_win() -> None:
    assert spark_conf.settings("t", 1, MEMORY, {"spark.ui.enabled": "true"})["spark.ui.enabled"] == "true"


def test_settings_that_follow_from_the_size_cannot_be_given_by_hand() -> None:
    with pytest.raises(JobError) as caught:
        spark_conf.settings("t", 1, MEMORY, {"spark.driver.memory": "9g", "spark.master": "local[64]", "a": "b"})
    assert "spark.driver.memory is derived from memory" in str(caught.value)
    assert "spark.master is derived from cores" in str(caught.value)


def test_the_command_line_keeps_every_argument_whole() -> None:
    line = spark_conf.spark_submit("d.t", "/jobs/a.py", ["--day", "2026 11 22", "; rm -rf /"], {"b": "2", "a": "1 x"})
    assert line == [
        *("spark-submit", "--name", "d.t", "--conf", "a=1 x", "--conf", "b=2"),
        *("/jobs/a.py", "--day", "2026 11 22", "; rm -rf /"),
    ]


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_heap_overhead_and_python_stay_below_the_limit(cores: int) -> None:
    limit = 4096
    memory = spark_memory("t", limit * MIB, cores)
    heap = int(spark_conf.settings("t", cores, memory, {})["spark.driver.memory"].removesuffix("m"))
    assert heap + max(384, heap // 10) + 200 * (cores + 1) < limit
