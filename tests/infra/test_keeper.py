"""The keeper's objects: what it may do, where its ledger is, and whom it asks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pulumi
import pytest

from infra.services import keeper_pods
from infra.services.keeper import Keeper, KeeperArgs
from infra.settings import model
from tests.infra import golden, recording
from tests.infra.releases import RANDOM, SYSTEM

SETTINGS = model.Keeper(replicas=2, volume_gib=5, dry_run=False, airflow=None)
ARGS = KeeperArgs(
    settings=SETTINGS,
    image="keeper:1",
    namespaces=["tidepool-research", "tidepool-sales"],
    database_connection="postgresql+psycopg2://airflow@database.example/airflow",
    database_secret="",
    storage_class="gp3",
    placement=SYSTEM,
    has_airflow=True,
    metrics=True,
)


def made_by(**changes: Any) -> recording.Made:
    settings = {name: changes.pop(name) for name in list(changes) if hasattr(SETTINGS, name)}
    args = dataclasses.replace(ARGS, settings=dataclasses.replace(SETTINGS, **settings), **changes)
    return recording.made_by(lambda: Keeper("keeper", args), computed=RANDOM)


def container(made: recording.Made) -> dict[str, Any]:
    found: dict[str, Any] = made.one(":Deployment").inputs["spec"]["template"]["spec"]["containers"][0]
    return found


def test_the_keepers_objects() -> None:
    golden.check_json("keeper.json", {each.name: each.inputs for each in made_by()})


def test_it_deletes_in_the_teams_namespaces_and_changes_nothing_anywhere_else() -> None:
    may = {
        (each.inputs["metadata"].get("namespace", "everywhere"), resource, verb)
        for each in made_by()
        if each.type.endswith(("Role", "ClusterRole"))
        for rule in each.inputs["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb not in ("get", "list", "watch")
    }
    assert may == {
        *((namespace, what, "delete") for namespace in ARGS.namespaces for what in ("pods", "persistentvolumeclaims")),
        ("tidepool", "leases", "create"),
        ("tidepool", "leases", "update"),
    }


def test_without_replicas_there_are_its_rights_and_nothing_that_runs() -> None:
    kinds = {each.type.rpartition(":")[2] for each in made_by(replicas=0, image=None)}
    assert kinds == {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


def test_without_a_database_its_ledger_is_on_a_volume_that_outlives_it_and_one_pod_has() -> None:
    made = made_by(replicas=1, database_connection=None)
    deployment = made.one(":Deployment").inputs["spec"]
    assert deployment["strategy"] == {"type": "Recreate"}
    assert "/data/ledger.db" in container(made)["args"]
    assert made.one(":PersistentVolumeClaim").inputs["spec"]["storageClassName"] == "gp3"
    assert not [each for each in container(made)["env"] if each["name"] == "TIDEPOOL_LEDGER"]


def test_a_secret_that_is_there_names_the_database() -> None:
    made = made_by(database_connection=None, database_secret="theirs")
    assert not [each for each in made if each.name in ("keeper-database", "keeper-ledger")]
    (ledger,) = [each for each in container(made)["env"] if each["name"] == "TIDEPOOL_LEDGER"]
    assert ledger["valueFrom"]["secretKeyRef"] == {"name": "theirs", "key": "connection"}


def test_no_password_stands_in_the_deployment() -> None:
    text = str(made_by(database_connection="postgresql://airflow:geheim@database.example/airflow").one(":Deployment"))
    assert "geheim" not in text


@pytest.mark.parametrize(
    ("changes", "url", "secret"),
    [
        ({}, keeper_pods.AIRFLOW_URL, "airflow-keeper"),
        ({"airflow": model.AirflowElsewhere("https://airflow.example", "api")}, "https://airflow.example", "api"),
        ({"has_airflow": False}, "", ""),
    ],
)
def test_it_asks_its_own_airflow_or_the_one_that_is_named(changes: dict[str, Any], url: str, secret: str) -> None:
    found = container(made_by(**changes))
    assert found["args"][found["args"].index("--airflow") + 1] == url if url else "--airflow" not in found["args"]
    named = {each["valueFrom"]["secretKeyRef"]["name"] for each in found["env"] if "AIRFLOW" in each["name"]}
    assert named == ({secret} if secret else set())


def test_a_dry_run_is_on_its_command_line() -> None:
    assert "--dry-run" in container(made_by(dry_run=True))["args"]
    assert "--dry-run" not in container(made_by())["args"]


def test_replicas_without_an_image_are_refused() -> None:
    with pytest.raises(ValueError, match="the keeper has no image"):
        made_by(image=None)


def test_its_command_line_is_one_that_the_keeper_takes(tmp_path: Any) -> None:
    from tidepool.keeper.__main__ import parser

    for changes in ({}, {"replicas": 1, "database_connection": None}, {"dry_run": True}):
        words = container(made_by(**changes))["args"]
        assert words[:3] == ["python", "-m", "tidepool.keeper"]
        parser().parse_args(words[3:])


def test_a_database_that_is_not_known_yet_is_passed_on() -> None:
    def build() -> None:
        there = pulumi.ComponentResource("test:test:Database", "database")
        Keeper("keeper", dataclasses.replace(ARGS, database_connection=there.urn.apply(str)))

    assert recording.made_by(build, preview=True, computed=RANDOM).one(":Deployment")
