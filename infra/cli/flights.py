"""What the flights_daily DAG found out, as a person wants to see it."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from infra.cli.tables import FittedTable, figure, name, word
from infra.local import lake
from infra.local.state import Cloud

_ROWS = 10
DELAYS, MODEL = "flights/delays.json", "flights/model.json"


def read(cloud: Cloud) -> dict[str, Any]:
    """The results in the lake: `delays`, rows by airline and origin, and `model`, its errors in minutes."""
    files, top = lake.hdfs(cloud), lake.folder(cloud)
    return {name: json.loads(files.read(f"{top}/{path}")) for name, path in (("delays", DELAYS), ("model", MODEL))}


def show(results: dict[str, Any], console: Console) -> None:
    """Print the airlines and origins whose flights arrive latest, and how well the model does."""
    rows, model = results["delays"], results["model"]
    console.print("\n[bold]The flights of New York in 2013[/bold], the latest arrivals first. Minutes of delay:")
    console.print("the means, and what nine of ten arrivals stayed below")
    ranks = {"flights": 1, "departed": 3, "arrived": 0, "9 of 10": 4, "cancelled": 2}
    table = FittedTable(name("airline"), word("from"), *(figure(*each) for each in ranks.items()))
    for row in rows[:_ROWS]:
        table.add_row(
            row["name"],
            row["origin"],
            f"{row['flights']:,}",
            _number(row["mean_dep_delay"]),
            _number(row["mean_arr_delay"]),
            _number(row["p90_arr_delay"]),
            f"{row['cancelled']:.1%}",
        )
    console.print(table)
    if len(rows) > _ROWS:
        console.print(f"… and {len(rows) - _ROWS} more", highlight=False)
    console.print(
        f"Model of the arrival delay, trained on {model['rows_train']:,} flights, "
        f"judged on {model['rows_test']:,} others:\n"
        f"RMSE {model['rmse']:.1f} min; saying that it arrives as late as it left, {model['baseline_rmse']:.1f} min",
        highlight=False,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
