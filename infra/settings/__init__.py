"""What an environment is: its stack file, read once, checked whole, typed. The only reader of Pulumi's configuration.

`load` reads a file `stacks/Pulumi.<environment>.yaml`, `from_pulumi` what the Pulumi engine made of the same file.
Both raise SettingsError with every problem at once. `stacks/README.md` explains each key; the types: `model`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.naming import DNS_LABEL, PROJECT
from infra.settings import aws, existing, patterns, services, stack_file
from infra.settings.model import AwsCloud, ExistingCloud, Images, Lake, Services
from infra.settings.model import Settings as Settings
from infra.settings.stack_file import SettingsError as SettingsError
from infra.settings.strict import Table

REQUIRED = ("owner", "cluster", "pools", "tenants", "images", "jobs")

OPTIONAL: dict[str, Any] = {
    "protect": True,
    "network": {},
    "system": {},
    "machines": {},
    "storage": {},
    "database": {},
    "budget": {},
    "quotas": {},
    "storage_class": "",
    "system_nodes": {},
    "database_secret": "",
    "logs": "",
    "event_logs": "",
    "service_accounts": {},
    "lake": {},
    "airflow": {},
    "hdfs": {},
    "monitoring": {},
    "keeper": {},
    "spark_operator": False,
    "history_server": False,
    "chart_sources": {},
}
"""What a key is where the stack file has none. Pulumi.yaml says the same, because its engine fills it in."""

KEYS = (*REQUIRED, *OPTIONAL)
"""The project's own keys in a stack file, each as `tidepool:<key>`; Pulumi.yaml declares the same."""

OF_KIND = {
    "eks": (
        "aws:region",
        *(f"{PROJECT}:{key}" for key in ("protect", "network", "system", "machines", "storage", "database", "budget")),
        f"{PROJECT}:quotas",
    ),
    "existing": tuple(
        f"{PROJECT}:{key}"
        for key in ("storage_class", "system_nodes", "database_secret", "logs", "event_logs", "service_accounts")
    ),
}
"""The keys that only one kind of cluster has."""


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a stack file. `overrides`: dotted path below `tidepool:` to value, such as `owner`."""
    config = stack_file.override(stack_file.read(path), overrides or {})
    return parse(config, environment=stack_file.environment(path), where=str(path))


def from_pulumi() -> Settings:
    """The settings of the stack that is being deployed."""
    import pulumi

    stack = pulumi.get_stack()
    own, region = pulumi.Config(PROJECT), pulumi.Config("aws").get("region")
    there = [key.partition(":") for key in pulumi.runtime.get_config_env()]
    names = dict.fromkeys([*KEYS, *(name for space, _, name in there if space == PROJECT)])
    config = {f"{PROJECT}:{name}": _value(name, text) for name in names if (text := own.get(name)) is not None}
    config |= {"aws:region": region} if region else {}
    return parse(config, environment=stack, where=f"stacks/Pulumi.{stack}.yaml")


def parse(config: Mapping[str, Any], environment: str, where: str) -> Settings:
    """Check a config map (`tidepool:<key>` and `aws:region`) whole. Raises SettingsError; `where` names the source."""
    problems: list[str] = []
    top = Table({key: value for key, value in config.items() if not _is_default(key, value)}, "", problems)
    owner = top.string("tidepool:owner", DNS_LABEL, patterns.LABEL_WORDS)
    deployed = services.services(top)
    images = services.images(top.table("tidepool:images"), services.wanted_images(deployed))
    cloud = _cloud(top, images)
    teams = top.table("tidepool:tenants")
    lake = services.lake(top.optional("tidepool:lake"), deployed.hdfs)
    tenants = services.tenants(teams)
    jobs = services.jobs(top.table("tidepool:jobs"), tuple(tenants))
    if cloud is not None:
        _check(top, cloud, images, lake, deployed)
    top.done()
    if problems or cloud is None:
        raise SettingsError(where, problems)
    return Settings(
        environment=environment,
        owner=owner,
        cloud=cloud,
        tenants=tenants,
        images=images,
        jobs=jobs,
        lake=lake,
        services=deployed,
    )


def _cloud(top: Table, images: Images) -> AwsCloud | ExistingCloud | None:
    """The cloud of the cluster's kind, or None after a report that there is no such kind."""
    kind = top.peek("tidepool:cluster", "kind")
    if kind not in OF_KIND:
        top.table("tidepool:cluster").choice("kind", OF_KIND)
        top.skip("tidepool:pools", *(key for keys in OF_KIND.values() for key in keys))
        return None
    for other, keys in OF_KIND.items():
        if other != kind:
            top.foreign(keys, f"a key of cluster.kind {other}; this cluster's kind is {kind}")
    reader = aws.read if kind == "eks" else existing.read
    return reader(top, images.architectures)


def _check(top: Table, cloud: AwsCloud | ExistingCloud, images: Images, lake: Lake, deployed: Services) -> None:
    """What the services, the lake and the images need of the cloud."""
    has_database = cloud.database is not None if isinstance(cloud, AwsCloud) else bool(cloud.database_secret)
    if deployed.keeper is not None and deployed.keeper.replicas > 1 and not has_database:
        top.problem(
            "tidepool:keeper.replicas",
            deployed.keeper.replicas,
            "1 at most without a database (tidepool:database or tidepool:database_secret): its ledger is then a file "
            "on a volume, which one pod has",
        )
    if isinstance(cloud, AwsCloud):
        if deployed.airflow is not None and cloud.database is None:
            top.missing_key("tidepool:database", "there where tidepool:airflow is; Airflow keeps its state in it")
        most, apart = cloud.system.maximum, services.machines_of_hdfs(deployed.hdfs)
        if apart > most and not top.wrong("tidepool:system") and not top.wrong("tidepool:hdfs"):
            top.problem(
                "tidepool:system.max",
                most,
                f"{apart} at least: no two DataNodes, and no two of the "
                "three JournalNodes of high_availability, may be on one machine",
            )
        return
    kind = "with cluster.kind existing"
    if not lake.uri and not top.wrong("tidepool:lake"):
        top.missing_key("tidepool:lake.uri", f"given {kind}, which has no bucket of its own")
    if images.build:
        top.problem("tidepool:images.build", True, f"false {kind}, which has no registry of its own")
    if deployed.airflow is not None:
        if not cloud.database_secret:
            top.missing_key("tidepool:database_secret", f"given {kind} where tidepool:airflow is")
        if not cloud.logs:
            top.missing_key("tidepool:logs", f"given {kind} where tidepool:airflow is, for its remote logs")
    if deployed.history_server and not cloud.event_logs:
        top.missing_key("tidepool:event_logs", f"given {kind} where tidepool:history_server is true")


def _is_default(key: str, value: Any) -> bool:
    default = OPTIONAL.get(key.removeprefix(f"{PROJECT}:"), REQUIRED)
    return type(value) is type(default) and bool(value == default)


def _value(key: str, text: str) -> Any:
    """A value of Pulumi's configuration: objects arrive as JSON, truth values as words, and all else as it is."""
    if isinstance(OPTIONAL.get(key, "" if key == "owner" else {}), str):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
