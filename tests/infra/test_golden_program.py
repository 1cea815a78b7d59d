"""What the program really hands to machines and charts in every stack, as files to read.

A change of user data or of a group's tags is a change of all new machines; a change of values upgrades a release.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from infra.aws import user_data
from tests.infra import golden, recorded
from tests.infra.recorded import Recorded

BUILT = re.compile(r":[0-9a-f]{12}(?=@sha256)")
"""The tag of an image that the program builds: it changes with whatever goes into the image."""

every_stack = pytest.mark.parametrize("stack", recorded.ALL)


def of(stack: str, kind: str) -> list[Recorded]:
    found = [each for each in recorded.record(stack) if each.typ.endswith(f":{kind}")]
    assert found
    return found


@every_stack
def test_user_data_of_every_launch_template(stack: str) -> None:
    texts = {each.name: base64.b64decode(each.inputs["userData"]).decode() for each in of(stack, "LaunchTemplate")}
    (cluster,) = of(stack, "index:Cluster")
    for text in texts.values():
        assert user_data.parse(text)["spec"]["cluster"]["name"] == cluster.inputs["name"]
    golden.check(f"user_data/{stack}.txt", "\n".join(f"=== {name} ===\n{text}" for name, text in texts.items()))


@every_stack
def test_tags_of_every_group_and_template(stack: str) -> None:
    """Of a group: what the autoscaler reads of it alone, and what its machines carry too."""
    groups = {
        each.inputs["name"]: {
            word: {tag["key"]: tag["value"] for tag in each.inputs["tags"] if tag["propagateAtLaunch"] is passed_on}
            for word, passed_on in (("group", False), ("machines", True))
        }
        for each in of(stack, "Group")
    }
    templates = {
        each.inputs["name"]: {part["resourceType"]: part["tags"] for part in each.inputs["tagSpecifications"]}
        for each in of(stack, "LaunchTemplate")
    }
    golden.check_json(f"tags/{stack}.json", {"groups": groups, "templates": templates})


@every_stack
def test_every_release_with_its_values(stack: str) -> None:
    releases = {each.inputs["name"]: without_options(each.inputs) for each in of(stack, "Release")}
    text = BUILT.sub(":built", json.dumps(releases))
    golden.check_json(f"helm/{stack}.json", json.loads(text))


def without_options(inputs: dict[str, Any]) -> dict[str, Any]:
    return {key: inputs[key] for key in ("chart", "repositoryOpts", "version", "namespace", "values") if key in inputs}


def test_the_stacks_have_every_chart_and_both_executors() -> None:
    """So that no chart's values are without a file."""
    releases = [each for stack in recorded.ALL for each in of(stack, "Release")]
    assert {each.inputs["chart"].rpartition("/")[2] for each in releases} == {
        "airflow",
        "aws-node-termination-handler",
        "cluster-autoscaler",
        "kube-prometheus-stack",
        "nvidia-device-plugin",
        "spark-operator",
    }
    executors = {each.inputs["values"].get("executor") for each in releases if each.inputs["chart"] == "airflow"}
    assert executors == {"KubernetesExecutor", "LocalExecutor"}
