"""What every cloud's environment has: tenants, images, jobs, the lake, and the services deployed besides."""

from __future__ import annotations

import re
from typing import Any

from infra import charts, hdfs_names
from infra.naming import DNS_LABEL, PLATFORM_NAMESPACE
from infra.settings import patterns
from infra.settings.model import (
    Airflow,
    AirflowElsewhere,
    GitDags,
    Hdfs,
    Images,
    Jobs,
    Keeper,
    Lake,
    Monitoring,
    Services,
    Tenant,
)
from infra.settings.strict import Table, near
from tidepool.capacity import Budget

OWN_IMAGES = ("spark", "airflow", "hdfs", "keeper", "dask", "h2o")
"""The images of this repository, which `images.build` builds and pushes."""

RESERVED_TENANTS = ("airflow", "hdfs", "monitoring", "platform", "system")
"""Names that would look like a part of the platform in every list of namespaces."""

TENANT_LENGTH = 51
"""Of a team's name, at most: a role's may have 64, of which `jobs-` and what Pulumi adds (`-1a2b3c4`) take 13."""


def wanted_images(deployed: Services) -> tuple[str, ...]:
    """Those of this repository's images that an environment with these services can't do without."""
    there = {
        "spark": True,
        "airflow": deployed.airflow is not None,
        "hdfs": deployed.hdfs is not None,
        "keeper": deployed.keeper is not None and deployed.keeper.replicas > 0,
    }
    return tuple(name for name in OWN_IMAGES if there.get(name, False))


def machines_of_hdfs(hdfs: Hdfs | None) -> int:
    """System machines that it needs: its servers of one kind are never on the same."""
    if hdfs is None:
        return 0
    return max(hdfs.datanodes, hdfs_names.QUORUM if hdfs.high_availability else 0)


def tenants(body: Table) -> dict[str, Tenant]:
    """The teams by name."""
    for name in body.names():
        if not re.fullmatch(DNS_LABEL, name) or len(name) > TENANT_LENGTH:
            body.problem(
                name,
                name,
                f"a name of lower-case letters, digits and inner dashes, {TENANT_LENGTH} at most, because the IAM role "
                "of its jobs is named after it",
            )
        if name in RESERVED_TENANTS:
            body.problem(name, name, f"another name than one of the platform's parts: {', '.join(RESERVED_TENANTS)}")
    found = {name: _tenant(name, body.table(name)) for name in body.names()}
    if not found and not body.missing:
        body.problem("", {}, "at least one tenant; else jobs have no namespace")
    _check_shares(body, found)
    return found


def images(body: Table, wanted: tuple[str, ...]) -> Images:
    """The images; `wanted`: those of this repository that the environment runs."""
    build = body.boolean("build", default=False)
    references = body.optional("references")
    found = {}
    if references is not None:
        found = {name: references.string(name, patterns.IMAGE, patterns.IMAGE_WORDS) for name in references.names()}
        for name in OWN_IMAGES:
            if build and name in found:
                references.problem(name, found[name], "left out, because images.build is true and builds it")
    unsure = body.wrong("references")
    for name in wanted:
        if not build and name not in found and not unsure:
            body.missing_key(f"references.{name}", f"{patterns.IMAGE_WORDS}; or images.build: true")
    known: Any = body.strings("architectures", "amd64|arm64", "amd64 or arm64", default=("amd64",))
    body.done()
    return Images(references=found, architectures=known or ("amd64",), build=build)


def jobs(body: Table, names: tuple[str, ...]) -> Jobs:
    """Defaults of jobs; the default tenant is one of these."""
    default = body.string("default_tenant", DNS_LABEL, patterns.LABEL_WORDS)
    timeout = body.integer("schedule_timeout_seconds", 60, 24 * 3600, default=1800)
    if default and names and default not in names:
        body.problem("default_tenant", default, f"one of tenants: {', '.join(names)}")
    listed = body.optional("budgets")
    budgets = {} if listed is None else {each: _budget(each, listed, names) for each in listed.names()}
    body.done()
    return Jobs(default_tenant=default, schedule_timeout_seconds=timeout, budgets=budgets)


def _budget(name: str, listed: Table, teams: tuple[str, ...]) -> Budget:
    if not re.fullmatch(DNS_LABEL, name):
        listed.problem(name, name, f"a name of {patterns.LABEL_WORDS}")
    body = listed.table(name)
    per: Any = body.choice("per", ("day", "month"))
    at_limit: Any = body.choice("at_limit", ("fail", "wait"), default="fail")
    found = Budget(
        team=body.string("team", default=""),
        dag=body.string("dag", default=""),
        per=per,
        soft_usd=body.number("soft_usd", 0, 1e9, default=0.0),
        hard_usd=body.number("hard_usd", 0, 1e9, default=0.0),
        at_limit=at_limit,
    )
    body.done()
    if found.team and teams and found.team not in teams:
        body.problem("team", found.team, f"one of tenants: {', '.join(teams)}{near(found.team, teams)}")
    if not (found.soft_usd or found.hard_usd) and not (body.wrong("soft_usd") or body.wrong("hard_usd")):
        body.missing_key("hard_usd", "a number above 0, or soft_usd is: else it limits nothing")
    if found.soft_usd and 0 < found.hard_usd <= found.soft_usd:
        body.problem("soft_usd", found.soft_usd, f"less than hard_usd, which is {found.hard_usd:g}")
    return found


def lake(body: Table | None, hdfs: Hdfs | None) -> Lake:
    """The lake; an empty URI is the cloud's own bucket. hdfs: the environment's own."""
    if body is None:
        return Lake(uri="")
    uri = body.string("uri", patterns.LAKE_URI, patterns.LAKE_URI_WORDS, default="")
    check_lake(body, uri, hdfs)
    body.done()
    return Lake(uri=uri)


