"""`tidepool simulate deadlines`: which policy meets deadlines, and at what cost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.cli.options import JsonOption
from infra.cli.tables import FittedTable, figure, figures, name
from infra.cli.told import told
from infra.local.progress import Progress
from tidepool.deadlines import comparison, scenarios, traces
from tidepool.deadlines.comparison import Row, Target
from tidepool.deadlines.scenarios import LENGTHS, SLACKS, Scenario

Compared = list[tuple[Scenario, list[Row]]]


def deadlines(
    trace: Annotated[
        Path | None,
        typer.Argument(
            metavar="TRACE",
            help="Rows of start, end (seconds) and machines available, by tab or comma; or the JSON of the published "
            "traces (metadata.gap_seconds, data). Else the built-in scenarios.",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, max=1000, help=f"Times {len(LENGTHS) * len(SLACKS)} jobs in a scenario.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same figures.")] = 1,
    spot_price: Annotated[
        float, typer.Option("--spot-price", min=0.01, max=1.0, help="As a share of the on-demand price.")
    ] = comparison.SPOT_PRICE,
    as_json: JsonOption = False,
) -> None:
    """Compare the policies that choose between spot and on-demand for jobs with a deadline.

    Jobs of 0.5 to 12 hours with deadlines of 1.25 to 3 times that, with and without checkpoints, each at a random place
    of the trace. Cost is relative to running all of it on-demand; 5-95 % is its spread over the jobs. The published
    policies may move a running job, and know at once whether spot has machines; tidepool does, and knows, what its
    operator does: it decides before each attempt, and finds out by asking for a machine.

    What is promised of tidepool's policy is listed at the end, each with its figures and whether it holds here.

    \b
    Examples:
      tidepool simulate deadlines
      tidepool simulate deadlines us-west-2a.json --spot-price 0.3
      tidepool simulate deadlines spot.tsv --repeats 50 --seed 7 --json
    """
    progress = Progress()
    with told("simulate deadlines", traces.TraceError):
        chosen = scenarios.built_in(seed) if trace is None else scenarios.of_trace(traces.read(trace))
    compared: Compared = []
    for number, scenario in enumerate(chosen, start=1):
        with progress.step(f"{scenario.label} ({number} of {len(chosen)})"):
            compared.append((scenario, comparison.compare(scenario, repeats, seed, spot_price)))
    found = comparison.targets(compared)
    if as_json:
        typer.echo(json.dumps(_document(compared, found, seed, spot_price), indent=2))
    else:
        _show(compared, found)


def _document(compared: Compared, found: Sequence[Target], seed: int, spot_price: float) -> dict[str, object]:
    return {
        "seed": seed,
        "spot_price": spot_price,
        "rows": [dataclasses.asdict(row) for _, rows in compared for row in rows],
        "targets": [dataclasses.asdict(target) for target in found],
    }


def _show(compared: Compared, found: Sequence[Target]) -> None:
    console = Console(highlight=False)
    for scenario, rows in compared:
        console.print(f"{scenario.label} ({rows[0].jobs} jobs; spot is there {scenario.trace.share:.0%} of the time)")
        table = FittedTable(name("policy"), figure("met"), figure("cost"), *figures("5-95 %", "reclaims", "on spot"))
        for row in rows:
            spread = f"{row.low:.2f}-{row.high:.2f}"
            table.add_row(
                row.policy, f"{row.met:.1%}", f"{row.cost:.2f}", spread, f"{row.reclaims:.2f}", f"{row.on_spot:.0%}"
            )
        console.print(table)
        console.print()
    console.print("What is promised of the policy tidepool:")
    for target in found:
        console.print(f"- {'holds' if target.is_met else 'does not hold'}: {target.promise}")
        for exception in target.but:
            console.print(f"    {'but' if target.is_met else 'not in'} {exception}", soft_wrap=True)
