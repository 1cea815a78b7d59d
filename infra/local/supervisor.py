"""The local cloud's processes run under supervisord: started together, restarted when one dies, logged to files.

supervisord and all below it live in the control group `services`, so `down` finds them whatever happened.
"""

from __future__ import annotations

import os
import sys
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from infra.local import cgroups

GROUP = "services"


@dataclass(frozen=True)
class Program:
    """A long-running process. `environment` is added to the minimal one; `restart` off for what can't be restarted."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    directory: Path
    restart: bool = True


class Supervisor:
    """supervisord with its files in `folder`, its socket at `socket`, its programs' logs in `logs`."""

    def __init__(self, folder: Path, socket: Path, logs: Path) -> None:
        self._programs = folder / "programs"
        self._config = folder / "supervisord.conf"
        self._socket = socket
        self.logs = logs
        transport = SupervisorTransport(None, None, f"unix://{socket}")
        self._rpc: Any = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def launch(self, programs: list[Program]) -> None:
        """Start supervisord and with it `programs`."""
        self._programs.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        for old in self._programs.iterdir():
            old.unlink()
        for program in programs:
            self._write(program)
        self._config.write_text(_SUPERVISORD.format(socket=self._socket, programs=self._programs, folder=self.logs))
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)]
        cgroups.spawn(GROUP, command, self.logs / "supervisord.out", minimal_environment())

    def start(self, programs: list[Program]) -> None:
        """Add `programs` to a running supervisord; those that it has already are left as they are."""
        present = {process["name"] for process in self.status()}
        for program in programs:
            if program.name not in present:
                self._write(program)
        added, _, _ = self._rpc.reloadConfig()[0]
        for name in added:
            self._rpc.addProcessGroup(name)

    def status(self) -> list[dict[str, Any]]:
        """supervisord's own process list (name, statename, pid, description …); empty if it does not run."""
        try:
            listed = self._rpc.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):
            return []
        return list(listed)

    def _write(self, program: Program) -> None:
        environment = ",".join(f"{key}={_quote(value)}" for key, value in sorted(program.environment.items()))
        text = _PROGRAM.format(
            name=program.name,
            command=" ".join(_quote(word) for word in program.command),
            directory=program.directory,
            environment=environment,
            restart="true" if program.restart else "false",
            log=self.logs / f"{program.name}.log",
        )
        self._programs.joinpath(f"{program.name}.conf").write_text(text)


def minimal_environment() -> dict[str, str]:
    """What our processes inherit: where programs, caches and certificates are; none of the caller's secrets."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME")
    return {key: os.environ[key] for key in kept if key in os.environ}


def _quote(word: str) -> str:
    """supervisord knows no escapes in a quoted value, so a value with a double quote can't be passed on."""
    if '"' in word:
        raise ValueError(f"supervisord can't take a double quote in {word!r}")
    return f'"{word.replace("%", "%%")}"'


_SUPERVISORD = """\
[supervisord]
nodaemon=true
user=root
logfile={folder}/supervisord.log
logfile_maxbytes=10MB
logfile_backups=1
pidfile={folder}/supervisord.pid
[unix_http_server]
file={socket}
chmod=0600
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files={programs}/*.conf
"""

_PROGRAM = """\
[program:{name}]
command={command}
directory={directory}
environment={environment}
autorestart={restart}
startsecs=1
startretries=60
stopasgroup=true
killasgroup=true
stopwaitsecs=5
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=50MB
stdout_logfile_backups=1
"""
