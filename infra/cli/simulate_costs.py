"""`tidepool simulate`: what a workload would cost under four policies, and where the money goes."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra import capacity_document
from infra.cli import price_lists, simulate_view, stacks
from infra.cli.options import JsonOption
from infra.cli.price_lists import PricesOption
from infra.cli.told import CommandError, told
from infra.local.progress import Progress
from infra.settings import patterns
from infra.settings.model import AwsCloud
from tidepool.capacity import Capacity
from tidepool.deadlines import traces
from tidepool.deadlines.traces import Trace, TraceError
from tidepool.prices import table as price_table
from tidepool.prices.book import PriceError
from tidepool.simulator import assumptions, comparison, policies, spot, swim, workloads
from tidepool.simulator.assumptions import AssumptionError, Assumptions
from tidepool.simulator.books import Books
from tidepool.simulator.comparison import World
from tidepool.simulator.policies import MachinePool, PoolError
from tidepool.simulator.workloads import Workload

SAMPLE = "fb-2009-0"
NAMES = (*workloads.PROFILES, SAMPLE)
_REFUSED = (AssumptionError, PoolError, PriceError, TraceError, swim.TraceError)
_DURATION = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class SimulationError(CommandError):
    """What is to be simulated can't be; the message says why and what can."""


TraceOption = Annotated[
    str, typer.Option("--trace", metavar="NAME|FILE", help=f"A built-in one ({', '.join(NAMES)}) or a file.")
]
PoolsOption = Annotated[
    str, typer.Option("--stack", metavar="STACK", help="Whose pools: an environment such as dev, or a stack file.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same figures, to the cent.")]
SpotOption = Annotated[
    str,
    typer.Option(
        "--spot",
        metavar="NAME|FILE",
        help=f"When spot machines are there: {', '.join(spot.PROCESSES)}, or a file as for `deadlines`.",
    ),
]
UnneededOption = Annotated[
    str,
    typer.Option(
        "--unneeded-time", metavar="TIME", help="After it tidepool gives idle machines back; else the stack's."
    ),
]
MostOption = Annotated[int, typer.Option("--max-machines", min=1, max=100_000, help="Of each pool at most.")]
DiscountOption = Annotated[
    float, typer.Option("--discount", min=0.0, max=0.99, help="On 24x7, as a reservation gives; 0.4 is 40 %.")
]
AssumeOption = Annotated[
    list[str] | None,
    typer.Option("--assume", metavar="NAME=NUMBER", help="Another value of an assumption; may be repeated."),
]


def costs(
    context: typer.Context,
    trace: TraceOption = "seed",
    stack: PoolsOption = "prod",
    seed: SeedOption = 1,
    spot_there: SpotOption = "ample",
    unneeded_time: UnneededOption = "",
    most: MostOption = 5000,
    discount: DiscountOption = 0.0,
    prices: PricesOption = None,
    assume: AssumeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a workload would cost: 24x7, autoscaled on-demand, on spot with the defaults, and with tidepool.

    Simulates jobs, autoscaler, ladder, sizing and the spot market, buys nothing, and does the books as the report does.
    All assumptions are listed below the result, each with its source.

    A trace file has a job a line, by tab: job, submit time and gap (s), map input, shuffle and reduce output (bytes),
    as in the SWIM suite. `tidepool simulate deadlines` compares policies for jobs with deadlines.

    \b
    Examples:
      tidepool simulate
      tidepool simulate --trace fb-2009-0 --unneeded-time 10m
      tidepool simulate --trace small --spot never
      tidepool simulate --trace busy --discount 0.6
      tidepool simulate --assume boot_seconds=120 --assume pull_seconds=0 --json
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    with told("simulate", *_REFUSED):
        assumed = assumptions.read(assume or [])
        world = _world(stack, prices, unneeded_time, most, assumed, _spot(spot_there), seed, discount)
        workload = _workload(trace, seed, assumed, world)
        began = time.monotonic()
        with Progress().step(f"{workload.name}: {len(workload.jobs):,} jobs under {len(policies.NAMES)} policies"):
            found, short = comparison.compare(workload, world), comparison.ten_minutes(world)
        seconds = time.monotonic() - began
    _print(workload, world, found, short, seconds, as_json)


def _print(
    workload: Workload, world: World, found: list[Books], short: list[Books], seconds: float, as_json: bool
) -> None:
    if as_json:
        typer.echo(json.dumps(comparison.document(workload, world, found, short), indent=2))
    else:
        simulate_view.show(workload, world, found, short, Console(highlight=False))
    typer.echo(f"simulated in {seconds:.1f} s", err=True)


def _refuse_options(context: typer.Context) -> None:
    """Options before a sub-command would be ignored."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"give options after {context.invoked_subcommand}, not before it")


def _workload(trace: str, seed: int, assumed: Assumptions, world: World) -> Workload:
    if trace in workloads.PROFILES:
        return workloads.PROFILES[trace](seed, assumed)
    path = swim.BUNDLED if trace == SAMPLE else Path(trace)
    if trace != SAMPLE and not path.exists() and not path.suffix:
        raise SimulationError(f"there is no trace {trace!r}: neither a file nor one of {', '.join(NAMES)}")
    largest = max(-(-each.pool.cpu_millis // 1000) for each in world.pools.values())
    return swim.read(path, assumed, largest)


def _spot(given: str) -> str | Trace:
    if given in spot.PROCESSES:
        return given
    path = Path(given)
    if not path.exists() and not path.suffix:
        raise SimulationError(f"--spot: there is no file {given!r}; built in are {', '.join(spot.PROCESSES)}")
    return traces.read(path)


def _world(
    stack: str,
    prices: Path | None,
    unneeded_time: str,
    most: int,
    assumed: Assumptions,
    there: str | Trace,
    seed: int,
    discount: float,
) -> World:
    book = price_table.bundled().merged(price_lists.read(prices))
    capacity, volumes, unneeded = _stack(stack)
    if unneeded_time:
        unneeded = dict.fromkeys(unneeded, _seconds(unneeded_time))
    pools: dict[str, MachinePool] = policies.machine_pools(capacity, book, volumes, unneeded, most)
    return World(capacity, pools, book, assumed, there, seed, discount)


def _stack(stack: str) -> tuple[Capacity, dict[str, float], dict[str, float]]:
    """The pools of a stack; their root volumes in GiB; how long their machines idle, in seconds."""
    loaded = stacks.load(stack)
    if not isinstance(loaded.cloud, AwsCloud):
        raise SimulationError(f"--stack: {stack} is not a cluster on AWS, and its pools' machine types are not known")
    pools = loaded.cloud.pools
    volumes = {name: float(pool.root_volume_gib) for name, pool in pools.items()}
    unneeded = {name: _seconds(pool.unneeded_time) for name, pool in pools.items()}
    return capacity_document.build(loaded, "", {}), volumes, unneeded


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise SimulationError(f"--unneeded-time: must be {patterns.DURATION_WORDS}, not {text!r}")
    hours, minutes, seconds = (int(each or 0) for each in match.groups())
    return hours * 3600.0 + minutes * 60 + seconds
