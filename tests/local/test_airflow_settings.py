import configparser
import json
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from airflow import settings
from supervisor.options import ServerOptions, UnhosedConfigParser

from infra.local import addresses, airflow, airflow_api
from infra.local.airflow_api import AirflowApi, AirflowApiError
from infra.local.supervisor import Supervisor


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that has the empty database already."""
    kept = tmp_path / "cache" / "airflow" / version("apache-airflow-core") / "empty.db"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"SQLite format 3\0")
    return tmp_path / "cache"


def secrets_of(home: Path) -> list[str]:
    config = configparser.RawConfigParser()
    config.read(home / "airflow.cfg")
    password = json.loads((home / "passwords.json").read_text())["admin"]
    keys = [("core", "fernet_key"), ("api", "secret_key"), ("api_auth", "jwt_secret")]
    return [password, *(config.get(*key) for key in keys)]


def test_every_airflow_has_secrets_of_its_own_that_only_its_user_can_read(tmp_path: Path, cache: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for home in (one, other):
        airflow.prepare(home, tmp_path / "dags", cache)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        for name in ("airflow.cfg", "passwords.json"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert not set(secrets_of(one)) & set(secrets_of(other))
    assert all(len(secret) >= 32 for secret in secrets_of(one))


def test_no_secret_is_on_a_command_line_or_in_the_environment(tmp_path: Path, cache: Path) -> None:
    airflow.prepare(tmp_path / "home", tmp_path / "dags", cache)
    programs = airflow.programs(tmp_path / "home", tmp_path / "capacity.json", tmp_path / "kubeconfig", "jobs")
    seen = repr([(program.command, program.environment) for program in programs])
    assert not [secret for secret in secrets_of(tmp_path / "home") if secret in seen]


def test_the_environment_reaches_airflow_through_supervisord_as_it_was_given(tmp_path: Path) -> None:
    program = airflow.programs(tmp_path / "home", tmp_path / "capacity.json", tmp_path / "kube config", "jobs")[0]
    written = Supervisor(tmp_path, tmp_path / "socket", tmp_path / "log")
    for folder in ("programs", "log"):
        (tmp_path / folder).mkdir()
    written._write(program)
    options = ServerOptions()
    parser = UnhosedConfigParser()
    parser.expansions = options.environ_expansions
    parser.read_string((tmp_path / "programs" / f"{program.name}.conf").read_text())
    (config,) = options.process_groups_from_parser(parser)
    assert config.process_configs[0].environment == program.environment
    query = parse_qs(urlsplit(program.environment["AIRFLOW_CONN_KUBERNETES_DEFAULT"]).query)
    assert query == {"kube_config_path": [str(tmp_path / "kube config")], "namespace": ["jobs"]}


def test_preparing_again_changes_nothing(tmp_path: Path, cache: Path) -> None:
    airflow.prepare(tmp_path / "home", tmp_path / "dags", cache)
    before = secrets_of(tmp_path / "home")
    airflow.prepare(tmp_path / "home", tmp_path / "dags", cache)
    assert secrets_of(tmp_path / "home") == before


def test_a_part_of_airflow_waits_for_another_that_writes_and_does_not_end(tmp_path: Path, cache: Path) -> None:
    airflow.prepare(tmp_path / "home", tmp_path / "dags", cache)
    config = configparser.RawConfigParser()
    config.read(tmp_path / "home" / "airflow.cfg")
    url = config.get("database", "sql_alchemy_conn")
    for each in (url, settings._get_async_conn_uri_from_sync(url)):
        made = sa.make_url(each)
        (path,), arguments = made.get_dialect()().create_connect_args(made)
        assert (path, arguments["timeout"]) == (str(tmp_path / "home" / "airflow.db"), airflow.BUSY_SECONDS)


def test_airflow_listens_on_this_machine_only(tmp_path: Path, cache: Path) -> None:
    airflow.prepare(tmp_path / "home", tmp_path / "dags", cache)
    config = configparser.RawConfigParser()
    config.read(tmp_path / "home" / "airflow.cfg")
    assert config.get("api", "host") == "127.0.0.1"
    programs = airflow.programs(tmp_path / "home", tmp_path / "capacity.json", tmp_path / "kubeconfig", "jobs")
    serving = [program.name for program in programs if "--skip-serve-logs" not in program.command]
    assert serving == ["airflow-api-server", "airflow-dag-processor"]  # the others would serve logs to everybody


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:8088", "https://airflow.example.com", "http://localhost:8088", "http://0.0.0.0:8088", ""]
)
def test_a_password_goes_to_a_loopback_address_only(url: str) -> None:
    with pytest.raises(addresses.NotLocalError, match="loopback"):
        AirflowApi(url, "admin", "secret")


def test_no_airflow_is_reported_with_its_address_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_api, "_PATIENCE_SECONDS", 0)
    with pytest.raises(AirflowApiError, match=r"http://127\.0\.0\.1:1 does not answer.*tidepool local status"):
        AirflowApi("http://127.0.0.1:1", "admin", "secret").state("dag", "run")


def test_a_cloud_that_is_not_up_has_no_password(tmp_path: Path) -> None:
    with pytest.raises(AirflowApiError, match=r"passwords\.json.*is the local cloud up"):
        AirflowApi.of(tmp_path)


def test_what_airflow_refuses_is_reported_in_its_words() -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(409)
            self.end_headers()
            self.wfile.write(b'{"detail":"run exists"}')

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(AirflowApiError, match=r"answered 409.*run exists"):
            AirflowApi(f"http://127.0.0.1:{server.server_port}", "admin", "secret").trigger("dag")
    finally:
        server.shutdown()
        server.server_close()
