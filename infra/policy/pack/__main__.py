"""The policy pack: `pulumi preview --policy-pack infra/policy/pack`. Every rule of infra/policy/rules.py, mandatory.

A rule that needs a value which only the deployment gives is left out in a preview, and asked in the deployment.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pulumi_policy import (  # type: ignore[import-not-found]  # it is in the pack's own environment
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError  # type: ignore[import-not-found]

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # the engine starts this file, not the repository

from infra.policy import rules
from infra.policy.rule import NotKnown, Partial, Resource, Rule, StackRule


def plain(value: Any) -> Any:
    """Inputs as maps and lists of their own, with what is not known yet marked as such."""
    if isinstance(value, Mapping):
        known: dict[str, Any] = {}
        unknown: list[str] = []
        for key in value:
            try:
                known[key] = plain(value[key])
            except UnknownValueError:
                unknown.append(key)
        return Partial(known, unknown)
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = []
        for index in range(len(value)):
            try:
                items.append(plain(value[index]))
            except UnknownValueError:
                continue
        return items
    return value


def resource_policy(rule: Rule) -> ResourceValidationPolicy:
    """A rule about single resources, for the engine."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if args.resource_type not in rule.types:
            return
        resource = Resource(args.resource_type, args.name, plain(args.props), args.opts.protect)
        try:
            for message in rule.check(resource):
                report(f"{args.name}: {message}")
        except NotKnown as error:
            args.not_applicable(f"{error} is not known yet")

    return ResourceValidationPolicy(name=rule.name, description=rule.description, validate=validate)


def stack_policy(rule: StackRule) -> StackValidationPolicy:
    """A rule about resources side by side, for the engine."""

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        resources = []
        urns = {}
        for each in args.resources:
            inputs = plain(each.props)
            identity = "" if "id" in inputs.unknown else str(inputs.get("id") or "")
            resources.append(Resource(each.resource_type, each.name, inputs, each.opts.protect, identity))
            urns[resources[-1].type, resources[-1].name] = each.urn
        try:
            for resource, message in rule.check(resources):
                report(f"{resource.name}: {message}", urns[resource.type, resource.name])
        except NotKnown as error:
            args.not_applicable(f"{error} is not known yet")

    return StackValidationPolicy(name=rule.name, description=rule.description, validate=validate)


if __name__ == "__main__":
    PolicyPack(
        name="tidepool",
        enforcement_level=EnforcementLevel.MANDATORY,
        policies=[*map(resource_policy, rules.RULES), *map(stack_policy, rules.STACK_RULES)],
    )
