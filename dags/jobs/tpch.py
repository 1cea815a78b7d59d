"""All 22 queries of TPC-H, one after another, with the seconds that each took, as one JSON file in the lake.

    tpch.py SCALE DATA RESULT

SCALE: the data's scale factor; query 11 needs it. DATA: the URI of a folder with DATA/<table>.parquet for each of the
eight tables. RESULT: the URI of the file to write: {"scale", "started" and "ready", Unix seconds of this program's
start and of Spark's being there, "ended", "cores", "queries": {"1": {"seconds", "rows"}, …}}. Rows are lists of strings
and null, in the queries' own order. `tidepool bench tpch` runs it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from lake import write_json
from pyspark.sql import SparkSession

TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")


def main(scale: str, data: str, result: str) -> None:
    """Run them and write what came out."""
    started = time.time()
    spark = SparkSession.builder.getOrCreate()
    ready = time.time()
    for table in TABLES:
        spark.read.parquet(f"{data}/{table}.parquet").createOrReplaceTempView(table)
    found: dict[str, dict[str, Any]] = {}
    for number, text in queries(float(scale)).items():
        begin = time.monotonic()
        rows = spark.sql(text).collect()
        seconds = time.monotonic() - begin
        found[str(number)] = {"seconds": round(seconds, 3), "rows": [[cell(each) for each in row] for row in rows]}
        print(f"query {number}: {seconds:.2f} s, {len(rows)} rows")
    cores = spark.sparkContext.defaultParallelism
    told = {"scale": float(scale), "started": started, "ready": ready, "ended": time.time(), "cores": cores}
    write_json(spark, result, {**told, "queries": found})
    spark.stop()


def queries(scale: float) -> dict[int, str]:
    """The queries' texts by their numbers, for data of this scale factor."""
    text = Path(__file__).with_name("tpch.sql").read_text(encoding="utf-8")
    statements = text.replace(":fraction", f"{0.0001 / scale:.12f}").split(";")[:-1]
    return dict(enumerate((each.strip() for each in statements), start=1))


def cell(value: Any) -> str | None:
    """A value as a JSON file can have it, whatever its type."""
    return None if value is None else str(value)


if __name__ == "__main__":
    main(*sys.argv[1:])
