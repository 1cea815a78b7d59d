"""The jobs of the DAG files as pods, read from their source: nothing of a DAG file runs, and no Airflow is needed.

What stands there as a literal (or as a name for one) is known; the rest isn't, and a job whose pod hangs on it is
listed as unread. `tidepool check` reads the real pods besides (infra/cli/check.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from infra.contract import python_values, source_job
from infra.contract.problem import Problem
from infra.contract.python_values import UNKNOWN, called
from infra.contract.source_job import JOB_FIELDS, KINDS, STOCK_OPERATOR
from infra.contract.template import Reading
from tidepool.capacity import Capacity

Call = tuple[ast.Call, str, dict[str, Any]]
"""A call of an operator, the operator's real name, and the default arguments of the DAG around it."""

UNREADABLE = (OSError, SyntaxError, ValueError, RecursionError, MemoryError)
"""What reading a file and its text may raise: no such file, not UTF-8, not Python, or deeper than the reading goes."""


def read(dags: Path, capacity: Capacity) -> Reading:
    """The jobs of all DAG files of a folder, with the pools of a capacity document."""
    reading = Reading()
    for file in files(dags):
        where = place(dags, file)
        try:
            tree = _parsed(file)
            constants = python_values.constants(tree)
            calls = list(_calls(tree, constants))
            given = [_given(call, defaults, constants) for call, _, defaults in calls]
        except UNREADABLE as error:
            reading.problems.append(_unreadable(where, error))
            continue
        for (call, operator, _), arguments in zip(calls, given, strict=True):
            if arguments is None:
                reading.unread.append(f"{where}:{call.lineno}: arguments by **")
            else:
                source_job.read(reading, f"{where}:{call.lineno}", operator, arguments, capacity)
    return reading


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def _given(call: ast.Call, defaults: Mapping[str, Any], constants: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of a call by name; None where some are not written out."""
    if any(each.arg is None for each in call.keywords):
        return None
    return {**defaults, **{str(each.arg): python_values.value(each.value, constants) for each in call.keywords}}


def _unreadable(where: str, error: Exception) -> Problem:
    if isinstance(error, OSError):
        what = f"it cannot be read: {error.strerror or error}"
        return Problem(f"{where}:1", "dag-import", what, "Correct the file, or remove it")
    if isinstance(error, (RecursionError, MemoryError)):
        return Problem(f"{where}:1", "dag-import", "its expressions are too deep to be read", "Write them flatter")
    line = getattr(error, "lineno", None) or 1
    return Problem(f"{where}:{line}", "dag-import", f"it is not Python: {error}", "Correct the file")


def files(dags: Path) -> list[Path]:
    """The Python files of a folder and the folders in it, save what its `.airflowignore` names."""
    ignore = dags / ".airflowignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    found = (path for path in sorted(dags.rglob("*.py")) if not path.is_dir())
    return [path for path in found if not any(_ignored(path.relative_to(dags), each) for each in patterns)]


def place(dags: Path, file: Path, line: int | None = None) -> str:
    """A DAG file as messages name it."""
    return f"{dags.name}/{file.relative_to(dags).as_posix()}" + (f":{line}" if line else "")


def _ignored(path: Path, pattern: str) -> bool:
    """Whether a pattern of `.airflowignore` (its glob syntax, without negation) names the file or a folder above it."""
    names = [path, *path.parents][:-1]
    plain = pattern.strip("/")
    if "/" in pattern.rstrip("/"):
        return any(fnmatch(each.as_posix(), plain) for each in names)
    return any(fnmatch(each.name, plain) for each in names)


def lines(dags: Path) -> dict[tuple[str, str], int]:
    """Where each task stands: line by DAG file, as messages name it, and task_id."""
    found: dict[tuple[str, str], int] = {}
    for file in files(dags):
        try:
            tree = _parsed(file)
        except UNREADABLE:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                for each in node.keywords:
                    if each.arg == "task_id" and isinstance(each.value, ast.Constant):
                        found.setdefault((place(dags, file), str(each.value.value)), node.lineno)
    return found


def _calls(tree: ast.Module, constants: Mapping[str, Any]) -> Iterator[Call]:
    """Every call of an operator, under its real name, with the default arguments of the DAG around it."""
    names = _imported(tree)
    whole = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and called(each.func) in ("DAG", "dag")]
    outside = _defaults(whole[0], constants) if len(whole) == 1 else {}

    def visit(node: ast.AST, defaults: dict[str, Any]) -> Iterator[Call]:
        around = []
        if isinstance(node, ast.With):
            around = [item.context_expr for item in node.items]
        elif isinstance(node, ast.FunctionDef):
            around = node.decorator_list
        for each in around:
            if isinstance(each, ast.Call) and called(each.func) in ("DAG", "dag"):
                defaults = _defaults(each, constants)
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute) and function.attr == "partial":
                function = function.value  # Operator.partial(…).expand(…)
            operator = names.get(called(function), "")
            if operator:
                yield node, operator, defaults
        for child in ast.iter_child_nodes(node):
            yield from visit(child, defaults)

    yield from visit(tree, outside)


def _imported(tree: ast.Module) -> dict[str, str]:
    """Operators by the name that the file calls them: those known here, and whatever else tidepool has."""
    known = {*KINDS, STOCK_OPERATOR}
    names = {name: name for name in known}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            ours = (node.module or "").partition(".")[0] == "tidepool"
            names |= {
                each.asname or each.name: each.name
                for each in node.names
                if each.name in known or (ours and each.name.endswith("Operator"))
            }
    return names


def _defaults(dag: ast.Call, constants: Mapping[str, Any]) -> dict[str, Any]:
    for each in dag.keywords:
        if each.arg == "default_args":
            value = python_values.value(each.value, constants)
            return dict(value) if isinstance(value, dict) else dict.fromkeys(JOB_FIELDS, UNKNOWN)
    return {}
