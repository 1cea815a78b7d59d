"""One job against its environment: does some machine take its pod, does its namespace, and is there time enough."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from infra import naming
from infra.contract import daemons, pod_security, scheduling
from infra.contract.problem import Problem
from infra.contract.template import Template
from infra.settings.model import Settings, Tenant
from infra.settings.patterns import IMAGE
from infra.settings.strict import near
from tidepool.capacity import JOB_PRIORITY_CLASS, Capacity, Pool
from tidepool.job import human
from tidepool.pod import SAFE_TO_EVICT

GIB = 1024**3

SCALE_UP_SECONDS = 300
"""What a job must be ready to wait for a machine: the autoscaler looks every 10 s, EC2 launches in about a minute, and
a machine boots, joins and pulls its DaemonSets' images in two more. Typical is 1.5 to 4 minutes."""

FALLBACK_SECONDS = 900 + SCALE_UP_SECONDS
"""The same where spot fails silently: the autoscaler gives a group up after 15 minutes (max-node-provision-time)."""

BUILT_IN_PRIORITY_CLASSES = ("system-cluster-critical", "system-node-critical")


def problems(template: Template, settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    """Everything that keeps one job from running in this environment."""
    try:
        asked = scheduling.requests(template.pod)
    except ValueError as error:
        yield _problem(template, "quantity", str(error), "Write it as Kubernetes does")
        return
    yield from _machines(template, settings, capacity)
    yield from _namespace(template, asked, settings, capacity)
    yield from _images(template, capacity)
    yield from _time(template)


def landing(template: Template, settings: Settings, capacity: Capacity) -> dict[str, list[str]]:
    """Why a pool's machines would not take the pod, by pool; an empty list where they would."""
    return {
        name: scheduling.refusals(template.pod, pool, daemons.total(daemons.on_machine(settings, pool.gpus)))
        for name, pool in capacity.pools.items()
    }


def _machines(template: Template, settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    refused = landing(template, settings, capacity)
    taken = [capacity.pools[name] for name, reasons in refused.items() if not reasons]
    system = [pool.name for pool in taken if not pool.jobs]
    jobs = [pool for pool in taken if pool.jobs]
    if system:
        yield _problem(
            template,
            "system-nodes",
            f"its pod can land on {', '.join(system)}, whose machines are for services",
            "Select a job pool's machines, and tolerate no more than their taint",
        )
    if not jobs:
        yield _problem(
            template,
            "unschedulable",
            f"no machine of any job pool would ever take its pod ({_reasons(refused, capacity)})",
            "Use tidepool's operators, which choose the pool themselves, or correct selector, tolerations and size",
        )
        return
    yield from _fallback(template, jobs)
    yield from _architecture(template, jobs, settings, capacity)
    gpus = scheduling.requests(template.pod).gpus
    for pool in jobs:
        if pool.gpus and not gpus:
            yield _problem(
                template,
                "gpu",
                f"its pod can land on {pool.name}, whose machines have {_gpus(pool.gpus)} each, and asks for none",
                "Ask for GPUs, or name a pool without",
            )


def _reasons(refused: Mapping[str, list[str]], capacity: Capacity) -> str:
    """Why each job pool refuses a pod; pools that do so for the same reasons together."""
    by_reasons: dict[str, list[str]] = {}
    for name, why in refused.items():
        if capacity.pools[name].jobs:
            by_reasons.setdefault(", ".join(why), []).append(name)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in by_reasons.items()) or "there is no job pool"


def _fallback(template: Template, pools: list[Pool]) -> Iterator[Problem]:
    spot = [pool for pool in pools if pool.market == "spot"]
    if not spot:
        return
    names = ", ".join(pool.name for pool in spot)
    if len(spot) == len(pools):
        yield _problem(
            template,
            "no-fallback",
            f"its pod fits spot machines alone ({names}): when there are none, it waits until its time is up",
            "Let it run on an on-demand pool too: name no pool, or ask for a size that an on-demand pool has",
        )
    if sum(max(1, len(pool.instance_types)) for pool in spot) < 2:
        yield _problem(
            template,
            "one-spot-type",
            f"its pod fits one instance type on spot ({names}: {', '.join(spot[0].instance_types)})",
            "Give the pool more instance types of the same shape, or the environment another spot pool",
        )


def _architecture(template: Template, pools: list[Pool], settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    if not any(image in capacity.images.values() for image in _names(template)):
        return  # somebody else's image: nothing is known of it
    for pool in pools:
        if pool.architecture not in settings.images.architectures:
            yield _problem(
                template,
                "architecture",
                f"its pod can land on {pool.name}, whose machines are {pool.architecture}, and the images are built "
                f"for {', '.join(settings.images.architectures)}",
                f"Add {pool.architecture} to images.architectures, or choose instance types of another processor",
            )


def _namespace(
    template: Template, asked: scheduling.Amount, settings: Settings, capacity: Capacity
) -> Iterator[Problem]:
    name = (template.pod.get("metadata") or {}).get("namespace") or "default"
    if "{{" in name:
        return
    spec = template.pod.get("spec") or {}
    spaces = {naming.tenant_namespace(each): tenant for each, tenant in settings.tenants.items()}
    if name not in spaces:
        yield _problem(
            template,
            "namespace",
            f"namespace {name} is no team's{near(name, spaces)}: Airflow may not launch pods there",
            f"Name a team; the teams are {', '.join(sorted(settings.tenants))} (`tenants` in the stack file)",
        )
        return
    tenant = spaces[name]
    yield from _quota(template, asked, tenant)
    if violations := pod_security.violations(template.pod, tenant.pod_security):
        yield _problem(
            template,
            "pod-security",
            f"namespace {name} enforces Pod Security {tenant.pod_security}, and {'; '.join(violations)}",
            "Change the pod; `tenants.<team>.pod_security` would lower the guard for all of the team's jobs",
        )
    account = spec.get("serviceAccountName") or "default"
    accounts = {"default"} | {each.service_account for each in capacity.tenants.values() if each.namespace == name}
    if account not in accounts:
        yield _problem(
            template,
            "service-account",
            f"namespace {name} has no ServiceAccount {account}",
            f"Use {naming.JOB_SERVICE_ACCOUNT}",
        )
    priority = spec.get("priorityClassName")
    if priority and priority not in (JOB_PRIORITY_CLASS, *BUILT_IN_PRIORITY_CLASSES):
        yield _problem(
            template,
            "priority-class",
            f"there is no PriorityClass {priority}{near(priority, [JOB_PRIORITY_CLASS])}",
            f"Use {JOB_PRIORITY_CLASS}, or leave it away",
        )
    elif priority in BUILT_IN_PRIORITY_CLASSES:
        yield _problem(
            template,
            "priority-class",
            f"a job of class {priority} would drive the machine's own services off it",
            f"Use {JOB_PRIORITY_CLASS}, or leave it away",
        )
    evict = ((template.pod.get("metadata") or {}).get("annotations") or {}).get(SAFE_TO_EVICT)
    if evict == "true":
        yield _problem(
            template,
            "safe-to-evict",
            f"the annotation {SAFE_TO_EVICT} lets the autoscaler end the job when its machine could be saved",
            "Leave it away",
        )


def _quota(template: Template, asked: scheduling.Amount, tenant: Tenant) -> Iterator[Problem]:
    for what, much, most, key in (
        (f"{asked.cpu_millis / 1000:g} CPUs", asked.cpu_millis, tenant.cpu * 1000, "cpu"),
        (f"{human(asked.memory_bytes)} of memory", asked.memory_bytes, tenant.memory_gib * GIB, "memory_gib"),
        (_gpus(asked.gpus), asked.gpus, tenant.gpus, "gpus"),
        ("one pod", 1, tenant.pods, "pods"),
    ):
        if much > most:
            yield _problem(
                template,
                "quota",
                f"its pod requests {what}, more than the whole quota of team {tenant.name} "
                f"({key}: {getattr(tenant, key)})",
                f"Ask for less, or raise tenants.{tenant.name}.{key} in the stack file",
            )


def _images(template: Template, capacity: Capacity) -> Iterator[Problem]:
    for image in _names(template):
        if "{{" in image or image in capacity.images.values():
            continue
        if re.fullmatch(r"[a-z0-9-]+", image):
            yield _problem(
                template,
                "image",
                f"there is no image {image!r}{near(image, capacity.images)}",
                f"The environment's images are {', '.join(sorted(capacity.images)) or 'none'}; else write the whole "
                "reference with its tag",
            )
        elif not re.fullmatch(IMAGE, image):
            yield _problem(
                template,
                "image",
                f"image {image!r} has no fixed tag: two attempts of the job may run different code",
                "Give it a tag other than latest, or a sha256 digest",
            )


def _time(template: Template) -> Iterator[Problem]:
    wait, limit = template.schedule_timeout_seconds, template.execution_timeout_seconds
    if wait is not None and wait < SCALE_UP_SECONDS:
        yield _problem(
            template,
            "timeout",
            f"it waits {wait} s for a machine, and buying one takes up to {SCALE_UP_SECONDS} s",
            "Leave schedule_timeout_seconds away in tidepool's operators; in KubernetesPodOperator set it (its own "
            "default is 120 s)",
        )
    if limit is not None and limit < SCALE_UP_SECONDS:
        yield _problem(
            template,
            "timeout",
            f"its execution_timeout is {limit:g} s, waiting for a machine included, and buying one takes up to "
            f"{SCALE_UP_SECONDS} s",
            "Raise execution_timeout by that much",
        )


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _names(template: Template) -> list[str]:
    spec: Mapping[str, list[Mapping[str, str]]] = template.pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return [each["image"] for each in containers if each.get("image")]


def _problem(template: Template, rule: str, what: str, do: str) -> Problem:
    return Problem(template.where, rule, f"{template.subject}: {what}", do)
