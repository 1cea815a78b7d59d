"""Airflow through its REST API, as a user has it: wait for it, start a DAG run, follow it. This machine's only."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from infra.local import addresses, waiting
from infra.local.airflow import PASSWORDS, USER
from infra.local.errors import LocalError

_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 30.0
"""How long a request waits for an API server that is being restarted."""


class AirflowApiError(LocalError):
    """Airflow did not do what was asked; the message says what and what to look at."""


@dataclass(frozen=True)
class BrokenFile:
    """A DAG file that Airflow could not import. `file` is relative to the DAGs folder."""

    file: str
    error: str


@dataclass(frozen=True)
class TaskState:
    """Where one task of a DAG run stands; `attempt` is the number of its latest try, 0 before the first."""

    task: str
    state: str
    attempt: int


class AirflowApi:
    """One Airflow API server, spoken to as one user. `limit` arguments are seconds."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = _loopback(url)
        self._user, self._password = user, password
        self._http = httpx.Client(base_url=self._url, timeout=30, trust_env=False, follow_redirects=False)

    @classmethod
    def of(cls, home: Path) -> AirflowApi:
        """The local cloud's own, with the password that stands in its AIRFLOW_HOME."""
        path = home / PASSWORDS
        try:
            password = json.loads(path.read_text())[USER]
        except (OSError, ValueError, KeyError) as error:
            raise AirflowApiError(f"{path}: no password of {USER} ({error}); is the local cloud up?") from error
        return cls(addresses.AIRFLOW, USER, password)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def wait_ready(self, limit: float) -> None:
        """Until the API server answers and the scheduler and the DAG processor report that they run."""
        deadline = time.monotonic() + limit
        what = f"the API server at {self._url} did not answer"
        _until(self._answers, deadline, f"{what} within {limit:.0f} s; its log: `tidepool local logs`")
        # The task API builds itself on its first call, for seconds: better now than in the first task.
        self._http.get("/execution/health")
        self._login()
        _until(
            self._healthy,
            deadline,
            f"Airflow's scheduler or DAG processor did not report within {limit:.0f} s: `tidepool local logs`",
        )

    def _answers(self) -> bool:
        try:
            return self._http.get("/api/v2/version").is_success
        except httpx.TransportError:
            return False

    def _healthy(self) -> bool:
        parts = self._call("GET", "/api/v2/monitor/health")
        return all((parts.get(part) or {}).get("status") == "healthy" for part in ("scheduler", "dag_processor"))

    def _login(self) -> None:
        token = self._call("POST", "/auth/token", {"username": self._user, "password": self._password})
        self._http.headers["Authorization"] = f"Bearer {token['access_token']}"

    def broken_files(self) -> list[BrokenFile]:
        """The DAG files that could not be imported."""
        found = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return [BrokenFile(one["filename"], one["stack_trace"].strip()) for one in found]

    def wait_dag(self, dag: str, limit: float) -> None:
        """Until Airflow has the DAG. A file that looks like it and can't be imported is reported with its error."""
        deadline = time.monotonic() + limit

        def there() -> bool:
            try:
                found = self._call("GET", f"/api/v2/dags/{quote(dag)}")
            except _NotFoundError:
                found = {"has_import_errors": False, "is_paused": None}
            broken = [one for one in self.broken_files() if Path(one.file).stem == dag or found["has_import_errors"]]
            if broken:
                raise AirflowApiError(_describe(f"DAG {dag} can't run", broken))
            if found["is_paused"]:
                raise AirflowApiError(f"DAG {dag} is paused: unpause it at {self._url}/dags/{dag}, then run it again")
            return found["is_paused"] is False

        try:
            _until(there, deadline, f"Airflow found no DAG {dag} within {limit:.0f} s")
        except _TookTooLongError as error:
            known = ", ".join(one["dag_id"] for one in self._call("GET", "/api/v2/dags")["dags"]) or "none"
            message = _describe(f"{error}. DAGs there are: {known}", self.broken_files())
            raise AirflowApiError(message) from None

    def trigger(self, dag: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of the DAG now; returns its run id."""
        body = {"logical_date": None, "conf": conf or {}}
        return str(self._call("POST", f"/api/v2/dags/{quote(dag)}/dagRuns", body)["dag_run_id"])

    def state(self, dag: str, run: str) -> str:
        """queued, running, success or failed."""
        return str(self._call("GET", run_path(dag, run))["state"])

    def tasks(self, dag: str, run: str) -> list[TaskState]:
        """The run's tasks as they stand, in the order of their names."""
        found = self._call("GET", f"{run_path(dag, run)}/taskInstances")["task_instances"]
        tasks = [TaskState(one["task_id"], one["state"] or "none", one["try_number"]) for one in found]
        return sorted(tasks, key=lambda task: task.task)

    def log(self, dag: str, run: str, task: str, attempt: int) -> list[str]:
        """The lines that one try of a task wrote, as far as they are there."""
        path = f"{run_path(dag, run)}/taskInstances/{quote(task)}/logs/{attempt}"
        content = self._call("GET", path, parameters={"full_content": "true"})["content"]
        return [line if isinstance(line, str) else str(line.get("event", "")) for line in content]

    def _call(
        self, method: str, path: str, body: Any = None, parameters: dict[str, str] | None = None
    ) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                answer = self._http.request(method, path, json=body, params=parameters)
                break
            except httpx.ConnectError as error:  # nothing was sent: safe to try again whatever the method
                if time.monotonic() > deadline:
                    raise AirflowApiError(
                        f"{self._url} does not answer ({error}): `tidepool local status` tells what runs"
                    ) from error
                time.sleep(_POLL_SECONDS)
            except httpx.TransportError as error:
                if method != "GET" or time.monotonic() > deadline:
                    raise AirflowApiError(f"{method} {self._url}{path} broke off: {error}") from error
                time.sleep(_POLL_SECONDS)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise _NotFoundError(f"{method} {self._url}{path}: not found")
        if not answer.is_success:
            raise AirflowApiError(f"{method} {self._url}{path} answered {answer.status_code}: {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found


class _NotFoundError(AirflowApiError):
    """There is no such thing."""


class _TookTooLongError(AirflowApiError):
    """The condition did not come true within its limit."""


def _loopback(url: str) -> str:
    """`url` if it is this machine's loopback; passwords go nowhere else."""
    host = urlsplit(url).hostname or ""
    try:
        fine = ipaddress.ip_address(host).is_loopback
    except ValueError:
        fine = False
    if not fine:
        raise addresses.NotLocalError(f"{url}: the local Airflow is at a loopback address such as {addresses.AIRFLOW}")
    return url


def _until(condition: Callable[[], bool], deadline: float, message: str) -> None:
    waiting.until(condition, deadline - time.monotonic(), _TookTooLongError(message), _POLL_SECONDS)


def run_path(dag: str, run: str) -> str:
    """Where the API has a run."""
    return f"/api/v2/dags/{quote(dag)}/dagRuns/{quote(run, safe='')}"


def _describe(problem: str, broken: list[BrokenFile]) -> str:
    return "\n".join([problem, *(f"{one.file} can't be imported:\n{one.error}" for one in broken)])
