"""Airflow's word, over real HTTP: only a clear answer counts."""

from __future__ import annotations

import dataclasses
import inspect
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tidepool.keeper.airflow import FAILURES, KEPT_SECONDS, OVER, PAUSE_SECONDS, TAKEOVER_SECONDS, Airflow, is_living
from tidepool.keeper.ownership import Owner, Word
from tidepool.labels import utc

OWNER = Owner("analytics", "flights", "load.clean", "scheduled__2026-01-01T00:00:00+00:00", 1, 1, map_index=2)
INSTANCE = {
    "dag_id": OWNER.dag,
    "dag_run_id": OWNER.run,
    "task_id": OWNER.task,
    "map_index": 2,
    "state": "running",
    "try_number": 1,
    "start_date": "2026-01-01T00:00:00Z",
}
NOT_FOUND = (
    "The Mapped Task Instance with dag_id: `flights`, run_id: `r`, task_id: `t`, and map_index: `2` was not found"
)
NOW = 1_767_225_600.0


class Server:
    """Answers as the test says; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str, str]] = []
        self.bodies: list[Any] = []
        self.now = NOW
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                outer.bodies.append(json.loads(self.rfile.read(length)) if length else None)
                outer.asked.append((self.command, self.path, self.headers.get("Authorization") or ""))
                status, body = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if status in (302, 307):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *_: Any) -> None:
                """Nothing to say."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def airflow(self, **given: Any) -> Airflow:
        return Airflow(self.url, **{"token": "t0", **given}, clock=lambda: self.now)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def test_the_words_of_airflow_are_those_of_the_version_that_is_installed() -> None:
    from airflow.api_fastapi.core_api.routes.public.task_instances import get_mapped_task_instance
    from airflow.utils.state import State

    source = inspect.getsource(get_mapped_task_instance)
    assert "Task Instance with dag_id" in source
    assert "was not found" in source
    assert {str(state) for state in State.finished} == OVER


def test_it_asks_for_the_one_task_instance_by_its_names_as_they_are(server: Server) -> None:
    server.answers = [(200, INSTANCE)]
    assert server.airflow().word(OWNER) is Word.LIVES
    path = "/api/v2/dags/flights/dagRuns/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00/taskInstances/load.clean/2"
    assert server.asked == [("GET", path, "Bearer t0")]


@pytest.mark.parametrize("state", sorted(OVER))
def test_a_task_in_an_end_state_is_over(server: Server, state: str) -> None:
    server.answers = [(200, {**INSTANCE, "state": state})]
    assert server.airflow().word(OWNER) is Word.OVER


@pytest.mark.parametrize(
    "state",
    ["running", "queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule", "restarting", None, "new"],
)
def test_a_task_in_any_other_state_lives_also_in_one_that_nobody_knows_yet(server: Server, state: str | None) -> None:
    server.answers = [(200, {**INSTANCE, "state": state})]
    assert server.airflow().word(OWNER) is Word.LIVES


def test_a_task_that_airflow_has_never_heard_of_is_told_from_one_that_is_over(server: Server) -> None:
    server.answers = [(404, {"detail": NOT_FOUND})]
    assert server.airflow().word(OWNER) is Word.UNHEARD


UNCLEAR: dict[str, tuple[int, Any]] = {
    "404 of a proxy": (404, b"<html>not found</html>"),
    "404 of another path": (404, {"detail": "Not Found"}),
    "404 of something else": (404, [NOT_FOUND]),
    "403": (403, {"detail": "Forbidden"}),
    "401": (401, {"detail": "Invalid token"}),
    "500": (500, {"detail": NOT_FOUND}),
    "503": (503, b""),
    "redirect": (302, {"detail": NOT_FOUND}),
    "no JSON": (200, b"<html>welcome</html>"),
    "another task's": (200, {**INSTANCE, "task_id": "other", "state": "failed"}),
    "another map index": (200, {**INSTANCE, "map_index": 1, "state": "failed"}),
    "a list": (200, [INSTANCE]),
    "nothing": (200, {}),
}


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
def test_what_is_no_clear_answer_is_none(server: Server, answer: tuple[int, Any]) -> None:
    server.answers = [answer]
    assert server.airflow().word(OWNER) is Word.SILENT
    assert len(server.asked) == 1, "no redirect is followed"


