from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import yaml
from airflow import settings
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import make_url

from infra import versions
from infra.aws.database import connection_url
from infra.local import paths
from infra.services import airflow_setup, airflow_values, keeper_pods
from infra.services.airflow_values import Image, config, pools, split_image
from infra.settings import model
from tests.infra.releases import SYSTEM, pods_of
from tidepool import queues
from tidepool.capacity import Capacity, Pool, Tenant
from tidepool.operators.deadline_alert import deadline_alert

LOCAL = model.Airflow(executor="LocalExecutor", dags=None)
KUBERNETES = model.Airflow(
    executor="KubernetesExecutor",
    dags=model.GitDags(repository="https://git.example/dags.git", ref="main", folder="dags", connection="git"),
)
LAUNCHERS = ("scheduler", "triggerer")
BYSTANDERS = ("dagProcessor", "migrateDatabaseJob", "statsd")


def values(settings: model.Airflow = LOCAL, logs: str = "s3://logs/airflow", metrics: bool = True) -> dict[str, Any]:
    image = Image("registry.example/airflow", "abc")
    return airflow_values.values(settings, image, logs, "airflow-database", SYSTEM, metrics, {"a": "b"})


@pytest.mark.parametrize(
    ("connection", "asynchronous"),
    [
        (connection_url("pa55word", "db.example:5432"), "//tidepool:pa55word@db.example:5432/airflow?ssl=require"),
        ("postgresql://u:p@db/airflow", "//u:p@db/airflow"),
        (
            "postgresql://u:p@db/airflow?application_name=a&sslmode=disable",
            "//u:p@db/airflow?application_name=a&ssl=disable",
        ),
    ],
)
def test_asyncpg_gets_the_connection_without_the_parameters_of_libpq(connection: str, asynchronous: str) -> None:
    assert airflow_values.async_connection(connection) == f"postgresql+asyncpg:{asynchronous}"


def test_what_airflow_would_hand_to_asyncpg_asyncpg_takes() -> None:
    """SQLAlchemy makes keyword arguments of a URL's parameters, and asyncpg.connect has no `sslmode`."""
    ours = make_url(airflow_values.async_connection(connection_url("pa55word", "db.example:5432")))
    _, given = PGDialect_asyncpg().create_connect_args(ours)
    assert given == {
        "user": "tidepool",
        "password": "pa55word",
        "host": "db.example",
        "port": 5432,
        "database": "airflow",
        "ssl": "require",
    }
    theirs = make_url(settings._get_async_conn_uri_from_sync(connection_url("pa55word", "db.example:5432")))
    assert "sslmode" in PGDialect_asyncpg().create_connect_args(theirs)[1], "Airflow does so itself: ours can go"


@pytest.mark.parametrize("executor", [LOCAL, KUBERNETES])
def test_every_container_of_airflow_gets_the_asynchronous_connection_where_there_is_one(
    executor: model.Airflow,
) -> None:
    reference = {"name": "airflow-database", "key": "connection-async", "optional": True}
    assert yaml.safe_load(values(executor)["extraEnv"]) == [
        {"name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", "valueFrom": {"secretKeyRef": reference}}
    ]


def pool(name: str, jobs: bool, maximum: int) -> Pool:
    return Pool(
        name=name,
        market="spot",
        jobs=jobs,
        instance_types=("m6i.xlarge",),
        labels={},
        taints=(),
        cpu_millis=3000,
        memory_bytes=1,
        ephemeral_storage_bytes=1,
        gpus=0,
        architecture="amd64",
        max_machines=maximum,
        priority=1,
        usd_per_hour=0.1,
        on_demand_usd_per_hour=0.2,
    )


def capacity(*pools: Pool) -> Capacity:
    return Capacity(
        cluster="dev",
        tenants={"default": Tenant("tidepool-default", "job")},
        default_tenant="default",
        images={"spark": "spark:1"},
        schedule_timeout_seconds=60,
        pools={each.name: each for each in pools},
    )


@pytest.mark.parametrize(
    "reference",
    [
        "registry.example/airflow:abc",
        "registry.example:5000/a/airflow:abc",
        "registry.example/airflow@sha256:0123",
        "registry.example/airflow:abc@sha256:0123",
    ],
)
def test_an_image_is_the_same_after_the_chart_has_put_it_together_again(reference: str) -> None:
    image = split_image(reference)
    assert f"{image.repository}:{image.tag}" == reference


def test_the_chart_is_told_which_airflow_it_runs() -> None:
    assert values()["airflowVersion"] == versions.AIRFLOW
    assert values()["images"]["airflow"] == {"repository": "registry.example/airflow", "tag": "abc"}


