"""One job against its environment: does some machine take its pod, does its namespace, and is there time enough."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from infra.autoscaler_flags import GIVE_UP_SECONDS
from infra.contract import admission, landing, namespace, scheduling
from infra.contract.problem import Problem
from infra.contract.shape import malformed
from infra.contract.template import Template
from infra.settings.model import Settings
from infra.settings.patterns import IMAGE
from infra.settings.strict import near
from tidepool.capacity import Capacity

SCALE_UP_SECONDS = 300
"""What a job must be ready to wait for a machine: the autoscaler looks every 10 s, EC2 launches in about a minute, and
a machine boots, joins and pulls its DaemonSets' images in two more. Typical is 1.5 to 4 minutes."""

FALLBACK_SECONDS = GIVE_UP_SECONDS + SCALE_UP_SECONDS
"""What a job must be ready to wait where spot fails silently, and an on-demand machine is bought after it."""


def problems(template: Template, settings: Settings, capacity: Capacity) -> Iterator[Problem]:
    """Everything that keeps one job from running in this environment."""
    if unreadable := list(_each(template, _unreadable)):
        yield from unreadable
        return
    members = tuple(replace(each, pod=admission.with_defaults(each.pod)) for each in template.members)
    admitted = replace(template, pod=admission.with_defaults(template.pod), members=members)
    yield from _each(
        admitted,
        lambda pod: [
            *_limits(pod),
            *landing.problems(pod, settings, capacity),
            *namespace.problems(pod, settings, capacity),
        ],
    )
    yield from namespace.quota(admitted, settings)
    yield from _images(template, capacity)
    yield from _time(template)


def _each(template: Template, find: Callable[[Template], Iterable[Problem]]) -> Iterator[Problem]:
    """What is found of each kind of the job's pods; what several have in common is said once."""
    said = set()
    for kind in template.kinds():
        for problem in find(kind):
            words = problem.rule, problem.what.removeprefix(kind.subject)
            if words not in said:
                yield problem
            said.add(words)


def _unreadable(template: Template) -> Iterator[Problem]:
    if wrong := malformed(template.pod):
        yield template.problem("malformed", f"its pod is none: {'; '.join(wrong)}", "Correct it")
        return
    try:
        admitted = admission.with_defaults(template.pod)
        list(admission.contradictions(admitted))
        scheduling.requests(admitted)
    except ValueError as error:
        yield template.problem("quantity", str(error), "Write it as Kubernetes does")


def _limits(template: Template) -> Iterator[Problem]:
    if contradictions := list(admission.contradictions(template.pod)):
        yield template.problem(
            "limits",
            f"{'; '.join(contradictions)} (where nothing is said, the namespace's defaults hold)",
            "Give memory the same request and limit",
        )


def _images(template: Template, capacity: Capacity) -> Iterator[Problem]:
    for image in template.images:
        if "{{" in image or image in capacity.images.values():
            continue
        if re.fullmatch(r"[a-z0-9-]+", image):
            yield template.problem(
                "image",
                f"there is no image {image!r}{near(image, capacity.images)}",
                f"The environment's images are {', '.join(sorted(capacity.images)) or 'none'}; else write the whole "
                "reference with its tag",
            )
        elif not re.fullmatch(IMAGE, image):
            yield template.problem(
                "image",
                f"image {image!r} has no fixed tag: two attempts of the job may run different code",
                "Give it a tag other than latest, or a sha256 digest",
            )


def _time(template: Template) -> Iterator[Problem]:
    wait, limit = template.schedule_timeout_seconds, template.execution_timeout_seconds
    if wait is not None and wait < SCALE_UP_SECONDS:
        yield template.problem(
            "timeout",
            f"it waits {wait} s for a machine, and buying one takes up to {SCALE_UP_SECONDS} s",
            "Omit schedule_timeout_seconds in tidepool's operators; in KubernetesPodOperator set it (its own "
            "default is 120 s)",
        )
    if limit is not None and limit < SCALE_UP_SECONDS:
        yield template.problem(
            "timeout",
            f"its execution_timeout is {limit:g} s, waiting for a machine included, and buying one takes up to "
            f"{SCALE_UP_SECONDS} s",
            "Raise execution_timeout by that much",
        )
