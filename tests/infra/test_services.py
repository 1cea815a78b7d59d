from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pulumi
import yaml

from infra.services.autoscaler import Autoscaler, priority_list
from infra.services.jobs import Jobs
from infra.services.platform import Platform


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


def test_airflow_may_launch_pods_where_jobs_run_and_do_nothing_else() -> None:
    made = made_by(lambda: Jobs("jobs", pod_security="restricted"))
    rules = {rule["resources"][0]: rule["verbs"] for rule in made["Role/job-launcher"]["rules"]}
    assert rules == {
        "pods": ["create", "get", "list", "watch", "patch", "delete"],
        "pods/log": ["get"],
        "events": ["get", "list", "watch"],
    }
    assert {kind.split("/")[0] for kind in made} == {"Namespace", "ServiceAccount", "Role", "RoleBinding"}
    binding = made["RoleBinding/job-launcher-airflow"]
    assert binding["metadata"]["namespace"] == "tidepool-jobs"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "airflow", "namespace": "tidepool"}]


def test_jobs_have_an_identity_without_rights_or_token() -> None:
    made = made_by(lambda: Jobs("jobs", pod_security="restricted"))
    assert made["ServiceAccount/job"]["automountServiceAccountToken"] is False
    assert "job" not in [subject["name"] for subject in made["RoleBinding/job-launcher-airflow"]["subjects"]]


def test_the_namespace_enforces_the_pod_security_of_the_settings() -> None:
    made = made_by(lambda: Jobs("jobs", pod_security="restricted"))
    labels = made["Namespace/tidepool-jobs"]["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_the_capacity_document_is_in_the_platforms_namespace() -> None:
    made = made_by(lambda: Platform("platform", capacity="{}"))
    config = made["ConfigMap/tidepool-capacity"]
    assert (config["metadata"]["namespace"], config["data"]) == ("tidepool", {"capacity.json": "{}"})
    assert made["ServiceAccount/airflow"]["metadata"]["namespace"] == "tidepool"


def test_the_autoscaler_tries_pools_in_the_order_of_their_priority() -> None:
    text = priority_list({"dev-on-demand": 10, "dev-spot": 50, "dev-system": 10})
    assert list(yaml.safe_load(text).items()) == [(50, ["^dev-spot$"]), (10, ["^dev-on-demand$", "^dev-system$"])]
    made = made_by(lambda: Autoscaler("autoscaler", {"dev-spot": 50}))
    config = made["ConfigMap/cluster-autoscaler-priority-expander"]
    assert (config["metadata"]["namespace"], config["data"]) == ("kube-system", {"priorities": "50:\n- ^dev-spot$\n"})
