"""What an environment is: its stack file, read once, checked whole, typed. The only reader of Pulumi's configuration.

`load` reads a file `stacks/Pulumi.<environment>.yaml`, `from_pulumi` what the Pulumi engine made of the same file.
Both raise SettingsError with every problem at once. `stacks/README.md` explains each key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infra import naming
from infra.aws.instance_types import InstanceType, table
from infra.naming import DNS_LABEL
from infra.settings import stack_file
from infra.settings.stack_file import SettingsError as SettingsError
from infra.settings.strict import Table, near

Market = Literal["spot", "on-demand"]
PodSecurity = Literal["restricted", "baseline", "privileged"]

KEYS = ("owner", "cluster", "machines", "images", "jobs", "lake", "pools")
"""The project's own keys in a stack file, each as `tidepool:<key>`; Pulumi.yaml declares the same."""

LABEL_WORDS = "lower-case letters, digits and inner dashes, 63 at most"
IMAGE = r"(?!.*:latest$)[a-z0-9][\w./:-]*(:\w[\w.-]{0,127}|@sha256:[0-9a-f]{64})"
IMAGE_WORDS = "an image reference with a tag (not latest) or a sha256 digest"
REGION = r"[a-z]{2}(-[a-z]+)+-\d"


@dataclass(frozen=True)
class Cluster:
    """The Kubernetes cluster. kind `existing`: an EKS cluster of this name is there, and its network with it."""

    kind: Literal["existing"]
    name: str


@dataclass(frozen=True)
class Machines:
    """What the machines of all pools share: AMI id, and the name of the instance profile that they run under."""

    image: str
    instance_profile: str


@dataclass(frozen=True)
class Jobs:
    """Defaults of jobs. pod_security: level of the namespace; schedule_timeout_seconds: longest wait for a machine."""

    pod_security: PodSecurity
    schedule_timeout_seconds: int


@dataclass(frozen=True)
class Lake:
    """Where jobs read and write: a URI, and for `file:` the folder of the machine that is mounted at its path."""

    uri: str
    host_path: str


@dataclass(frozen=True)
class Pool:
    """Equal machines behind one Auto Scaling Group. unneeded_time: idle time before scale-down, such as `10m`."""

    name: str
    instance_types: tuple[InstanceType, ...]
    market: Market
    minimum: int
    maximum: int
    priority: int
    jobs: bool
    max_pods: int
    unneeded_time: str
    zones: tuple[str, ...]
    root_volume_gib: int


