"""The environment itself: its machines, tags, quotas, times and lake, before any job is looked at.

What a stack file alone can say (shapes, quotas of EC2, addresses, spot's fallback) is refused where it is read, in
infra/settings; here is what only shows when several parts are put side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.aws import asg_tags, machines, user_data
from infra.contract import daemons, jobs
from infra.contract.problem import Problem, advised
from infra.contract.template import Template
from infra.settings.model import AwsCloud, Settings
from tidepool import pod as pods
from tidepool import sizing
from tidepool.capacity import GPU_RESOURCE, Capacity, Pool
from tidepool.job import Job, JobError, human
from tidepool.requests import amounts

PINNED = frozenset({"no-fallback", "one-spot-type"})
"""Not asked of the sample job of one pool: that a pool exists is no mistake because a job could be pinned to it."""


def problems(settings: Settings, capacity: Capacity) -> list[Problem]:
    """Everything that is wrong with the environment, whatever its jobs are."""
    return [
        *_pools(settings, capacity),
        *_tags(settings, capacity),
        *_times(settings),
        *_samples(settings, capacity),
    ]


def key(settings: Settings, path: str) -> str:
    """A key of the stack file, as messages name it."""
    return f"stacks/Pulumi.{settings.environment}.yaml: tidepool:{path}"


def disagreements(pool: Pool, tags: Mapping[str, str], text: str) -> list[str]:
    """Where an Auto Scaling Group's tags, its machines' user data and the capacity document don't say the same.

    tags: all of the group's; text: the user data as MIME text. By the tags the autoscaler decides what to buy; by the
    user data a machine becomes what it is.
    """
    kubelet: dict[str, Any] = user_data.parse(text)["spec"]["kubelet"]
    labels, taints = _flag(kubelet, "--node-labels"), _flag(kubelet, "--register-with-taints")
    promised_taints = {each.key: f"{each.value}:{each.effect}" for each in pool.taints}
    resources = _below(tags, "resources/")
    tagged_sizes = amounts(resources)
    sizes: list[tuple[str, int | None, int]] = [
        ("cpu", tagged_sizes.get("cpu"), pool.cpu_millis),
        ("memory", tagged_sizes.get("memory"), pool.memory_bytes),
        ("ephemeral-storage", tagged_sizes.get("ephemeral-storage"), pool.ephemeral_storage_bytes),
        (GPU_RESOURCE, tagged_sizes.get(GPU_RESOURCE, 0), pool.gpus),
    ]
    most = kubelet["config"].get("maxPods")
    found = [
        *_differ("label", "tags", _below(tags, "label/"), "user data", labels),
        *_differ("label", "user data", labels, "capacity document", pool.labels),
        *_differ("taint", "tags", _below(tags, "taint/"), "user data", taints),
        *_differ("taint", "user data", taints, "capacity document", promised_taints),
    ]
    for name, tagged, promised in sizes:
        if tagged != promised:
            found.append(f"{name}: {tagged} by the tags, {promised} by the capacity document")
    if resources.get("pods") != str(most):
        found.append(f"pods: {resources.get('pods')} by the tags, {most} by the user data (maxPods)")
    return found


def _pools(settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    for name in sorted(settings.cloud.pools.keys() - capacity.pools.keys()):
        yield Problem(
            key(settings, f"pools.{name}"), "capacity", f"pool {name} is not in the capacity document", "Deploy again"
        )
    for name, pool in capacity.pools.items():
        if not pool.jobs:
            continue
        there = daemons.on_machine(settings, pool.gpus)
        taken = daemons.total(there)
        if taken.cpu_millis > sizing.DAEMON_CPU_MILLIS or taken.memory_bytes > sizing.DAEMON_MEMORY_BYTES:
            yield Problem(
                key(settings, f"pools.{name}"),
                "daemons",
                f"the DaemonSets of its machines ({', '.join(each.name for each in there)}) request "
                f"{taken.cpu_millis}m of CPU and {human(taken.memory_bytes)}, more than sizing leaves them",
                "Raise DAEMON_CPU_MILLIS or DAEMON_MEMORY_BYTES in dags/tidepool/sizing.py",
            )
        most = settings.cloud.pools[name].max_pods if isinstance(settings.cloud, AwsCloud) else len(there) + 1
        if most <= len(there):
            yield Problem(
                key(settings, f"pools.{name}.max_pods"),
                "max-pods",
                f"a machine of {most} pods has no room for a job beside its {len(there)} DaemonSets "
                f"({', '.join(each.name for each in there)})",
                f"Raise it to {len(there) + 1} at least",
            )


def _tags(settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    if not isinstance(settings.cloud, AwsCloud):
        return
    cluster = settings.cloud.cluster.name
    for name, pool in settings.cloud.pools.items():
        if name not in capacity.pools:
            continue
        text = machines.machine_user_data(
            cluster, pool, endpoint="https://cluster", certificate_authority="Y2E=", service_cidr="10.96.0.0/16"
        )
        for group in machines.groups(cluster, pool):
            for found in disagreements(capacity.pools[name], machines.group_tags(cluster, group.name, pool, {}), text):
                yield Problem(
                    key(settings, f"pools.{name}"),
                    "tags",
                    f"what the autoscaler is told of {group.name} is not what its machines are: {found}",
                    "Make infra/aws/asg_tags.py and infra/aws/user_data.py say the same (infra/aws/machines.py)",
                )


def _times(settings: Settings) -> Iterator[Problem]:
    wait = settings.jobs.schedule_timeout_seconds
    falls_back = any(pool.market == "spot" for pool in settings.cloud.pools.values())
    least = jobs.FALLBACK_SECONDS if falls_back else jobs.SCALE_UP_SECONDS
    if wait < least:
        why = " where the autoscaler first waits for a spot machine that doesn't come" if falls_back else ""
        yield Problem(
            key(settings, "jobs.schedule_timeout_seconds"),
            "timeout",
            f"jobs wait {wait} s for a machine, and buying one takes up to {least} s{why}",
            f"Give {least} at least, or omit the key",
        )


def _samples(settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    """A job that asks for nothing, for each team; and a whole machine of each pool, for some team."""
    for team in capacity.tenants:
        where = key(settings, f"tenants.{team}")
        yield from _sample(where, "a job that asks for nothing", Job(task="sample", team=team), settings, capacity)
    for name, pool in capacity.pools.items():
        if not pool.jobs or not pool.max_machines:
            continue
        where, subject = key(settings, f"pools.{name}"), f"a job that takes a machine of {name}"
        tries = [
            [
                each
                for each in _sample(
                    where, subject, Job(task="sample", team=team, pool=name, gpus=pool.gpus), settings, capacity
                )
                if each.rule not in PINNED
            ]
            for team in [
                capacity.default_tenant,
                *(team for team in capacity.tenants if team != capacity.default_tenant),
            ]
        ]
        if all(tries):
            yield from tries[0]


def _sample(where: str, subject: str, job: Job, settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    try:
        placement = sizing.place(job, capacity)
    except JobError as error:
        yield advised(where, "job", str(error).replace("task 'sample'", subject), "Correct the pools")
        return
    image = next(iter(capacity.images.values()), "")
    template = Template(where, subject, pods.manifest(placement, image, capacity))
    yield from jobs.problems(template, settings, capacity)


def _flag(kubelet: Mapping[str, Any], name: str) -> dict[str, str]:
    """The pairs of a flag such as `--node-labels=a=b,c=d`."""
    flags = kubelet.get("flags") or []
    text = next((flag.partition("=")[2] for flag in flags if flag.startswith(f"{name}=")), "")
    return dict(pair.split("=", 1) for pair in text.split(",") if pair)


def _below(tags: Mapping[str, str], part: str) -> dict[str, str]:
    prefix = asg_tags.TEMPLATE + part
    return {each.removeprefix(prefix): value for each, value in tags.items() if each.startswith(prefix)}


def _differ(what: str, one: str, its: Mapping[str, str], other: str, others: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*its, *others}):
        if its.get(name) != others.get(name):
            yield f"{what}: {name} is {its.get(name)!r} by the {one} and {others.get(name)!r} by the {other}"
