"""The scheduler's questions, answered as Kubernetes answers them."""

from __future__ import annotations

from typing import Any

import pytest

from infra import scheduling
from tidepool.capacity import Taint

NODE = scheduling.exactly({"pool": "spot", "cores": "16", "zone": ""})
NAME = {"metadata.name": ("node-1",)}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("asked", "met"),
    [
        (expression("pool", "In", "x", "spot"), True),
        (expression("pool", "In", "x"), False),
        (expression("absent", "In", "x"), False),
        (expression("zone", "In", ""), True),
        (expression("absent", "In", ""), False),
        (expression("pool", "In"), False),
        (expression("pool", "NotIn", "spot"), False),
        (expression("pool", "NotIn", "x"), True),
        (expression("absent", "NotIn", "x"), True),
        (expression("absent", "NotIn"), False),
        (expression("pool", "Exists"), True),
        (expression("zone", "Exists"), True),
        (expression("absent", "Exists"), False),
        (expression("pool", "Exists", "spot"), False),
        (expression("pool", "DoesNotExist"), False),
        (expression("absent", "DoesNotExist"), True),
        (expression("cores", "Gt", "8"), True),
        (expression("cores", "Gt", "16"), False),
        (expression("cores", "Gt", "-1"), True),
        (expression("cores", "Gt", "8", "9"), False),
        (expression("cores", "Gt", "few"), False),
        (expression("cores", "Lt", "100"), True),
        (expression("cores", "Lt", "16"), False),
        (expression("cores", "Lt"), False),
        (expression("pool", "Gt", "1"), False),
        (expression("absent", "Lt", "1"), False),
        (expression("pool", "Unheard", "spot"), False),
        (expression("pool", "in", "spot"), False),
        ({"key": "pool"}, False),
        ({"key": "pool", "operator": "Exists", "values": None}, True),
    ],
)
def test_an_expression_means_what_the_scheduler_means(asked: dict[str, Any], met: bool) -> None:
    assert scheduling.meets(asked, NODE) is met


def test_a_machine_to_come_meets_what_any_of_its_values_meets() -> None:
    labels = {"type": ("m5.large", "m6i.large")}
    assert scheduling.meets(expression("type", "In", "m6i.large"), labels)
    assert scheduling.meets(expression("type", "NotIn", "m6i.large"), labels)
    assert not scheduling.meets(expression("type", "NotIn", "m5.large", "m6i.large"), labels)


POOL, OTHER = expression("pool", "In", "spot"), expression("pool", "In", "other")
HERE, ELSEWHERE = expression("metadata.name", "In", "node-1"), expression("metadata.name", "In", "node-2")


@pytest.mark.parametrize(
    ("required", "matched"),
    [
        (None, True),
        ({"nodeSelectorTerms": []}, False),
        ({}, False),
        ({"nodeSelectorTerms": [{}]}, False),
        ({"nodeSelectorTerms": [{"matchExpressions": []}]}, False),
        ({"nodeSelectorTerms": [{"matchExpressions": None, "matchFields": []}]}, False),
        ({"nodeSelectorTerms": [{}, {"matchExpressions": [POOL]}]}, True),
        ({"nodeSelectorTerms": [{"matchExpressions": [OTHER]}, {"matchExpressions": [POOL]}]}, True),
        ({"nodeSelectorTerms": [{"matchExpressions": [OTHER, POOL]}]}, False),
        ({"nodeSelectorTerms": [{"matchFields": [HERE]}]}, True),
        ({"nodeSelectorTerms": [{"matchFields": [ELSEWHERE]}]}, False),
        ({"nodeSelectorTerms": [{"matchExpressions": [POOL], "matchFields": [ELSEWHERE]}]}, False),
        ({"nodeSelectorTerms": [{"matchExpressions": [OTHER], "matchFields": [HERE]}]}, False),
        ({"nodeSelectorTerms": [{"matchFields": [ELSEWHERE]}, {"matchExpressions": [POOL]}]}, True),
    ],
)
def test_terms_are_alternatives_and_an_empty_one_accepts_no_node(required: Any, matched: bool) -> None:
    spec = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}
    assert scheduling.matches(spec, NODE, NAME) is matched


def test_a_machine_to_come_has_no_name_that_a_pod_could_ask_for() -> None:
    assert scheduling.unmet({"matchFields": [HERE]}, NODE) == [HERE]


@pytest.mark.parametrize(
    ("selector", "matched"),
    [
        (None, True),
        ({}, True),
        ({"pool": "spot"}, True),
        ({"pool": "spot", "cores": "16"}, True),
        ({"pool": "spot", "cores": "8"}, False),
        ({"absent": ""}, False),
    ],
)
def test_a_node_selector_wants_all_of_its_labels(selector: dict[str, str] | None, matched: bool) -> None:
    assert scheduling.matches({"nodeSelector": selector}, NODE) is matched


def test_a_node_selector_and_an_affinity_both_count() -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [POOL]}]}
    spec = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    assert scheduling.matches({**spec, "nodeSelector": {"cores": "16"}}, NODE)
    assert not scheduling.matches({**spec, "nodeSelector": {"cores": "8"}}, NODE)


TAINT = Taint("pool", "spot", "NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "", "operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "pool", "operator": "Exists"}, True),
        ({"key": "pool", "operator": "Exists", "effect": ""}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "pool", "value": "spot"}, True),
        ({"key": "pool", "operator": "Equal", "value": "spot", "effect": "NoSchedule"}, True),
        ({"key": "pool", "operator": "Equal", "value": "spot", "effect": "NoExecute"}, False),
        ({"key": "pool", "value": "gpu"}, False),
        ({"key": "pool"}, False),
        ({"key": "other", "value": "spot"}, False),
        ({"key": "pool", "operator": "Unheard", "value": "spot"}, False),
    ],
)
def test_a_toleration_is_read_as_the_scheduler_does(toleration: dict[str, Any], tolerated: bool) -> None:
    assert scheduling.tolerates(toleration, TAINT) is tolerated


def test_a_toleration_without_value_is_for_a_taint_without_one() -> None:
    assert scheduling.tolerates({"key": "busy"}, Taint("busy", "", "NoExecute"))


def test_only_taints_that_keep_pods_off_need_a_toleration() -> None:
    taints = [Taint("a", "", "PreferNoSchedule"), Taint("b", "", "NoSchedule"), Taint("c", "", "NoExecute"), TAINT]
    spec = {"tolerations": [{"key": "pool", "operator": "Exists"}]}
    assert list(scheduling.untolerated(spec, taints)) == taints[1:3]
    assert list(scheduling.untolerated({}, [TAINT])) == [TAINT]