def test_the_triggerer_finds_the_callback_of_a_missed_deadline() -> None:
    """Airflow imports it there by name, and has no DAGs' folder on its path there."""
    (variable,) = values()["triggerer"]["env"]
    assert variable["name"] == "PYTHONPATH"
    dockerfile = (paths.REPOSITORY / "images" / "airflow" / "Dockerfile").read_text()
    assert f"COPY dags/ {variable['value']}/\n" in dockerfile
    module = deadline_alert(timedelta(hours=1)).callback.path.rpartition(".")[0]
    assert (paths.REPOSITORY / "dags" / f"{module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("settings", [LOCAL, KUBERNETES], ids=lambda settings: settings.executor)
def test_only_what_launches_jobs_does_so_as_airflow(settings: model.Airflow) -> None:
    made = values(settings)
    launcher = {"create": False, "name": "airflow"}
    # The chart takes the first of the workers' two, unless it is told to take the second.
    workers = (made["workers"], made["workers"]["kubernetes"])
    assert [each["serviceAccount"] for each in (made["triggerer"], *workers)] == [launcher] * 3
    executor = {"create": False, "name": "airflow-scheduler"}
    assert made["scheduler"]["serviceAccount"] == (executor if settings is KUBERNETES else launcher)
    for part in BYSTANDERS:
        assert made[part]["serviceAccount"] == {"create": True, "automountServiceAccountToken": False}
    account = made["apiServer"]["serviceAccount"]
    assert (account["name"], account["annotations"]) == ("airflow-api-server", {"a": "b"})


def test_only_the_api_server_knows_the_token_of_the_keepers_page_and_finds_it_where_the_keeper_is() -> None:
    image = Image("registry.example/airflow", "abc")
    made = airflow_values.values(LOCAL, image, "", "airflow-database", SYSTEM, True, {}, has_page=True)
    url, token = made["apiServer"].pop("env")
    assert url == {"name": "TIDEPOOL_KEEPER_URL", "value": f"http://{keeper_pods.NAME}:{keeper_pods.PORT}"}
    assert token["valueFrom"]["secretKeyRef"] == {"name": keeper_pods.PAGE_SECRET, "key": keeper_pods.PAGE_KEY}
    assert keeper_pods.PAGE_SECRET not in json.dumps(made)
    assert "env" not in values()["apiServer"]


@pytest.mark.parametrize("settings", [LOCAL, KUBERNETES], ids=lambda settings: settings.executor)
def test_the_chart_gives_no_rights(settings: model.Airflow) -> None:
    """Its own role has `create` on pods and on `pods/exec`, beside HDFS and the keeper, for what runs DAGs' code."""
    made = values(settings)
    assert made["rbac"]["create"] is made["allowPodLaunching"] is made["apiServer"]["allowPodLogReading"] is False
    assert made["multiNamespaceMode"] is False
    assert made["apiServer"]["serviceAccount"]["automountServiceAccountToken"] is (settings is KUBERNETES)


def test_nobody_has_a_password_that_is_known() -> None:
    assert values()["createUserJob"] == {"enabled": False}


def test_keys_are_given_so_that_an_upgrade_does_not_change_them() -> None:
    made = values()
    names = {made[name] for name in ("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName")}
    assert names == {"airflow-keys"}


def test_no_hook_waits_for_what_waits_for_it() -> None:
    """Helm runs hooks when all is ready; the scheduler gets ready when the database is migrated."""
    assert values()["migrateDatabaseJob"]["useHelmHooks"] is False


def test_every_pod_says_what_it_needs_and_may_be_no_more_than_pod_security_allows() -> None:
    made = values()
    assert {*LAUNCHERS, *BYSTANDERS, "apiServer", "workers.kubernetes"} <= pods_of(made).keys()
    assert made["securityContexts"]["pod"]["runAsNonRoot"]
    assert made["securityContexts"]["containers"]["capabilities"] == {"drop": ["ALL"]}
    assert made["statsd"]["securityContexts"]["container"]["capabilities"] == {"drop": ["ALL"]}


def test_all_run_on_system_nodes() -> None:
    made = values()
    assert made["nodeSelector"] == {"tidepool.dev/pool": "system"}
    assert [each["key"] for each in made["tolerations"]] == ["CriticalAddonsOnly"]


def test_all_find_the_capacity_document() -> None:
    made = values()
    (mount,) = made["volumeMounts"]
    (variable,) = made["env"]
    assert variable["name"] == "TIDEPOOL_CAPACITY"
    assert variable["value"] == f"{mount['mountPath']}/capacity.json"
    assert "subPath" not in mount, "a single file would never change in a pod that runs"


def test_task_logs_go_where_the_cloud_keeps_them_or_stay_local() -> None:
    remote = config(LOCAL, "s3://logs/airflow")["logging"]
    assert remote["remote_logging"] == "True"
    assert remote["remote_base_log_folder"] == "s3://logs/airflow"
    assert config(LOCAL, "")["logging"] == {"remote_logging": "False"}


def test_dags_come_from_the_image_or_from_git() -> None:
    (baked,) = values(LOCAL)["dagProcessor"]["dagBundleConfigList"]
    assert baked["classpath"].endswith("LocalDagBundle")
    (git,) = values(KUBERNETES)["dagProcessor"]["dagBundleConfigList"]
    assert git["classpath"].endswith("GitDagBundle")
    assert git["kwargs"]["git_conn_id"] == "git"
    public = model.GitDags(repository="https://git.example/dags.git", ref="main", folder="dags", connection="")
    assert "git_conn_id" not in airflow_values.bundle(public)["kwargs"]


def test_metrics_are_exported_only_where_they_are_collected() -> None:
    assert values(metrics=False)["statsd"]["enabled"] is False


def test_an_airflow_pool_has_a_slot_for_each_core_of_its_pools_machines() -> None:
    spot = pool("spot", True, 20)
    made = json.loads(pools(capacity(spot, pool("system", False, 4))))
    assert {name: each["slots"] for name, each in made.items()} == {"spot": 20 * -(-spot.cpu_millis // 1000)}


def test_a_deferred_task_keeps_its_slot() -> None:
    made = json.loads(pools(capacity(pool("spot", True, 20))))
    assert made["spot"]["include_deferred"] is True


def test_pools_that_are_gone_are_removed_and_those_made_by_hand_are_not() -> None:
    wanted = json.loads(pools(capacity(pool("spot", True, 20))))
    present = {
        "default_pool": {"description": "Default pool"},
        "mine": {"description": None},
        "spot": wanted["spot"],
        **json.loads(pools(capacity(pool("gone", True, 1)))),
    }
    assert airflow_setup.stale(present, wanted) == ["gone"]
    assert airflow_setup.MARK == queues.MARK
