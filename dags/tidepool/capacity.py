"""The capacity document: the pools as data, the one thing that infra/ and dags/ share.

infra/ writes it (a ConfigMap, a file, a stack output), the DAG library reads it. JSON, standard library only.
Sizes: CPU in millicores, memory and storage in bytes, prices in USD per machine and hour. Everything a pool promises
is per machine and *allocatable* (what pods can have), not what EC2 sells.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

VERSION = 2
PATH_VARIABLE = "TIDEPOOL_CAPACITY"
LABEL_PREFIX = "tidepool.dev/"
POOL_LABEL = LABEL_PREFIX + "pool"
TEAM_LABEL = LABEL_PREFIX + "team"

BREAKERS_CONFIG_MAP = "tidepool-breakers"
"""In each team's namespace: what its attempts found out about pools. infra/ makes it, jobs' operators write it."""

SPENDING_CONFIG_MAP = "tidepool-spending"
"""In each team's namespace: what its budgets' jobs cost, which the keeper writes, and what is set aside for those that
run, which jobs' operators write. infra/ makes it."""

OVERRIDES_CONFIG_MAP = "tidepool-overrides"
"""In each team's namespace: sizes that jobs have instead of what their authors asked for, as `tidepool jobs right-size`
writes them. infra/ makes it, jobs' operators read it and take back what ran out of memory."""

JOB_PRIORITY_CLASS = "tidepool-job"
"""The PriorityClass that a job's pod names; infra/ makes it."""

DRIVER_SERVICE_ACCOUNT = "job-driver"
"""Of every tenant's namespace, made by infra/: a driver of Spark may make and remove the pods of its executors."""

GPU_RESOURCE = "nvidia.com/gpu"
"""The extended resource that GPUs are requested as."""

Market = Literal["spot", "on-demand"]
Architecture = Literal["amd64", "arm64"]  # as Kubernetes and image platforms call them
Period = Literal["day", "month"]
AtLimit = Literal["fail", "wait"]


class CapacityError(Exception):
    """The capacity document is missing or wrong; the message says which file, which keys and what to do."""


@dataclass(frozen=True)
class Taint:
    """A Kubernetes taint."""

    key: str
    value: str
    effect: str

    def toleration(self) -> dict[str, str]:
        """What a pod that may land there says, as Kubernetes spells it."""
        return {"key": self.key, "operator": "Equal", "value": self.value, "effect": self.effect}


@dataclass(frozen=True)
class Tenant:
    """Where a team's jobs run, and as whom: the one ServiceAccount that its pods have.

    share_percent: of each job pool's machines, for its jobs alone; 0: it shares what is left with the others.
    """

    namespace: str
    service_account: str
    share_percent: int = 0


@dataclass(frozen=True)
class Lake:
    """Where jobs read and write data. uri: what a job gets as TIDEPOOL_LAKE, such as `s3a://bucket/prefix`."""

    uri: str


@dataclass(frozen=True)
class Budget:
    """What jobs may cost in a day or month (UTC). team, dag: whose; empty: anybody's.

    soft_usd: from there on tasks say so; hard_usd: from there on none starts: it fails, or waits. 0: no such limit.
    """

    team: str
    dag: str
    per: Period
    soft_usd: float
    hard_usd: float
    at_limit: AtLimit


@dataclass(frozen=True)
class Pool:
    """A pool of equal machines. labels: what its nodes carry, all of them, and no other pool's nodes.

    gpus: of one machine, as pods request them. architecture: what images must be built for.
    """

    name: str
    market: Market
    jobs: bool
    instance_types: tuple[str, ...]
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    cpu_millis: int
    memory_bytes: int
    ephemeral_storage_bytes: int
    gpus: int
    architecture: Architecture
    max_machines: int
    priority: int
    usd_per_hour: float
    on_demand_usd_per_hour: float


@dataclass(frozen=True)
class Capacity:
    """All pools of one environment, and the defaults that jobs get from it.

    tenants: by team. default_tenant: whose a job is that names no team. images: image reference by name (`spark` …).
    schedule_timeout_seconds: how long a pod may wait for a machine. spark_conf: settings of every Spark job, such as
    how it reaches HDFS. budgets: by name. queues: Airflow has the pools that follow from this (tidepool.queues).
    """

    cluster: str
    tenants: dict[str, Tenant]
    default_tenant: str
    images: dict[str, str]
    schedule_timeout_seconds: int
    pools: dict[str, Pool]
    lake: Lake | None = None
    spark_conf: dict[str, str] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    queues: bool = False


def pool_of(labels: Mapping[str, str], pools: Iterable[Pool]) -> str:
    """The name of the pool that a node with these labels is of; where several would do, the one that asks for most.

    A node of none of the pools is of the one that tidepool's own label names, if it has that; else the name is empty.
    """
    found = [pool for pool in pools if pool.labels and pool.labels.items() <= labels.items()]
    if not found:
        return labels.get(POOL_LABEL, "")
    return max(found, key=lambda pool: len(pool.labels)).name


