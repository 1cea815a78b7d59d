from __future__ import annotations

from infra.services.platform import Platform
from tests.infra.manifests import made_by


def test_the_capacity_document_is_in_the_platforms_namespace() -> None:
    made = made_by(lambda: Platform("platform", capacity="{}"))
    assert made["ConfigMap/tidepool/tidepool-capacity"]["data"] == {"capacity.json": "{}"}


def test_airflows_account_carries_what_binds_the_clouds_identity_to_it() -> None:
    account = made_by(lambda: Platform("platform", "{}", {"iam.example/account": "airflow@p"}))[
        "ServiceAccount/tidepool/airflow"
    ]
    assert account["metadata"]["annotations"] == {"iam.example/account": "airflow@p"}


def test_the_platforms_namespace_is_restricted_and_closed() -> None:
    made = made_by(lambda: Platform("platform", capacity="{}"))
    assert made["Namespace/tidepool"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert made["NetworkPolicy/tidepool/default-deny"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    kinds = {"Namespace", "NetworkPolicy", "ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding"}
    assert {kind.split("/")[0] for kind in made} == kinds


def test_airflow_may_look_at_a_node_and_do_nothing_else_outside_of_the_teams_namespaces() -> None:
    made = made_by(lambda: Platform("platform", capacity="{}"))
    (role,) = [manifest for kind, manifest in made.items() if kind.startswith("ClusterRole/")]
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [(["nodes"], ["get"])]
