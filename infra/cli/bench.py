"""`tidepool local bench`: how long a user waits for the cloud, for a machine and for a pod, from recorded events."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from infra.cli.options import JsonOption
from infra.cli.tables import FittedTable, figure, name
from infra.cli.told import told
from infra.local import cloud
from infra.local.kube import core_api
from infra.local.progress import Progress
from infra.local.state import Cloud
from tidepool import capacity, pod, sizing
from tidepool.job import Job
from tidepool.ledger import tail
from tidepool.ledger.events import Event
from tidepool.report import timeline

LIMIT_SECONDS = 120.0
TARGETS = {"up": 20.0, "launch to Ready": 4.0, "Pending to running, a machine bought": 8.0}
"""Seconds, with a warm cache on 2 cores: what the project promises itself."""


def bench(
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How many machines to buy, one after another.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Measure a local cloud of its own: up, a pod that needs a new machine several times, down.

    Exits with 1 if a median misses its target. Needs that no local cloud is up.

    \b
    Examples:
      tidepool local bench --rounds 5
    """
    with told("local bench"):
        figures = _measure(rounds, Progress())
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        _show(figures)
    raise typer.Exit(1 if any(_missed(name, values) for name, values in figures.items()) else 0)


def _measure(rounds: int, progress: Progress) -> dict[str, list[float]]:
    """Seconds by figure."""
    if cloud.is_up():
        raise cloud.CloudError("a local cloud is up; bench measures one of its own: `tidepool local down` first")
    try:
        cloud.up(progress)  # not counted: it fills the cache
        cloud.down(progress)
        start = time.monotonic()
        there = cloud.up(progress)
        up = time.monotonic() - start
        for number in range(rounds):
            with progress.step(f"round {number + 1} of {rounds}"):
                _round(there, number)
        events, document = tail.read(there.events), capacity.load(there.capacity)
        waits = timeline.bench(timeline.report(events, document, time.time()))
    finally:
        start = time.monotonic()
        cloud.down(progress)
    return {
        "up": [up],
        "launch to Ready": [millis / 1000 for millis in waits.launch_to_ready],
        "Pending to running, a machine bought": [millis / 1000 for millis in waits.queued_to_running],
        "down": [time.monotonic() - start],
    }


def _round(there: Cloud, number: int) -> None:
    """One pod on a machine of its own, bought for it; until that machine is gone."""
    document = capacity.load(there.capacity)
    manifest = pod.manifest(sizing.place(Job(task="bench"), document), document.images["spark"], document)
    manifest["metadata"]["name"] = f"bench-{number}"
    manifest["spec"]["containers"][0]["command"] = ["true"]
    labels, _ = pod.owner("bench", "bench", f"round-{number}", 1, document.default_tenant)
    manifest["metadata"]["labels"] |= labels
    api = core_api(there.kubeconfig)
    namespace = manifest["metadata"]["namespace"]
    created = api.create_namespaced_pod(namespace, manifest)
    ended = _event(there, lambda each: each.kind == "pod.ended" and each.pod_uid == created.metadata.uid)
    api.delete_namespaced_pod(created.metadata.name, namespace)
    _event(there, lambda each: each.kind == "machine.gone" and each.machine == ended.machine)


def _event(there: Cloud, wanted: Callable[[Event], bool]) -> Event:
    deadline = time.monotonic() + LIMIT_SECONDS
    for event in tail.follow(there.events, lambda: time.monotonic() > deadline):
        if wanted(event):
            return event
    raise cloud.CloudError(f"no pod or machine came to its end in {LIMIT_SECONDS:.0f} s; see {there.events}")


def _missed(name: str, values: list[float]) -> bool:
    return name in TARGETS and (not values or statistics.median(values) > TARGETS[name])


def _show(figures: dict[str, list[float]]) -> None:
    table = FittedTable(name("seconds"), figure("min", 2), figure("median"), figure("max", 1), figure("target"))
    for what, values in figures.items():
        spread: list[Any] = [min(values), statistics.median(values), max(values)] if values else []
        target = f"<= {TARGETS[what]:.0f}" if what in TARGETS else ""
        table.add_row(what, *(f"{value:.1f}" for value in spread), target)
    Console(highlight=False).print(table)
