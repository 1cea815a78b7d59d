"""TPC-H: the queries, what answers are right, and that the modes compared have as much of everything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from infra import contract, settings
from infra.cli import bench_tpch
from infra.cli.main import app
from infra.local import paths, tpch, tpch_answers
from infra.local.tpch import CORES, EXECUTORS, MEMORY_GIB, POD
from tidepool.job import quantity

SCALE = 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight tables of scale factor 0.01."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return tpch.generated(SCALE)


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[int, tpch_answers.Rows]:
    return tpch_answers.answers(tpch_answers.queries(tpch.QUERIES, SCALE), folder)


@pytest.fixture(scope="module")
def pods() -> Mapping[str, Mapping[str, Any]]:
    file = paths.REPOSITORY / "stacks" / "Pulumi.local.yaml"
    return bench_tpch.pods(contract.planned(settings.load(file)))


def rows(folder: Path, table: str, *columns: str) -> list[tuple[Any, ...]]:
    return duckdb.read_parquet(str(folder / f"{table}.parquet")).select(*columns).fetchall()


def test_there_are_22_queries_in_the_order_of_their_numbers_and_the_job_reads_the_same() -> None:
    text = tpch.QUERIES.read_text(encoding="utf-8")
    titles = re.findall(r"^-- \d+: .+$", text, re.MULTILINE)
    assert [int(title[3:].split(":")[0]) for title in titles] == list(range(1, 23))
    texts = tpch_answers.queries(tpch.QUERIES, SCALE)
    assert list(texts) == list(range(1, 23))
    assert all(title in texts[number] for number, title in enumerate(titles, start=1))
    assert "0.010000000000" in texts[11]
    assert "0.0001 / scale:.12f" in (tpch.QUERIES.with_suffix(".py")).read_text(encoding="utf-8")


def test_the_answers_are_those_of_reckoning_by_hand(folder: Path, answers: dict[int, tpch_answers.Rows]) -> None:
    revenue = sum(
        price * discount
        for shipped, discount, sold, price in rows(
            folder, "lineitem", "l_shipdate", "l_discount", "l_quantity", "l_extendedprice"
        )
        if shipped.year == 1994 and 5 <= discount * 100 <= 7 and sold < 24
    )
    assert answers[6] == [[str(revenue)]]
    ordered = {customer for (customer,) in rows(folder, "orders", "o_custkey")}
    without = sum(1 for (customer,) in rows(folder, "customer", "c_custkey") if customer not in ordered)
    assert ["0", str(without)] in answers[13]


def test_the_answers_to_the_data_of_this_scale_do_not_change(answers: dict[int, tpch_answers.Rows]) -> None:
    counts = [4, 4, 10, 5, 5, 1, 4, 2, 173, 20, 1, 2, 33, 1, 1, 296, 1, 2, 1, 1, 1, 7]
    assert [len(answers[number]) for number in range(1, 23)] == counts
    assert answers[1][0][:3] == ["A", "F", "380456.00"]
    assert answers[4][0] == ["1-URGENT", "93"]
    assert answers[18][0][:3] == ["Customer#000000667", "667", "29158"]


def test_numbers_that_differ_in_the_last_digits_are_equal_and_the_order_of_equals_is_free() -> None:
    right: dict[int, tpch_answers.Rows] = {1: [["A", "25.575154611454693"], ["B", "2.00"], ["C", None]]}
    found: dict[int, tpch_answers.Rows] = {1: [["B", "2.000000"], ["C", None], ["A", "25.575155"]]}
    assert tpch_answers.differences(found, right) == []


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda found: found.pop(2), "query 2 has no answer"),
        (lambda found: found[1].pop(), "query 1 has 1 rows instead of 2"),
        (lambda found: found[1][0].__setitem__(1, "3.1"), "query 1 has the row ['A', '3.1'] instead of ['A', '3']"),
        (lambda found: found[1][0].__setitem__(1, None), "query 1 has the row ['A', None] instead of ['A', '3']"),
        (lambda found: found[1][0].append("x"), "query 1 has the row ['A', '3', 'x'] instead of ['A', '3']"),
    ],
)
def test_a_wrong_answer_is_told_by_its_query(spoil: Callable[[Any], Any], sentence: str) -> None:
    right: dict[int, tpch_answers.Rows] = {1: [["A", "3"], ["B", "4"]], 2: []}
    found = json.loads(json.dumps(right), object_hook=lambda each: {int(key): value for key, value in each.items()})
    spoil(found)
    assert tpch_answers.differences(found, right) == [sentence]


def test_the_modes_have_as_many_task_threads_and_as_much_memory(pods: Mapping[str, Mapping[str, Any]]) -> None:
    [one] = pods[POD]["spec"]["containers"]
    assert f"spark.master=local[{CORES},4]" in one["args"]
    assert one["resources"]["limits"]["memory"] == f"{MEMORY_GIB * 1024}Mi"

    [driver] = pods[EXECUTORS]["spec"]["containers"]
    conf = dict(each.split("=", 1) for each in driver["args"] if each.startswith("spark."))
    executors = int(conf["spark.executor.instances"])
    assert executors * int(conf["spark.executor.cores"]) == CORES
    mebibytes = [int(conf[f"spark.executor.{part}"].removesuffix("m")) for part in ("memory", "memoryOverhead")]
    of_all = quantity(driver["resources"]["limits"]["memory"]) + executors * sum(mebibytes) * 1024**2
    assert of_all == MEMORY_GIB * 1024**3


def test_a_pods_program_is_given_the_arguments_of_its_run(pods: Mapping[str, Mapping[str, Any]]) -> None:
    for pod in pods.values():
        assert pod["spec"]["containers"][0]["args"][-2:] == ["/opt/tidepool/jobs/tpch.py", "$ARGUMENTS"]


def test_a_mode_that_is_none_is_refused_with_those_that_are() -> None:
    told = CliRunner().invoke(app, ["bench", "tpch", "--modes", "pod,yarn"])
    assert told.exit_code == 2
    assert "no mode yarn; there are pod, executors, host" in " ".join(told.output.replace("│", " ").split())