def test_an_airflow_that_is_away_is_left_alone_for_a_while(server: Server) -> None:
    server.answers = [(503, b"")]
    airflow = server.airflow()
    others = [dataclasses.replace(OWNER, task=f"t{number}") for number in range(50)]
    assert [airflow.word(owner) for owner in others] == [Word.SILENT] * 50
    assert len(server.asked) == FAILURES
    server.now += PAUSE_SECONDS
    server.answers = [(200, {**INSTANCE, "state": "failed"})]
    assert airflow.word(OWNER) is Word.OVER


def test_an_error_now_and_then_does_not_silence_the_answers_around_it(server: Server) -> None:
    airflow, over = server.airflow(), (200, {**INSTANCE, "state": "failed"})
    server.answers = [(503, {}), (500, {}), over] * 3
    assert [airflow.word(OWNER) for _ in range(9)] == [Word.SILENT, Word.SILENT, Word.OVER] * 3


def test_one_that_may_not_be_asked_about_does_not_silence_the_others(server: Server) -> None:
    airflow = server.airflow()
    server.answers = [(403, {}), (404, {"detail": "Not Found"}), (200, {**INSTANCE, "state": "failed"})]
    assert [airflow.word(OWNER) for _ in range(3)] == [Word.SILENT, Word.SILENT, Word.OVER]


def test_nothing_listens_there() -> None:
    assert Airflow("http://127.0.0.1:9", token="t").word(OWNER) is Word.SILENT


def test_that_somebody_lives_is_not_asked_again_for_a_minute_and_that_nobody_does_each_time(server: Server) -> None:
    airflow = server.airflow()
    server.answers = [(200, INSTANCE)]
    assert airflow.word(OWNER) is Word.LIVES
    server.answers = [(200, {**INSTANCE, "state": "success"})]
    assert airflow.word(OWNER) is Word.LIVES
    server.now += KEPT_SECONDS
    assert [airflow.word(OWNER), airflow.word(OWNER)] == [Word.OVER, Word.OVER]
    assert len(server.asked) == 3


def test_user_and_password_make_a_token_and_a_new_one_when_it_is_no_longer_taken(server: Server) -> None:
    airflow = server.airflow(token="", user="keeper", password="secret")
    server.answers = [(201, {"access_token": "t1"}), (200, {**INSTANCE, "state": "failed"})]
    assert airflow.word(OWNER) is Word.OVER
    server.answers = [(401, {}), (201, {"access_token": "t2"}), (200, {**INSTANCE, "state": "failed"})]
    assert airflow.word(OWNER) is Word.OVER
    assert [(method, token) for method, _, token in server.asked] == [
        ("POST", ""),
        ("GET", "Bearer t1"),
        ("GET", "Bearer t1"),
        ("POST", ""),
        ("GET", "Bearer t2"),
    ]
    assert server.bodies[0] == {"username": "keeper", "password": "secret"}


def test_a_password_is_read_from_airflows_file_when_a_token_is_needed(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "passwords.json"
    airflow = server.airflow(token="", user="admin", passwords=file)
    assert airflow.word(OWNER) is Word.SILENT, "Airflow has not started yet"
    file.write_text('{"other": "x"}')
    server.now += PAUSE_SECONDS
    assert airflow.word(OWNER) is Word.SILENT
    assert server.asked == []
    file.write_text('{"admin": "secret"}')
    server.now += PAUSE_SECONDS
    server.answers = [(201, {"access_token": "t1"}), (200, INSTANCE)]
    assert airflow.word(OWNER) is Word.LIVES
    assert server.bodies[0] == {"username": "admin", "password": "secret"}


def test_without_a_token_or_with_a_wrong_password_there_is_no_word(server: Server) -> None:
    assert server.airflow(token="").word(OWNER) is Word.SILENT
    server.answers = [(401, {"detail": "Invalid credentials"})]
    assert server.airflow(token="", user="keeper", password="wrong").word(OWNER) is Word.SILENT


def test_an_attempt_that_has_long_been_running_does_not_come_back_for_an_earlier_ones_pod() -> None:
    later = {**INSTANCE, "try_number": 3, "start_date": utc(NOW - TAKEOVER_SECONDS - 1)}
    assert not is_living(later, holder=2, now=NOW)
    assert is_living(later, holder=3, now=NOW)
    assert is_living({**later, "start_date": utc(NOW - TAKEOVER_SECONDS + 1)}, holder=2, now=NOW)
    assert is_living({**later, "start_date": None}, holder=2, now=NOW)
    assert is_living({**later, "state": "up_for_retry"}, holder=2, now=NOW)
    assert is_living({**later, "state": "deferred"}, holder=2, now=NOW)