def dumps(capacity: Capacity) -> str:
    """The document as JSON text; `loads` reads it back unchanged."""
    document = {"version": VERSION, **dataclasses.asdict(capacity)}
    if not capacity.budgets:
        del document["budgets"]
    document["pools"] = {
        name: {key: value for key, value in pool.items() if key != "name"} for name, pool in document["pools"].items()
    }
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def loads(text: str, where: str = "capacity document") -> Capacity:
    """Read the JSON text. Raises CapacityError with every problem at once; `where` names the source in it."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise CapacityError(f"{where}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CapacityError(f"{where}: must be a JSON object")
    if document.get("version") != VERSION:
        raise CapacityError(f"{where}: version is {document.get('version')!r}; this library reads version {VERSION}")
    problems: list[str] = []
    pools = document.get("pools")
    if not isinstance(pools, dict):
        problems.append("pools: must be an object of pools by name")
        pools = {}
    read: dict[str, Pool | None] = {}
    for name, body in pools.items():
        path = f"pools.{name}"
        if isinstance(body, dict):
            body = {**body, "name": name, "taints": _taints(body.get("taints"), f"{path}.taints", problems)}
            if isinstance(body.get("instance_types"), list):
                body["instance_types"] = tuple(body["instance_types"])
        read[name] = pool = _build(Pool, body, path, problems)
        if pool is not None and pool.jobs and not pool.labels:
            problems.append(f"{path}.labels: must be at least one: jobs select the pool's nodes by them")
    lake = document.get("lake")
    top = {key: value for key, value in document.items() if key != "version"}
    top |= {"pools": read, "lake": None if lake is None else _build(Lake, lake, "lake", problems)}
    if "tenants" in document:
        top["tenants"] = _tenants(document["tenants"], document.get("default_tenant"), problems)
    if "budgets" in document:
        top["budgets"] = _budgets(document["budgets"], problems)
    capacity: Capacity | None = _build(Capacity, top, "", problems)
    if problems or capacity is None:
        raise CapacityError(f"{where}:\n" + "\n".join(f"  {problem}" for problem in problems))
    return capacity


def load(path: str | os.PathLike[str] | None = None) -> Capacity:
    """Read the document from `path`, else from the file that TIDEPOOL_CAPACITY names; unchanged files are read once.

    Raises CapacityError where there is no such file, or where `loads` finds problems in it.
    """
    chosen = path or os.environ.get(PATH_VARIABLE)
    if not chosen:
        raise CapacityError(
            f"no capacity document: {PATH_VARIABLE} is not set. It names the JSON file with the environment's "
            "pools: in a cluster the mounted ConfigMap tidepool-capacity, here what `tidepool local up` prints."
        )
    try:
        stat = os.stat(chosen)  # noqa: PTH116 - each operator of a file asks, and a Path takes three times as long
        return _load(str(chosen), stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise CapacityError(
            f"capacity document {chosen}: {error.strerror}. {PATH_VARIABLE} names it; is the ConfigMap "
            "tidepool-capacity mounted there, or the local cloud up?"
        ) from error
    except UnicodeDecodeError as error:
        raise CapacityError(f"capacity document {chosen}: not UTF-8: {error}") from error


@functools.lru_cache(maxsize=8)
def _load(path: str, mtime_ns: int, size: int) -> Capacity:
    """One version of a file: a DAG file with a hundred jobs reads the document once, and again when it changed."""
    return loads(Path(path).read_text(encoding="utf-8"), f"capacity document {path}")


def _tenants(body: Any, default: Any, problems: list[str]) -> dict[str, Tenant | None]:
    if not isinstance(body, dict):
        problems.append("tenants: must be an object of tenants by team")
        return {}
    if isinstance(default, str) and default not in body:
        known = ", ".join(sorted(body)) or "none"
        problems.append(f"default_tenant: must be one of the tenants ({known}), not {default!r}")
    return {team: _build(Tenant, tenant, f"tenants.{team}", problems) for team, tenant in body.items()}


def _budgets(body: Any, problems: list[str]) -> dict[str, Budget | None]:
    if not isinstance(body, dict):
        problems.append("budgets: must be an object of budgets by name")
        return {}
    return {name: _build(Budget, budget, f"budgets.{name}", problems) for name, budget in body.items()}


def _taints(body: Any, path: str, problems: list[str]) -> tuple[Taint | None, ...]:
    if not isinstance(body, list):
        problems.append(f"{path}: must be a list of taints")
        return ()
    return tuple(_build(Taint, item, f"{path}[{index}]", problems) for index, item in enumerate(body))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number, not negative", lambda value: type(value) is int and value >= 0),
    "float": ("a number, not negative", lambda value: _is_number(value) and value >= 0),
    "Market": ("spot or on-demand", lambda value: value in ("spot", "on-demand")),
    "Architecture": ("amd64 or arm64", lambda value: value in ("amd64", "arm64")),
    "Period": ("day or month", lambda value: value in ("day", "month")),
    "AtLimit": ("fail or wait", lambda value: value in ("fail", "wait")),
    "tuple[str, ...]": (
        "a list of texts",
        lambda value: isinstance(value, tuple) and all(isinstance(item, str) for item in value),
    ),
    "dict[str, str]": (
        "an object of texts",
        lambda value: isinstance(value, dict) and all(isinstance(item, str) for item in value.values()),
    ),
}
"""What a field's annotation allows, in words and as a test. Fields of other types are checked where they are built."""


def _build(kind: Any, body: Any, path: str, problems: list[str]) -> Any:
    """One dataclass from a mapping; adds what is unknown, missing or of a wrong type to `problems`."""
    prefix = f"{path}." if path else ""
    if not isinstance(body, dict):
        problems.append(f"{path}: must be an object")
        return None
    before = len(problems)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    problems += [f"{prefix}{key}: unknown key" for key in body if key not in fields]
    for name, each in fields.items():
        if name not in body:
            if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
                problems.append(f"{prefix}{name}: missing")
            continue
        words, allowed = _KINDS.get(str(each.type), ("", lambda _: True))
        if not allowed(body[name]):
            problems.append(f"{prefix}{name}: must be {words}, not {body[name]!r}")
    return kind(**body) if len(problems) == before else None
