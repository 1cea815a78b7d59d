"""The right answers to TPC-H's queries, by a database that is not Spark, and whether an answer is one of them.

The same queries on the same Parquet files, by DuckDB. It reckons means and quotients in binary, Spark in decimal:
numbers are equal where they differ by less than a millionth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import duckdb

TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")
_TOLERANCE = 1e-6

Rows = list[list[str | None]]


def queries(file: Path, scale: float) -> dict[int, str]:
    """The statements of dags/jobs/tpch.sql by their numbers, for data of this scale factor."""
    text = file.read_text(encoding="utf-8").replace(":fraction", f"{0.0001 / scale:.12f}")
    return dict(enumerate((each.strip() for each in text.split(";")[:-1]), start=1))


def answers(texts: dict[int, str], folder: Path) -> dict[int, Rows]:
    """The rows of each query on the files <table>.parquet of a folder, as texts."""
    with duckdb.connect() as database:
        for table in TABLES:
            database.read_parquet(str(folder / f"{table}.parquet")).create_view(table)
        return {
            number: [[_text(each) for each in row] for row in database.execute(text).fetchall()]
            for number, text in texts.items()
        }


def differences(found: dict[int, Rows], right: dict[int, Rows]) -> list[str]:
    """What is wrong with answers, a sentence for each query; empty where all are right.

    Rows may come in another order: where two are equal in what a query orders by, either may come first.
    """
    told = [f"query {number} has no answer" for number in right if number not in found]
    for number, rows in found.items():
        expected = right[number]
        if len(rows) != len(expected):
            told.append(f"query {number} has {len(rows)} rows instead of {len(expected)}")
            continue
        pairs = zip(_sorted(rows), _sorted(expected), strict=True)
        wrong = next(((row, other) for row, other in pairs if not _equal(row, other)), None)
        if wrong is not None:
            told.append(f"query {number} has the row {wrong[0]} instead of {wrong[1]}")
    return told


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _sorted(rows: Rows) -> Rows:
    """In an order in which numbers that are nearly equal stand alike."""
    return sorted(rows, key=lambda row: [_rounded(each) for each in row])


def _rounded(value: str | None) -> str:
    number = _number(value)
    return str(value) if number is None else f"{number:.4g}"


def _equal(row: Sequence[str | None], other: Sequence[str | None]) -> bool:
    return len(row) == len(other) and all(_same(*pair) for pair in zip(row, other, strict=True))


def _same(value: str | None, other: str | None) -> bool:
    if value == other:
        return True
    number, right = _number(value), _number(other)
    if number is None or right is None:
        return False
    return math.isclose(number, right, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _number(value: str | None) -> Decimal | None:
    try:
        return None if value is None else Decimal(value)
    except InvalidOperation:
        return None
