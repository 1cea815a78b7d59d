"""The rules: one list, for the policy pack (infra/policy/pack) and for the tests over what the program makes."""

from __future__ import annotations

from collections.abc import Sequence

from infra.policy import iam, kubernetes, machines, network, storage
from infra.policy.rule import Resource, Rule, StackRule, Violation

RULES: tuple[Rule, ...] = machines.RULES + network.RULES + iam.RULES + storage.RULES + kubernetes.RULES
STACK_RULES: tuple[StackRule, ...] = network.STACK_RULES + storage.STACK_RULES + kubernetes.STACK_RULES


def violations(resources: Sequence[Resource]) -> list[Violation]:
    """Everything in a stack that breaks a rule. Raises rule.NotKnown where an input that decides has no value yet."""
    found = [
        Violation(rule.name, resource.type, resource.name, message)
        for rule in RULES
        for resource in resources
        if resource.type in rule.types
        for message in rule.check(resource)
    ]
    found += [
        Violation(rule.name, resource.type, resource.name, message)
        for rule in STACK_RULES
        for resource, message in rule.check(resources)
    ]
    return found
