"""The pods that DAG files really launch: Airflow imports the files, in a process of its own.

DAG files are programs, and not always ours. The process gets no variable of this one's environment but PATH, a home of
its own, and a limit of time; so it sees no credentials, but it is not a sandbox.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.cli.told import CommandError
from infra.contract import dag_source
from infra.contract.problem import advised
from infra.contract.template import Member, Reading, Template
from tidepool import capacity
from tidepool.capacity import Capacity

LIMIT_SECONDS = 180.0


class DagPodsError(CommandError):
    """The DAG files could not be imported at all; the message says what Airflow's process said.

    file: the one that was being imported, where that is known.
    """

    def __init__(self, message: str, file: Path | None = None) -> None:
        self.file = file
        super().__init__(message)


def read(dags: Path, documents: Mapping[str, Capacity]) -> dict[str, Reading]:
    """What the DAG files of a folder launch with each of the capacity documents, by the documents' names.

    What a file's import error hides is read from its source, so that one mistake does not hide the next.
    """
    lines = dag_source.lines(dags)
    with tempfile.TemporaryDirectory(prefix="tidepool-check-") as folder:
        home = Path(folder)
        pairs = []
        for name, document in documents.items():
            (home / f"{name}.json").write_text(capacity.dumps(document), encoding="utf-8")
            pairs.append(f"{home / name}.json={home / name}.pods")
        try:
            run_airflow("tidepool.operators.manifests", dags, pairs, home)
        except DagPodsError as error:
            raise DagPodsError(str(error), _importing(home, dags)) from None
        return {
            name: _merge(
                json.loads((home / f"{name}.pods").read_text(encoding="utf-8")),
                dag_source.read(dags, document),
                dags,
                lines,
            )
            for name, document in documents.items()
        }


def ask(module: str, dags: Path, arguments: Sequence[str], texts: Mapping[str, str]) -> dict[str, Any]:
    """What a module answers, as `run_airflow`, whose last argument is the name of a file for its answer in JSON.

    texts: what it reads, each in a file whose name is in the variable. Raises DagPodsError.
    """
    with tempfile.TemporaryDirectory(prefix="tidepool-ask-") as folder:
        home = Path(folder)
        variables = {}
        for variable, text in texts.items():
            (home / f"{variable}.json").write_text(text, encoding="utf-8")
            variables[variable] = str(home / f"{variable}.json")
        run_airflow(module, dags, [*arguments, str(home / "answer.json")], home, variables)
        answer: dict[str, Any] = json.loads((home / "answer.json").read_text(encoding="utf-8"))
        return answer


def run_airflow(
    module: str, dags: Path, arguments: list[str], home: Path, variables: Mapping[str, str] | None = None
) -> None:
    """Run a module that imports the DAG files of a folder, its first argument, in a process and a home of its own.

    Raises DagPodsError with what it said where it fails, or takes too long.
    """
    command = [sys.executable, "-m", module, str(dags.resolve()), *arguments]
    environment = {
        **(variables or {}),
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": "100",  # down to the line of the DAG file
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": "kubernetes://",
    }
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise DagPodsError(f"importing the DAG files of {dags} took more than {LIMIT_SECONDS:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        said = ":\n" + "\n".join(output.splitlines()[-10:]) if output.strip() else ", and did not say why"
        raise DagPodsError(f"Airflow could not read the DAG files of {dags}{said}")


def _importing(home: Path, dags: Path) -> Path | None:
    """The DAG file that was being imported when the process ended."""
    for note in home.glob("*.importing"):
        file = Path(note.read_text(encoding="utf-8"))
        if file.is_relative_to(dags.resolve()):
            return dags / file.relative_to(dags.resolve())
    return None


def _merge(found: dict[str, Any], source: Reading, dags: Path, lines: Mapping[tuple[str, str], int]) -> Reading:
    """The real pods, and from the source what no import gave."""
    reading = Reading(problems=list(source.problems), unread=list(found["unread"]))
    real: set[str] = set()

    def place(file: str, task: str | None, line: int | None = None) -> str:
        if not Path(file).is_relative_to(dags.resolve()):
            return file  # a DAG that a package makes
        path = dags / Path(file).relative_to(dags.resolve())
        return dag_source.place(dags, path, line or lines.get((dag_source.place(dags, path), task or "")))

    for task in found["tasks"]:
        where = place(task["file"], task["task"])
        real.add(where)
        reading.templates.append(
            Template(
                where=where,
                subject=f"task {task['task']!r}",
                pod=task["pod"],
                schedule_timeout_seconds=task["schedule_timeout_seconds"],
                execution_timeout_seconds=task["execution_timeout_seconds"],
                members=tuple(Member(**each) for each in task["members"]),
            )
        )
    failed = {place(error["file"], None) for error in found["errors"] if not error["task"]}
    for template in source.templates:
        if template.where.partition(":")[0] in failed and template.where not in real:
            reading.templates.append(template)
    for error in found["errors"]:
        where = place(error["file"], error["task"], error["line"])
        if where not in {problem.where for problem in source.problems}:
            what = f"task {error['task']!r}: its pod cannot be built" if error["task"] else "Airflow cannot import it"
            reading.problems.append(advised(where, "dag-import", f"{what}: {error['message']}", "Correct the file"))
    return reading
