from __future__ import annotations

from typing import Any

import pytest

from infra import naming, team_namespaces
from infra.services import network_policies, tenants
from infra.services.tenants import SHARED_CONFIG_MAPS, Tenants
from infra.settings.model import Tenant
from tests.infra.manifests import made_by
from tidepool.job import quantity

RESEARCH = Tenant("research", pod_security="restricted", cpu=200, memory_gib=800, pods=40, gpus=4)
SALES = Tenant("sales", pod_security="baseline", cpu=8, memory_gib=32, pods=5, gpus=0)


def made(*chosen: Tenant) -> dict[str, dict[str, Any]]:
    return made_by(lambda: Tenants("tenants", {each.name: each for each in chosen or (RESEARCH, SALES)}))


def test_airflow_may_launch_pods_where_jobs_run_and_do_nothing_else() -> None:
    found = made()
    for space in ("tidepool-research", "tidepool-sales"):
        rules = {rule["resources"][0]: rule["verbs"] for rule in found[f"Role/{space}/job-launcher"]["rules"]}
        assert rules == {
            "pods": ["create", "get", "list", "watch", "patch", "delete"],
            "pods/log": ["get"],
            "events": ["get", "list", "watch"],
            "configmaps": ["get", "patch"],
        }
        named = [rule.get("resourceNames") for rule in found[f"Role/{space}/job-launcher"]["rules"]]
        assert named[-1] == list(SHARED_CONFIG_MAPS)
        assert {f"ConfigMap/{space}/{name}" for name in SHARED_CONFIG_MAPS} <= set(found)
        binding = found[f"RoleBinding/{space}/job-launcher-airflow"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "airflow", "namespace": "tidepool"}]
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "job-launcher",
        }


def test_airflow_may_launch_spark_applications_where_there_is_a_spark_operator_and_nowhere_else() -> None:
    def rules(applications: bool) -> list[Any]:
        found = made_by(lambda: Tenants("tenants", {"sales": SALES}, applications=applications))
        launch: list[Any] = found["Role/tidepool-sales/job-launcher"]["rules"]
        return [rule for rule in launch if rule["apiGroups"] != [""]]

    assert rules(applications=False) == []
    [rule] = rules(applications=True)
    assert (rule["apiGroups"], rule["resources"]) == (["sparkoperator.k8s.io"], ["sparkapplications"])
    assert rule["verbs"] == ["create", "get", "list", "watch", "delete"]


def test_no_right_is_given_by_a_wildcard_or_in_the_whole_cluster() -> None:
    found = made()
    assert not [key for key in found if key.startswith("Cluster")]
    for key, each in found.items():
        for rule in each.get("rules", []):
            assert not [item for items in rule.values() for item in items if "*" in item], key


def test_jobs_have_an_identity_without_rights_or_token() -> None:
    found = made()
    for space in ("tidepool-research", "tidepool-sales"):
        assert found[f"ServiceAccount/{space}/job"]["automountServiceAccountToken"] is False
    subjects = [each["name"] for key, binding in found.items() if "Binding" in key for each in binding["subjects"]]
    assert sorted(subjects) == ["airflow", "airflow", "job-driver", "job-driver", "keeper", "keeper"]


def test_a_driver_may_handle_pods_of_its_namespace_and_nothing_else() -> None:
    found = made()
    assert found["ServiceAccount/tidepool-sales/job-driver"]["automountServiceAccountToken"] is False
    [rule] = found["Role/tidepool-sales/job-driver"]["rules"]
    assert rule["resources"] == ["pods"]
    assert rule["verbs"] == ["create", "get", "list", "watch", "delete", "deletecollection"]
    [subject] = found["RoleBinding/tidepool-sales/job-driver"]["subjects"]
    assert (subject["name"], subject["namespace"]) == ("job-driver", "tidepool-sales")


def test_jobs_accounts_carry_what_binds_the_clouds_identity_to_them() -> None:
    found = made_by(lambda: Tenants("tenants", {"sales": SALES}, {"iam.example/account": "job@p"}))
    assert found["ServiceAccount/tidepool-sales/job"]["metadata"]["annotations"] == {"iam.example/account": "job@p"}


