"""Where a job's pod can land: on some job pool at all, with a fallback, and nowhere that it shouldn't."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from infra.contract import daemons, scheduling, topology
from infra.contract.problem import Problem
from infra.contract.template import Template
from infra.settings.model import Settings
from tidepool.capacity import Capacity, Pool

UNKNOWN_TYPES = 2
"""Of an existing cluster's pool nobody says which instance types it has: it gets the benefit of the doubt."""


def refusals(template: Template, settings: Settings, capacity: Capacity) -> dict[str, list[str]]:
    """Why a pool's machines would not take the pod, by pool; an empty list where they would."""
    return {
        name: scheduling.refusals(
            template.pod, pool, daemons.total(daemons.on_machine(settings, pool.gpus)), topology.of_pool(settings, name)
        )
        for name, pool in capacity.pools.items()
    }


def problems(template: Template, settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    """Everything that is wrong with where the pod can land."""
    refused = refusals(template, settings, capacity)
    taken = [capacity.pools[name] for name, reasons in refused.items() if not reasons]
    system = [pool.name for pool in taken if not pool.jobs]
    jobs = [pool for pool in taken if pool.jobs]
    if system:
        yield template.problem(
            "system-nodes",
            f"its pod can land on {', '.join(system)}, whose machines are for services",
            "Select a job pool's machines, and tolerate no more than their taint",
        )
    if not jobs:
        yield template.problem(
            "unschedulable",
            f"no machine of any job pool would ever take its pod ({_nearest(refused, capacity)})",
            "Correct the pod (tidepool's operators choose the pool themselves), or the pools' labels and taints",
        )
        return
    yield from _fallback(template, jobs)
    yield from _architecture(template, jobs, settings, capacity)
    gpus = scheduling.requests(template.pod).gpus
    for pool in jobs:
        if pool.gpus and not gpus:
            yield template.problem(
                "gpu",
                f"its pod can land on {pool.name}, whose machines have {_gpus(pool.gpus)} each, and asks for none",
                "Ask for GPUs, or name a pool without",
            )


def _nearest(refused: Mapping[str, list[str]], capacity: Capacity) -> str:
    """Why those job pools refuse a pod that have the fewest reasons against it, and how many others there are."""
    jobs = {name: why for name, why in refused.items() if capacity.pools[name].jobs}
    if not jobs:
        return "there is no job pool"
    nearest = min(jobs.values(), key=len)
    same = [name for name, why in jobs.items() if why == nearest]
    others = len(jobs) - len(same)
    rest = f"; {others} more refuse{'s' if others == 1 else ''} it for other reasons" if others else ""
    return f"{', '.join(same)}: {', '.join(nearest)}{rest}"


def _fallback(template: Template, pools: list[Pool]) -> Iterator[Problem]:
    spot = [pool for pool in pools if pool.market == "spot"]
    if not spot:
        return
    names = ", ".join(pool.name for pool in spot)
    if len(spot) == len(pools):
        yield template.problem(
            "no-fallback",
            f"its pod fits spot machines alone ({names}): when there are none, it waits until its time is up",
            "Let it run on an on-demand pool too: name no pool, or ask for a size that an on-demand pool has",
        )
    if sum(len(pool.instance_types) or UNKNOWN_TYPES for pool in spot) < 2:
        yield template.problem(
            "one-spot-type",
            f"its pod fits one instance type on spot ({names}: {', '.join(spot[0].instance_types)})",
            "Give the pool more instance types of the same shape, or the environment another spot pool",
        )


def _architecture(template: Template, pools: list[Pool], settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    if not any(image in capacity.images.values() for image in template.images):
        return  # somebody else's image: nothing is known of it
    for pool in pools:
        if pool.architecture not in settings.images.architectures:
            yield template.problem(
                "architecture",
                f"its pod can land on {pool.name}, whose machines are {pool.architecture}, and the images are built "
                f"for {', '.join(settings.images.architectures)}",
                f"Add {pool.architecture} to images.architectures, or choose instance types of another processor",
            )


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
