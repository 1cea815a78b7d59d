"""A PostgreSQL of a test's own, where its server is installed: on a socket in a folder, reached by no network."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy

from infra.local import toolchain
from tests.waiting import wait_until

_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
_LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Postgres:
    """folder: of the socket. command: what runs the server, in the foreground, until it is killed."""

    folder: Path
    command: tuple[str, ...]

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://tester@/postgres?host={self.folder}"


@contextlib.contextmanager
def made() -> Iterator[Postgres | None]:
    """An empty database whose server does not run yet; None where no server is installed. Its files go at the end."""
    initdb, server = (toolchain.find(name) for name in ("initdb", "postgres"))
    if not (initdb and server):
        yield None
        return
    # A socket's path may have 107 bytes, and it refuses to run as root.
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/tidepool-pg.XXXXXX"], text=True).strip())  # noqa: S108
    user = _NOBODY if os.geteuid() == 0 else ()
    if user:
        shutil.chown(folder, "nobody")
    try:
        make = [*user, initdb, "-D", f"{folder}/db", "-A", "trust", "-U", "tester"]
        subprocess.run(make, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        where = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}")
        yield Postgres(folder, (*user, server, "-D", f"{folder}/db", *where))
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a server that was killed may still be writing


@contextlib.contextmanager
def running() -> Iterator[Postgres | None]:
    """One that answers; None where no server is installed."""
    with made() as found:
        if found is None:
            yield None
            return
        with (found.folder / "log").open("ab") as log:
            process = subprocess.Popen(found.command, cwd=found.folder, stdout=log, stderr=log)
        try:
            _wait(found, process)
            yield found
        finally:
            process.send_signal(signal.SIGQUIT)  # at once, whoever is connected
            process.wait()


def _wait(server: Postgres, process: subprocess.Popen[bytes]) -> None:
    engine, log = sqlalchemy.create_engine(server.url), server.folder / "log"

    def answers() -> bool:
        assert process.poll() is None, f"PostgreSQL ended: {log.read_text()}"
        engine.connect().close()
        return True

    try:
        away = (sqlalchemy.exc.OperationalError,)
        wait_until(answers, _LIMIT_SECONDS, lambda: f"PostgreSQL answers: {log.read_text()}", away=away, look=0.05)
    finally:
        engine.dispose()