def test_the_namespace_says_whose_it_is_and_enforces_the_pod_security_of_the_settings() -> None:
    found = made()
    assert found["Namespace/tidepool-sales"]["metadata"]["labels"] == {
        "tidepool.dev/team": "sales",
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/audit": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    }
    labels = found["Namespace/tidepool-research"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_team_can_request_what_its_settings_say_and_no_more() -> None:
    assert made()["ResourceQuota/tidepool-research/quota"]["spec"]["hard"] == {
        "pods": "40",
        "requests.cpu": "200",
        "requests.memory": "800Gi",
        "limits.memory": "800Gi",
        "requests.nvidia.com/gpu": "4",
    }


def test_a_team_without_gpus_gets_none() -> None:
    assert made()["ResourceQuota/tidepool-sales/quota"]["spec"]["hard"]["requests.nvidia.com/gpu"] == "0"


def test_no_job_can_put_the_platform_out() -> None:
    spec = made()["ResourceQuota/tidepool-sales/no-foreign-priority"]["spec"]
    assert spec["hard"] == {"pods": "0"}
    (expression,) = spec["scopeSelector"]["matchExpressions"]
    assert (expression["scopeName"], expression["operator"]) == ("PriorityClass", "In")
    assert set(expression["values"]) == {"tidepool-platform", "system-cluster-critical", "system-node-critical"}


def test_containers_that_say_nothing_get_requests_for_all_that_a_quota_or_a_disk_counts() -> None:
    (limits,) = made()["LimitRange/tidepool-sales/defaults"]["spec"]["limits"]
    assert limits["type"] == "Container"
    assert limits["defaultRequest"].keys() == {"cpu", "memory", "ephemeral-storage"}
    # A default limit of CPU or disk would be put on jobs too, which leave them open on purpose.
    assert limits["default"].keys() == {"memory"}
    assert quantity(limits["default"]["memory"]) >= quantity(limits["defaultRequest"]["memory"])


def test_every_namespace_has_every_policy() -> None:
    found = made()
    for space in ("tidepool-research", "tidepool-sales"):
        specs = {
            key.split("/")[2]: each["spec"] for key, each in found.items() if key.startswith(f"NetworkPolicy/{space}")
        }
        assert specs == network_policies.tenant()


HOSTILE = [
    "kube-system",
    "tidepool",
    "a/../kube-system",
    "x\n  namespace: kube-system",
    "..",
    "{{ x }}",
    "*",
    "x" * 300,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_team_is_called_all_of_it_is_in_the_namespace_that_naming_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings refuse such names; and none would lead into a namespace that is not the team's."""
    spaces = {naming.tenant_namespace(name): name}
    found = made(Tenant(name, "restricted", 1, 1, 1, 0))
    for each in found.values():
        own = each["metadata"]["name"] if each["kind"] == "Namespace" else each["metadata"]["namespace"]
        assert own in spaces
        assert own.startswith("tidepool-")
    monkeypatch.setattr(naming, "tenant_namespace", lambda tenant: "chosen")
    again = made(Tenant(name, "restricted", 1, 1, 1, 0))
    assert {each["metadata"].get("namespace", "chosen") for each in again.values()} == {"chosen"}


def test_a_team_more_changes_nothing_of_the_others() -> None:
    before, after = made(SALES), made(SALES, RESEARCH)
    assert {key: after[key] for key in before} == before
    assert {key.split("/")[1] for key in after.keys() - before.keys()} == {"tidepool-research"}


def test_a_quota_counts_what_jobs_request() -> None:
    """Every resource that the quota bounds is either in a job's pod or given by the LimitRange."""
    hard = tenants.quotas(SALES)["quota"]["hard"]
    counted = {key.partition(".")[2] for key in hard if "." in key} - {"nvidia.com/gpu"}
    assert counted <= team_namespaces.DEFAULT_REQUESTS.keys()