@dataclass(frozen=True)
class Settings:
    """One environment."""

    environment: str
    owner: str
    region: str
    cluster: Cluster
    machines: Machines
    images: dict[str, str]
    jobs: Jobs
    lake: Lake
    pools: dict[str, Pool]


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a stack file. `overrides`: dotted path below `tidepool:` to value, such as `images.spark`."""
    config = stack_file.override(stack_file.read(path), overrides or {})
    return parse(config, environment=stack_file.environment(path), where=str(path))


def from_pulumi() -> Settings:
    """The settings of the stack that is being deployed."""
    import pulumi

    stack = pulumi.get_stack()
    texts = {"aws": pulumi.Config("aws"), naming.PROJECT: pulumi.Config(naming.PROJECT)}
    config: dict[str, Any] = {}
    for key in pulumi.runtime.get_config_env():
        space, _, name = key.partition(":")
        if space == naming.PROJECT or key == "aws:region":
            reader = texts[space]
            config[key] = reader.get(name) if name in ("owner", "region") else _json(reader.get(name))
    return parse(config, environment=stack, where=f"stacks/Pulumi.{stack}.yaml")


def parse(config: Mapping[str, Any], environment: str, where: str) -> Settings:
    """Check a config map (`tidepool:<key>` and `aws:region`) whole. Raises SettingsError; `where` names the source."""
    problems: list[str] = []
    top = Table(dict(config), "", problems)
    region = top.string("aws:region", REGION, "an AWS region such as us-east-1")
    owner = top.string("tidepool:owner", DNS_LABEL, LABEL_WORDS)
    settings = Settings(
        environment=environment,
        owner=owner,
        region=region,
        cluster=_cluster(top.table("tidepool:cluster")),
        machines=_machines(top.table("tidepool:machines")),
        images=_images(top.table("tidepool:images")),
        jobs=_jobs(top.table("tidepool:jobs")),
        lake=_lake(top.table("tidepool:lake")),
        pools=_pools(top.table("tidepool:pools"), region),
    )
    top.done()
    if problems:
        raise SettingsError(where, problems)
    return settings


def _cluster(body: Table) -> Cluster:
    body.choice("kind", ("existing",))
    name = body.string("name", DNS_LABEL, LABEL_WORDS)
    body.done()
    return Cluster(kind="existing", name=name)


def _machines(body: Table) -> Machines:
    image = body.string("image", r"ami-[0-9a-f]{8,17}", "an AMI id such as ami-0123456789abcdef0")
    profile = body.string("instance_profile", r"[\w+=,.@-]{1,128}", "the name of an IAM instance profile")
    body.done()
    return Machines(image=image, instance_profile=profile)


def _images(body: Table) -> dict[str, str]:
    images = {"spark": body.string("spark", IMAGE, IMAGE_WORDS)}
    return images | {name: body.string(name, IMAGE, IMAGE_WORDS) for name in body.names() if name != "spark"}


def _jobs(body: Table) -> Jobs:
    security: Any = body.choice("pod_security", ("restricted", "baseline", "privileged"), default="restricted")
    timeout = body.integer("schedule_timeout_seconds", 60, 24 * 3600, default=1800)
    body.done()
    return Jobs(pod_security=security, schedule_timeout_seconds=timeout)


def _lake(body: Table) -> Lake:
    uri = body.string("uri", r"(file:///|s3a://|hdfs://)\S+", "a URI that begins with file:///, s3a:// or hdfs://")
    host_path = body.string("host_path", r"/\S+", "an absolute path", default="")
    body.done()
    if uri and uri.startswith("file:") != bool(host_path):
        body.problem("host_path", host_path, "given where the URI begins with file:///, and nowhere else")
    return Lake(uri=uri, host_path=host_path)


def _pools(body: Table, region: str) -> dict[str, Pool]:
    pools = {name: _pool(name, body.table(name), region) for name in body.names()}
    for name in pools:
        if not re.fullmatch(DNS_LABEL, name):
            body.problem(name, name, f"a name of {LABEL_WORDS}")
    if pools and not any(pool.jobs for pool in pools.values()):
        body.problem("", sorted(pools), "at least one pool with jobs: true; else no job has a machine")
    if not any(not pool.jobs and pool.minimum >= 1 for pool in pools.values()):
        body.problem(
            "", sorted(pools), "at least one pool with jobs: false and min: 1 or more; else no service has a machine"
        )
    return pools


def _pool(name: str, body: Table, region: str) -> Pool:
    market: Any = body.choice("market", ("spot", "on-demand"))
    minimum = body.integer("min", 0, 1000, default=0)
    maximum = body.integer("max", 1, 1000)
    if maximum < minimum:
        body.problem("max", maximum, f"at least min, which is {minimum}")
    pool = Pool(
        name=name,
        instance_types=_instance_types(body),
        market=market,
        minimum=minimum,
        maximum=maximum,
        priority=body.integer("priority", 1, 1000, default=10),
        jobs=body.boolean("jobs", default=True),
        max_pods=body.integer("max_pods", 4, 250, default=20),
        unneeded_time=body.string(
            "unneeded_time", r"(?=\d)(\d+h)?(\d+m)?(\d+s)?", "a duration such as 90s, 10m or 1h30m", default="10m"
        ),
        zones=body.strings("zones", rf"{re.escape(region)}[a-z]", f"a zone of the region such as {region}a"),
        root_volume_gib=body.integer("root_volume_gib", 20, 16384, default=80),
    )
    body.done()
    return pool


def _instance_types(body: Table) -> tuple[InstanceType, ...]:
    names = body.strings("instance_types", r"[a-z0-9.-]+", "an EC2 instance type such as m5.large")
    known = table()
    for index, name in enumerate(names):
        if name not in known:
            body.problem(f"instance_types[{index}]", name, f"a type of the price table{near(name, known)}")
    types = tuple(known[name] for name in names if name in known)
    if len({each.shape for each in types}) > 1:
        shapes = "; ".join(f"{each.name}: {each.shape}" for each in types)
        body.problem(
            "instance_types",
            list(names),
            f"of one shape, because the autoscaler takes the first for all, but there are {shapes}",
        )
    return types


def _json(text: str | None) -> Any:
    """An object of Pulumi's configuration, which arrives as JSON; other text stays as it is, for `parse` to refuse."""
    try:
        return json.loads(text or "null")
    except json.JSONDecodeError:
        return text
