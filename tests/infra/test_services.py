from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pulumi
import yaml

from infra.services.autoscaler import Autoscaler, priority_list


class Recorder(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.manifests: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if "kind" in args.inputs:
            self.manifests[f"{args.inputs['kind']}/{args.inputs['metadata']['name']}"] = args.inputs
        return f"{args.name}-id", args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        raise AssertionError(f"nothing is looked up here, but {args.token} was")


def made_by(build: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder)

    @pulumi.runtime.test
    def program() -> None:
        build()

    program()
    return recorder.manifests


def test_the_autoscaler_tries_pools_in_the_order_of_their_priority() -> None:
    text = priority_list({"dev-on-demand": 10, "dev-spot": 50, "dev-system": 10})
    assert list(yaml.safe_load(text).items()) == [(50, ["^dev-spot$"]), (10, ["^dev-on-demand$", "^dev-system$"])]
    made = made_by(lambda: Autoscaler("autoscaler", {"dev-spot": 50}))
    config = made["ConfigMap/cluster-autoscaler-priority-expander"]
    assert (config["metadata"]["namespace"], config["data"]) == ("kube-system", {"priorities": "50:\n- ^dev-spot$\n"})
