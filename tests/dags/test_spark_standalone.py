"""Executors inside one pod: how many, and how the pod's memory is shared out among their heaps."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.dags.fake_kubernetes import context
from tests.dags.submitted import conf_of
from tidepool import JobError, SparklingWaterPodOperator, SparkPodOperator, explain
from tidepool import spark_standalone as standalone
from tidepool.capacity import Capacity, Pool
from tidepool.capacity import dumps as document
from tidepool.explain import Figures
from tidepool.job import MIB
from tidepool.operators.explanation import before_any_run
from tidepool.sizing import place, spark_memory

GIB = 1024 * MIB
SIZES = [(4, 32), (8, 64), (16, 80), (16, 128), (32, 256), (48, 384), (64, 512), (96, 192), (96, 768), (7, 100)]


@pytest.mark.parametrize(("cores", "gib"), SIZES)
def test_one_jvm_up_to_a_heap_of_64_gib_and_above_executors_of_less_than_32(cores: int, gib: int) -> None:
    heap = spark_memory("t", gib * GIB, cores).heap
    count = standalone.executor_count("t", None, cores, gib * GIB)
    assert (count == 0) == (heap <= 64 * 1024)
    if count:
        assert standalone.memory("t", gib * GIB, cores, count).executor.heap < 32 * 1024
        assert cores // count >= 2


@pytest.mark.parametrize(("cores", "gib", "count"), [(16, 128, 4), (64, 512, 16), (48, 384, 12), (7, 100, 3)])
def test_they_are_as_few_as_leave_no_core_idle(cores: int, gib: int, count: int) -> None:
    assert standalone.executor_count("t", None, cores, gib * GIB) == count


@pytest.mark.parametrize(("cores", "gib", "count"), [(16, 1024, 8), (3, 200, 0)])
def test_where_memory_is_far_more_than_cores_an_executor_still_has_two(cores: int, gib: int, count: int) -> None:
    assert standalone.executor_count("t", None, cores, gib * GIB) == count


def test_the_author_says_how_many_or_that_there_are_none() -> None:
    assert standalone.executor_count("t", 3, 4, 4 * GIB) == 3
    assert standalone.executor_count("t", 0, 64, 512 * GIB) == 0


@pytest.mark.parametrize(("asked", "words"), [(-1, "a whole number"), (True, "a whole number"), (3, "with 2 cores")])
def test_what_is_no_number_of_executors_is_refused(asked: Any, words: str) -> None:
    with pytest.raises(JobError, match=f"task 't': executors.*{words}"):
        standalone.executor_count("t", asked, 2, 8 * GIB)


@pytest.mark.parametrize(("cores", "gib", "count"), [(2, 4, 2), (4, 16, 3), (16, 128, 4), (96, 768, 24), (2, 64, 1)])
def test_the_shares_add_up_to_the_limit_with_each_jvms_overhead_and_each_python_process(
    cores: int, gib: int, count: int
) -> None:
    shares = standalone.memory("t", gib * GIB, cores, count)
    jvms = [shares.driver] + [shares.executor] * count
    total = sum(each.heap + each.overhead for each in jvms) + shares.daemons + shares.python + shares.margin
    assert total == gib * 1024
    assert all(each.overhead >= max(384, each.heap // 10) for each in jvms)
    assert shares.python == 200 * (cores // count * count + 1)
    assert shares.margin >= 0.05 * gib * 1024
    assert shares.driver.heap <= 9 * 1024


def test_too_little_memory_says_how_much_is_enough() -> None:
    with pytest.raises(JobError, match=r"with executors=2.* needs 512 MiB") as raised:
        standalone.memory("t", 3 * GIB, 2, 2)
    least = int(re.findall(r'"(\d+)Mi"', str(raised.value))[-1])
    assert standalone.memory("t", least * MIB, 2, 2).executor.heap >= 512
    with pytest.raises(JobError):
        standalone.memory("t", (least - 3) * MIB, 2, 2)


@pytest.mark.usefixtures("capacity_file")
def test_a_pod_with_executors_starts_master_and_worker_of_their_size() -> None:
    job = SparkPodOperator(task_id="t", application="a.py", memory="4Gi", executors=2)
    shares = standalone.memory("t", 4 * GIB, 2, 2)
    conf, submit = conf_of(job), job.arguments.index("spark-submit")
    assert job.arguments[0] == "env"
    assert job.arguments[submit - 1] == "standalone"
    environment = dict(each.split("=", 1) for each in job.arguments[1 : submit - 1])
    assert environment["SPARK_WORKER_CORES"] == "2"
    assert environment["SPARK_LOCAL_DIRS"].startswith("/tmp/")  # noqa: S108 (the pod's)
    assert conf["spark.master"] == "spark://127.0.0.1:7077"
    assert (conf["spark.executor.cores"], conf["spark.executor.memory"]) == ("1", f"{shares.executor.heap}m")
    assert conf["spark.driver.memory"] == f"{shares.driver.heap}m"
    assert conf["spark.driver.bindAddress"] == "127.0.0.1", "nothing outside the pod may connect"
    assert conf["spark.tidepool.task"] == "{{ ti.task_id }}"


@pytest.fixture
def large(capacity_of: Callable[..., Capacity], pool: Callable[..., Pool], tmp_path: Any, monkeypatch: Any) -> Capacity:
    capacity = capacity_of(pool("large", cpu_millis=15890, memory_bytes=125 * GIB))
    path = tmp_path / "large.json"
    path.write_text(document(capacity))
    monkeypatch.setenv("TIDEPOOL_CAPACITY", str(path))
    return capacity


@pytest.mark.usefixtures("large")
def test_a_large_machine_has_executors_unless_its_job_says_no() -> None:
    assert conf_of(SparkPodOperator(task_id="t", application="a.py"))["spark.master"].startswith("spark://")
    for other in ({"executors": 0}, {"memory": "16Gi"}):
        job = SparkPodOperator(task_id="t", application="a.py", **other)
        assert conf_of(job)["spark.master"] == "local[16,4]"


def test_more_memory_for_the_next_attempt_is_shared_out_anew(large: Capacity) -> None:
    job = SparkPodOperator(task_id="t", application="a.py", memory="60Gi")
    assert job.arguments[0] == "spark-submit"
    small = place(job.job, large)
    job.resize(dataclasses.replace(small, memory_bytes=90 * GIB), context())
    assert job.arguments[0] == "env"
    assert "SPARK_WORKER_MEMORY=92160m" in job.arguments


@pytest.mark.usefixtures("capacity_file")
def test_the_executors_settings_follow_from_the_job_too() -> None:
    for conf in ({"spark.executor.memory": "1g"}, {"spark.executor.instances": "2"}):
        with pytest.raises(JobError, match="is derived from"):
            SparkPodOperator(task_id="t", application="a.py", conf=conf, executors=1)


@pytest.mark.usefixtures("capacity_file")
def test_the_authors_log_level_is_the_executors_too() -> None:
    conf = {"spark.log.level": "INFO"}
    job = SparkPodOperator(task_id="t", application="a.py", conf=conf, executors=1)
    assert conf_of(job)["spark.executor.defaultJavaOptions"] == "-Dlog.level=INFO"


@pytest.mark.usefixtures("large")
def test_h2o_stays_in_one_jvm() -> None:
    job = SparklingWaterPodOperator(task_id="t", application="a.py", image="h2o")
    assert conf_of(job)["spark.master"] == "local[16,4]"
    with pytest.raises(JobError, match="executors: H2O is in Spark's one JVM"):
        SparklingWaterPodOperator(task_id="t", application="a.py", image="h2o", executors=2)


def words(job: SparkPodOperator) -> tuple[Figures, list[str]]:
    found = before_any_run(job)
    return found, explain.lines(found)


@pytest.mark.usefixtures("capacity_file")
def test_the_arithmetic_is_told() -> None:
    found, lines = words(SparkPodOperator(task_id="t", application="a.py", memory="5Gi", cores=2, executors=2))
    spark = found["parts"][0]["spark_memory_mib"]
    driver, executor = ((spark[each]["heap"], spark[each]["overhead"]) for each in ("driver", "executor"))
    assert (
        f"Memory in MiB: driver (heap {driver[0]} + JVM overhead {driver[1]}) + 2 x (heap {executor[0]} + JVM overhead "
        f"{executor[1]}) + master and worker 576 + Python 600 + margin {spark['margin']} = 5120, the limit <= 6912"
    ) in "\n".join(lines)
    assert any(line.startswith("Spark: 2 executors of 1 thread each") for line in lines)
    _, lines = words(SparkPodOperator(task_id="t", application="a.py", memory="5Gi", cores=2))
    assert not [line for line in lines if line.startswith("Spark:")]
