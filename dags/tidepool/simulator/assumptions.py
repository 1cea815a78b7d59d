"""What the simulation takes for granted: every figure that no machine was measured for, where it is from, by name."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class AssumptionError(Exception):
    """What is to be assumed can't be; the message says what can."""


def _assumed(value: float, meaning: str, source: str) -> Any:
    return dataclasses.field(default=value, metadata={"meaning": meaning, "source": source})


@dataclass(frozen=True)
class Assumptions:
    """Seconds, bytes and ratios. Each field's metadata says what it means and where it is from."""

    launch_seconds: float = _assumed(
        12.0,
        "from the autoscaler's order to the machine's launch, not billed; a third more or less",
        "judgement",
    )
    boot_seconds: float = _assumed(
        67.5,
        "from launch to Ready, billed; a third more or less (45 to 90)",
        "45-90 s for a new EKS node: devfloor9.github.io, engineering playbook, Karpenter, 2026-02",
    )
    pull_seconds: float = _assumed(
        30.0,
        "the first job on a machine waits for its image; 0 with an AMI that has it",
        "judgement: Spark's image of 1.1 GB",
    )
    start_seconds: float = _assumed(3.0, "from the image to the running container", "judgement")
    failure_seconds: float = _assumed(
        60.0,
        "until the autoscaler knows that a pool gets no machine",
        "it reads the groups once a minute: kubernetes/autoscaler, aws_manager.go",
    )
    notice_seconds: float = _assumed(120.0, "from a spot notice to the end of the machine", "AWS, EC2 user guide")
    reclaims_per_hour: float = _assumed(
        -1.0,
        "of a spot machine; -1: from its type's band of the Spot Advisor (0.1 to 1.5 %)",
        "bundled price table, 2025-06; band to rate: tidepool.deadlines.priors",
    )
    task_gap_seconds: float = _assumed(
        10.0,
        "from a task's end to the next one's pod, in the built-in profiles",
        "judgement: Airflow's scheduler loop and the start of a task",
    )
    late_seconds: float = _assumed(
        1800.0,
        "a job is late so long after it would have been done without any waiting",
        "judgement; no trace has deadlines",
    )
    asked_by_authors: float = _assumed(
        1 / (1 - 0.46),
        "memory asked for, as a multiple of what is used, where authors guess",
        "slack of 46 %: Autopilot, EuroSys 2020",
    )
    asked_by_tidepool: float = _assumed(
        1 / (1 - 0.23),
        "the same where it is derived from past runs",
        "slack of 23 %: Autopilot, EuroSys 2020",
    )
    default_notice_seconds: float = _assumed(
        380.0,
        "until stock Kubernetes takes the pods of a silently lost machine for lost",
        "40 s to NotReady, 300 s of toleration, garbage collection",
    )
    default_retry_seconds: float = _assumed(300.0, "Airflow's default retry_delay", "Airflow 3.3, [core] default")
    core_bytes_per_second: float = _assumed(
        33e6,
        "bytes read, shuffled and written by a core in a second, where a trace has bytes only",
        "Spark's sort record: 3 x 100 TB, 6,592 cores, 23 min (Databricks, 2014)",
    )
    session_seconds: float = _assumed(
        20.0,
        "what a job of a trace runs for besides its bytes: the start of Spark's session",
        "judgement",
    )
    split_bytes: float = _assumed(
        128 * 1024.0**2,
        "input of a task: a job of a trace uses no more cores than it has tasks",
        "spark.sql.files.maxPartitionBytes",
    )
    core_memory_bytes: float = _assumed(
        1.5 * 1024**3,
        "memory that a job uses for each core",
        "judgement: 3/8 of what the m family has",
    )

    def __post_init__(self) -> None:
        problems = []
        for each in dataclasses.fields(self):
            value, least = getattr(self, each.name), _least(each.name)
            if not (math.isfinite(value) and value >= least):
                problems.append(f"{each.name}: must be a number of at least {least:g}, not {value:g}")
        if problems:
            raise AssumptionError("\n".join(problems))


_POSITIVE = ("core_bytes_per_second", "split_bytes", "core_memory_bytes")


def _least(name: str) -> float:
    if name.startswith("asked_by_") or name in _POSITIVE:
        return 1.0
    return -1.0 if name == "reclaims_per_hour" else 0.0


NAMES = tuple(each.name for each in dataclasses.fields(Assumptions))


def read(given: Iterable[str]) -> Assumptions:
    """The assumptions with some of them replaced: texts `name=value`. Raises AssumptionError with all that is wrong."""
    values: dict[str, float] = {}
    problems = []
    for text in given:
        name, _, value = text.partition("=")
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(NAMES)}"
            problems.append(f"{text!r}: there is no assumption {name!r}; {hint}")
            continue
        try:
            values[name] = float(value)
        except ValueError:
            problems.append(f"{text!r}: must be {name}=NUMBER")
    if problems:
        raise AssumptionError("\n".join(problems))
    return Assumptions(**values)


def table(assumptions: Assumptions) -> list[tuple[str, float, str, str]]:
    """(name, value, meaning, source) of each."""
    return [
        (each.name, getattr(assumptions, each.name), each.metadata["meaning"], each.metadata["source"])
        for each in dataclasses.fields(assumptions)
    ]


RULES = (
    "On-demand machines are always there; spot machines are not. `ample` has them for 12 hours at a time and then none "
    "for one, on average and in each pool by itself; where that begins, all of the pool's machines are reclaimed. A "
    "trace of spot machines is taken for every pool. (Judgement, on the bad side: tidepool.deadlines.traces.)",
    "A job that loses its machine begins anew, ten times at most under every policy: there are no checkpoints.",
    "Of a spot pool's types EC2 gives each as often as any other; on-demand it gives the cheapest. Prices don't move.",
    "Under the first three policies jobs share machines of one size, the smallest that all of them fit, by their "
    "requests; with tidepool each has its own, of the smallest pool that it fits.",
    "24x7 has as many machines as the peak needs, and no job waits there; it is paid for whole days.",
    "After a reclaim the Auto Scaling Group launches another machine, wanted or not (kubernetes/autoscaler#4071).",
)
"""What else the simulation takes for granted."""
