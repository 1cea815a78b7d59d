"""Airflow on the host, beside the local cloud: the processes of `airflow standalone`, each a program of its own.

LocalExecutor, SQLite, SimpleAuthManager with one user and a random password; reachable from this machine only.
Secrets are random for every cloud and stand in airflow.cfg (mode 0600), never on a command line or in the environment.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from infra.local import addresses, paths
from infra.local.errors import LocalError
from infra.local.supervisor import Program, minimal_environment
from tidepool import queues
from tidepool.capacity import Capacity

USER = "admin"
PASSWORDS = "passwords.json"
PAGE_TOKEN = "page-token"  # noqa: S105 (a file's name)
MIGRATION_SECONDS = 120
BUSY_SECONDS = 30
"""How long one part waits while another writes. After SQLite's own 5, on a busy machine, a part of Airflow ends."""

_PARTS = {
    "airflow-api-server": ("api-server",),
    "airflow-scheduler": ("scheduler", "--skip-serve-logs"),
    "airflow-dag-processor": ("dag-processor",),
    "airflow-triggerer": ("triggerer", "--skip-serve-logs"),
}
TRIGGERER = "airflow-triggerer"
"""Needed by deferrable tasks only: started after the others answer, it costs the first run nothing."""

# Intervals are short because somebody waits for the result; a machine that is killed is noticed within 15 s.
_CONFIG = """\
[core]
executor = LocalExecutor
dags_folder = {dags}
load_examples = False
dags_are_paused_at_creation = False
parallelism = 4
hostname_callable = socket.gethostname
min_serialized_dag_update_interval = 1
auth_manager = airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager
simple_auth_manager_users = {user}:admin
simple_auth_manager_passwords_file = {home}/{passwords}
execution_api_server_url = {url}/execution/
fernet_key = {fernet_key}

[database]
sql_alchemy_conn = sqlite:///{home}/airflow.db?timeout={busy_seconds}
check_migrations = False

[logging]
base_log_folder = {logs}
colored_console_log = False

[api]
host = {host}
port = {port}
base_url = {url}
workers = 1
secret_key = {secret_key}

[api_auth]
jwt_secret = {jwt_secret}

[workers]
api_retries = 10
execution_api_timeout = 30
min_heartbeat_interval = 2

[scheduler]
scheduler_idle_sleep_time = 0.5
scheduler_heartbeat_sec = 1
job_heartbeat_sec = 2
scheduler_health_check_threshold = 15
orphaned_tasks_check_interval = 5
task_instance_heartbeat_timeout = 60
task_instance_heartbeat_timeout_detection_interval = 5

[dag_processor]
refresh_interval = 2
bundle_refresh_check_interval = 1
min_file_process_interval = 30
file_parsing_sort_mode = modified_time
parsing_processes = 1
"""


class AirflowError(LocalError):
    """Airflow could not be set up; the message says what failed and where its output is."""


def prepare(home: Path, dags: Path, cache: Path) -> None:
    """Make `home` an AIRFLOW_HOME: configuration, secrets, an empty database. Leaves one that is there as it is.

    home: mode 0700, made if missing. dags: the folder of DAG files. cache: keeps the migrated empty database.
    """
    if (home / "airflow.cfg").exists():
        return
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    shutil.copyfile(_empty_database(cache), home / "airflow.db")
    _write_secret(home / PASSWORDS, json.dumps({USER: secrets.token_urlsafe(24)}) + "\n")
    address = urlsplit(addresses.require_local(addresses.AIRFLOW))
    config = _CONFIG.format(
        home=home,
        busy_seconds=BUSY_SECONDS,
        logs=home.parent / "log" / "airflow",  # with the cloud's other logs, which outlive it
        dags=dags,
        user=USER,
        passwords=PASSWORDS,
        url=addresses.AIRFLOW,
        host=address.hostname,
        port=address.port,
        fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        secret_key=secrets.token_urlsafe(48),
        jwt_secret=secrets.token_urlsafe(48),
    )
    _write_secret(home / "airflow.cfg", config)  # last: with it, the folder is complete


def set_pools(home: Path, document: Capacity) -> None:
    """Give Airflow the pools of a capacity document. Its own command for that takes as long as all else together."""
    rows = [(queue.name, queue.slots, queue.description) for queue in queues.queues(document).values()]
    with contextlib.closing(sqlite3.connect(home / "airflow.db", BUSY_SECONDS)) as database, database:
        database.execute("DELETE FROM slot_pool WHERE description LIKE ?", (f"{queues.MARK}%",))
        database.executemany(
            "INSERT INTO slot_pool (pool, slots, description, include_deferred) VALUES (?, ?, ?, 1)", rows
        )


def programs(home: Path, capacity: Path, kubeconfig: Path, namespace: str) -> list[Program]:
    """The parts of Airflow to run side by side, the triggerer last (see TRIGGERER).

    capacity: the capacity document for the DAG files. kubeconfig: for pods in `namespace`, as the jobs' launcher.
    """
    extra = urlencode({"kube_config_path": str(kubeconfig), "namespace": namespace}, safe="/")
    environment = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": f"kubernetes:///?{extra}",
        "KUBECONFIG": str(kubeconfig),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "TIDEPOOL_CAPACITY": str(capacity),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(paths.REPOSITORY / "images" / "airflow" / "plugins"),
        "TIDEPOOL_KEEPER_URL": addresses.KEEPER,
        "TIDEPOOL_PAGE_TOKEN_FILE": str(page_token(home.parent)),
    }
    return [Program(name, _command(*arguments), environment, home) for name, arguments in _PARTS.items()]


def page_token(state: Path) -> Path:
    """The file in a cloud's folder with the token that its keeper's page is shown for; made if it is not there."""
    path = state / PAGE_TOKEN
    if not path.exists():
        _write_secret(path, secrets.token_urlsafe(24) + "\n")
    return path


def _command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "infra.local.airflow_process", *arguments)


def _empty_database(cache: Path) -> Path:
    """A database as `airflow db migrate` leaves it: made once per version of Airflow, since it takes 8 s."""
    kept = cache / "airflow" / version("apache-airflow-core") / "empty.db"
    if kept.exists():
        return kept
    folder = kept.with_name(f"making.{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made, log = folder / "airflow.db", folder / "migrate.log"
    environment = minimal_environment() | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{made}",
    }
    with log.open("wb") as output:
        done = subprocess.run(
            _command("db", "migrate"),
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=MIGRATION_SECONDS,
            check=False,
        )
    if done.returncode != 0 or not made.exists():
        last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise AirflowError(f"`airflow db migrate` failed ({done.returncode}); its output is in {log}:\n{last}")
    with sqlite3.connect(made) as database:
        database.execute("PRAGMA journal_mode=WAL")  # readers and a writer beside each other, over processes
    database.close()
    made.replace(kept)
    shutil.rmtree(folder)
    return kept


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
