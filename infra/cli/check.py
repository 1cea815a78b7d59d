"""`tidepool check`: would every job of the DAG files find a machine, in every environment?"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from infra import contract, settings
from infra.cli import dag_pods, stacks
from infra.cli.options import DagsOption, JsonOption
from infra.cli.words import counted
from infra.contract import Problem, dag_source
from infra.contract.problem import by_place
from infra.contract.template import Reading
from infra.local.paths import REPOSITORY
from tidepool.capacity import Capacity


@dataclass
class Result:
    """What was found in one stack: jobs checked, problems, and jobs that nothing can be said of."""

    stack: str
    file: str
    jobs: int = 0
    problems: list[Problem] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def check(
    stack: Annotated[
        str | None,
        typer.Argument(metavar="STACK", help="An environment such as dev, or a stack file; else all in stacks/."),
    ] = None,
    dags: DagsOption = REPOSITORY / "dags",
    as_json: JsonOption = False,
) -> None:
    """Check that every job of the DAG files finds a machine, room and time in an environment, before it is deployed.

    Reads the stack files, imports the DAG files as Airflow does, and compares each job's pod with the machines, quotas
    and rules of its environment. Needs no cluster and no credentials. Exits with 1 where there are problems.

    \b
    Examples:
      tidepool check
      tidepool check prod
      tidepool check dev --json
      tidepool check --dags ../our-dags
    """
    results = run(stacks.files() if stack is None else [stacks.file(stack, "STACK")], dags)
    if as_json:
        typer.echo(json.dumps({"stacks": [dataclasses.asdict(each) for each in results]}, indent=2))
    else:
        for each in results:
            typer.echo(_shown(each))
    raise typer.Exit(1 if any(each.problems for each in results) else 0)


def run(files: list[Path], dags: Path) -> list[Result]:
    """Check each of the stack files with the DAG files of a folder."""
    results, loaded = [], {}
    for file in files:
        result = Result(stack=stacks.name(file), file=_shown_path(file))
        results.append(result)
        try:
            loaded[result.stack] = settings.load(file)
        except settings.SettingsError as error:
            result.problems = [Problem(result.file, "settings", problem, "") for problem in error.problems]
    documents = {name: contract.planned(stack) for name, stack in loaded.items()}
    readings = _readings(dags, documents)
    empty = [] if dag_source.files(dags) else [_no_files(dags)]
    for result in results:
        if result.stack in loaded:
            reading = readings[result.stack]
            found = contract.problems(loaded[result.stack], documents[result.stack], reading.templates)
            result.jobs = len(reading.templates)
            result.problems = by_place([*empty, *reading.problems, *found])
            result.unread = reading.unread
    return results


def _no_files(dags: Path) -> Problem:
    return Problem(f"{dags.name}/", "dags", f"there are no DAG files in {dags}", "Name their folder by --dags")


def _readings(dags: Path, documents: dict[str, Capacity]) -> dict[str, Reading]:
    source = {name: dag_source.read(dags, document) for name, document in documents.items()}
    if not documents or not dag_source.files(dags) or importlib.util.find_spec("airflow") is None:
        return source
    try:
        return dag_pods.read(dags, documents)
    except dag_pods.DagPodsError as error:
        problem = Problem(f"{dags.name}/", "dag-import", str(error), "Run the DAG files alone")
        if error.file is not None:
            what = f"its import did not come to an end: {error}"
            problem = Problem(dag_source.place(dags, error.file, 1), "dag-import", what, "Correct the file")
        for reading in source.values():
            reading.problems.append(problem)
        return source


def _shown_path(file: Path) -> str:
    file = file.resolve()
    return str(file.relative_to(REPOSITORY)) if file.is_relative_to(REPOSITORY) else str(file)


def _shown(result: Result) -> str:
    found = counted(len(result.problems), "problem") if result.problems else "ok"
    lines = [f"{result.stack}: {found} ({counted(result.jobs, 'job')})"]
    for problem in result.problems:
        lines.append(f"  {problem.where}  [{problem.rule}]")
        lines.append(f"    {problem.what}.")
        lines += [f"    {problem.do}."] if problem.do else []
    lines += [f"  not checked: {each}" for each in result.unread]
    return "\n".join(lines)
