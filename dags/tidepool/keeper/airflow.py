"""Airflow's word on a task instance, by its REST API (v2): does anybody still work on it, or will go on with its pod?

Only a clear answer counts. Whatever else comes back (an error, a redirect, a page of something else, a refusal) means
that Airflow can't be asked, and nothing is removed on the strength of that.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from tidepool.keeper.ownership import Owner, Word, stamp

_log = logging.getLogger("tidepool.airflow")

OVER = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})
"""States of a task instance that nobody works on any more, and that no further attempt follows by itself."""

TAKEOVER_SECONDS = 600.0
"""So long an attempt may take until it has taken over what an earlier one left; after that it never will."""

KEPT_SECONDS = 60.0
"""For how long the word that somebody lives is not asked for again."""

PAUSE_SECONDS = 30.0
"""For how long Airflow is left alone after it did not answer, or answered with FAILURES errors in a row."""

FAILURES = 3
"""An error may be of one request, and the others are asked all the same: else some errors would save every orphan."""

_TIMEOUT = urllib3.Timeout(connect=3, read=5)
_LARGEST = 1 << 20


class AirflowError(Exception):
    """Airflow gave no clear answer; the message says what it gave instead. status: of the answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_of_one(self) -> bool:
        """It may be about this one task instance: others can be asked."""
        return self.status in (200, 400, 403, 404, 422)


class Airflow:
    """One Airflow API server. `token`, or `user` and `password`, from which a token is made when it is needed.

    passwords: instead of a password, the file that Airflow's simple auth manager writes: JSON, passwords by user. It is
    read for each new token.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        user: str = "",
        password: str = "",
        passwords: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._user = user
        self._password = password
        self._passwords = passwords
        self._clock = clock
        self._http = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)
        self._living: dict[Owner, float] = {}
        self._silent_until = 0.0
        self._failures = 0
        self._told = ""
        self._lock = threading.Lock()

    def word(self, owner: Owner) -> Word:
        """What Airflow says of it; that it lives may be a minute old."""
        with self._lock:
            now = self._clock()
            if now - self._living.get(owner, -KEPT_SECONDS) < KEPT_SECONDS:
                return Word.LIVES
            if now < self._silent_until:
                return Word.SILENT
            try:
                found = self._ask(owner, now)
            except (AirflowError, urllib3.exceptions.HTTPError, OSError) as error:
                self._tell(f"Airflow can't be asked whether a task is over: {error}")
                self._failures += 1
                is_of_one = isinstance(error, AirflowError) and (error.is_of_one or self._failures < FAILURES)
                if not is_of_one:
                    self._silent_until, self._failures = now + PAUSE_SECONDS, 0
                return Word.SILENT
            self._tell("")
            self._failures = 0
            self._living = {each: told for each, told in self._living.items() if now - told < KEPT_SECONDS}
            if found is Word.LIVES:
                self._living[owner] = now
            return found

    def _ask(self, owner: Owner, now: float) -> Word:
        names = (quote(owner.dag, safe=""), quote(owner.run, safe=""), quote(owner.task, safe=""))
        path = "/api/v2/dags/{}/dagRuns/{}/taskInstances/{}".format(*names)
        status, answer = self._call("GET", f"{path}/{owner.map_index}")
        if status == 404:
            # A proxy, or another version of the API, says 404 in other words.
            if "Task Instance with" in str(answer.get("detail")) and "was not found" in str(answer.get("detail")):
                return Word.UNHEARD
            raise AirflowError(f"{self._url}{path} answered 404, and not as Airflow does: is it there?", status)
        told = tuple(answer.get(key) for key in ("dag_id", "dag_run_id", "task_id", "map_index"))
        if status != 200 or told != (owner.dag, owner.run, owner.task, owner.map_index):
            raise AirflowError(f"{self._url}{path} answered {status}, and not with the task instance", status)
        return Word.LIVES if is_living(answer, owner.holder, now) else Word.OVER

    def _tell(self, words: str) -> None:
        """Log what is wrong once."""
        if words and words != self._told:
            _log.warning("%s", words)
        self._told = words

    def _call(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON object; with a new token where the old one is no longer taken."""
        renewed = False
        while True:
            if not self._token:
                self._token, renewed = self._login(), True
            headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
            status, answer = self._send(method, path, headers=headers)
            if status != 401 or renewed or not self._user:
                return status, answer
            self._token = ""

    def _login(self) -> str:
        password = self._password
        if self._passwords is not None:
            try:
                password = str(json.loads(self._passwords.read_text(encoding="utf-8"))[self._user])
            except (ValueError, KeyError, TypeError) as error:
                raise AirflowError(f"{self._passwords}: no password of {self._user!r} ({error})", 401) from error
        if not (self._user and password):
            raise AirflowError("no token, and no user and password to get one with", 401)
        body = {"username": self._user, "password": password}
        status, answer = self._send("POST", "/auth/token", json=body)
        if status not in (200, 201) or not isinstance(answer.get("access_token"), str):
            raise AirflowError(f"{self._url}/auth/token answered {status}: no token for user {self._user!r}", 401)
        return str(answer["access_token"])

    def _send(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        # No redirect is followed: a token goes to nobody else.
        response = self._http.request(
            method, self._url + path, redirect=False, preload_content=False, decode_content=True, **options
        )
        try:
            body = response.read(_LARGEST)
        finally:
            response.drain_conn()
            response.release_conn()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        return response.status, answer if isinstance(answer, dict) else {}


def is_living(instance: dict[str, Any], holder: int, now: float) -> bool:
    """What a task instance, as Airflow's JSON, says of the pod that attempt `holder` had last.

    One that waits for its next attempt lives: that attempt goes on with the pod. One whose later attempt has long been
    running without taking the pod over does not need it any more.
    """
    state, attempt = instance.get("state"), instance.get("try_number")
    if state in OVER:
        return False
    began = stamp(instance.get("start_date"))
    passed_over = isinstance(attempt, int) and attempt > holder and began is not None
    return not (passed_over and state == "running" and began is not None and now - began > TAKEOVER_SECONDS)