def check_lake(body: Table, uri: str, hdfs: Hdfs | None) -> None:
    """A lake on the environment's own HDFS is where that will be."""
    if not re.match(rf"hdfs://([^/:]+\.)?{PLATFORM_NAMESPACE}(\.svc[^/:]*)?(:\d+)?(/|$)", uri):
        return
    if hdfs is None:
        body.problem("uri", uri, "elsewhere, or on the HDFS of this environment, which tidepool:hdfs deploys")
        return
    own = hdfs_names.uri(hdfs.high_availability) + hdfs_names.LAKE_FOLDER
    if uri != own and not uri.startswith(f"{own}/"):
        having = "with" if hdfs.high_availability else "without"
        body.problem(
            "uri", uri, f"{own} or below: HDFS {having} high_availability is found there, and jobs write there"
        )


def services(top: Table) -> Services:
    """What is deployed besides what always is."""
    return Services(
        airflow=_airflow(top.optional("tidepool:airflow")),
        hdfs=_hdfs(top.optional("tidepool:hdfs")),
        monitoring=_monitoring(top.optional("tidepool:monitoring")),
        keeper=_keeper(top.optional("tidepool:keeper")),
        spark_operator=top.boolean("tidepool:spark_operator", default=False),
        history_server=top.boolean("tidepool:history_server", default=False),
        chart_sources=_chart_sources(top.optional("tidepool:chart_sources")),
    )


def _chart_sources(body: Table | None) -> dict[str, str]:
    if body is None:
        return {}
    words = "a mirror of the chart's repository that begins with https:// or oci://"
    sources = {name: body.string(name, r"(https|oci)://\S+", words, default="") for name in charts.CHARTS}
    body.done()
    return {name: source for name, source in sources.items() if source}


def _tenant(name: str, body: Table) -> Tenant:
    security: Any = body.choice("pod_security", ("restricted", "baseline", "privileged"), default="restricted")
    tenant = Tenant(
        name=name,
        pod_security=security,
        cpu=body.integer("cpu", 1, 1_000_000),
        memory_gib=body.integer("memory_gib", 1, 10_000_000),
        pods=body.integer("pods", 1, 100_000),
        gpus=body.integer("gpus", 0, 100_000, default=0),
        share_percent=body.integer("share", 0, 100, default=0),
    )
    body.done()
    return tenant


def _check_shares(body: Table, found: dict[str, Tenant]) -> None:
    """The teams' shares leave something for the teams that have none."""
    shares = {name: each.share_percent for name, each in found.items() if each.share_percent}
    without = sorted(found.keys() - shares.keys())
    most = 99 if without else 100
    if sum(shares.values()) > most:
        terms = " + ".join(f"{name} {percent}" for name, percent in shares.items())
        rest = f", so that something is left for {', '.join(without)}" if without else ""
        last = next(reversed(shares))
        body.problem(f"{last}.share", shares[last], f"smaller: all shares together are {most} at most ({terms}){rest}")


def _airflow(body: Table | None) -> Airflow | None:
    if body is None:
        return None
    executor: Any = body.choice("executor", ("LocalExecutor", "KubernetesExecutor"))
    dags = body.optional("dags")
    git = None
    if dags is not None:
        git = GitDags(
            repository=dags.string("repository", patterns.GIT_URI, patterns.GIT_URI_WORDS),
            ref=dags.string("ref", r"[\w./-]+", "a branch, tag or commit"),
            folder=dags.string(
                "folder", r"[^/\s]\S*", "a folder of the repository, without a leading slash", default="dags"
            ),
            connection=dags.string("connection", r"[\w.-]+", "the id of an Airflow connection", default=""),
        )
        dags.done()
    body.done()
    return Airflow(executor=executor, dags=git)


def _hdfs(body: Table | None) -> Hdfs | None:
    if body is None:
        return None
    hdfs = Hdfs(
        datanodes=body.integer("datanodes", 1, 1000),
        replication=body.integer("replication", 1, 10),
        volume_gib=body.integer("volume_gib", 1, 65536),
        namenode_volume_gib=body.integer("namenode_volume_gib", 1, 65536, default=20),
        high_availability=body.boolean("high_availability", default=False),
    )
    if hdfs.replication > hdfs.datanodes:
        body.problem("replication", hdfs.replication, f"at most datanodes, which is {hdfs.datanodes}")
    if hdfs.high_availability and hdfs.datanodes < 2:
        body.problem("datanodes", hdfs.datanodes, "2 or more with high_availability: one lost DataNode loses the data")
    body.done()
    return hdfs


def _monitoring(body: Table | None) -> Monitoring | None:
    if body is None:
        return None
    monitoring = Monitoring(
        retention_days=body.integer("retention_days", 1, 3650),
        volume_gib=body.integer("volume_gib", 1, 65536, default=50),
    )
    body.done()
    return monitoring


def _keeper(body: Table | None) -> Keeper | None:
    if body is None:
        return None
    elsewhere = body.optional("airflow")
    airflow = None
    if elsewhere is not None:
        airflow = AirflowElsewhere(
            url=elsewhere.string("url", r"https?://[^\s/]\S*", "a URL that begins with http:// or https://"),
            secret=elsewhere.string("secret", DNS_LABEL, "the name of a Secret"),
        )
        elsewhere.done()
    keeper = Keeper(
        replicas=body.integer("replicas", 0, 3),
        volume_gib=body.integer("volume_gib", 1, 65536, default=5),
        dry_run=body.boolean("dry_run", default=False),
        airflow=airflow,
    )
    body.done()
    return keeper
