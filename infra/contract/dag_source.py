"""The jobs of the DAG files as pods, read from their source: nothing of a DAG file runs, and no Airflow is needed.

What stands there as a literal (or as a name for one) is known; the rest isn't, and a job whose pod hangs on it is
listed as unread. `tidepool check` reads the real pods besides (infra/cli/check.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from infra.contract.problem import Problem
from infra.contract.template import Reading, Template
from tidepool import pod as pods
from tidepool import sizing
from tidepool.capacity import Capacity
from tidepool.job import Job, JobError

JOB_OPERATORS = {"JobPodOperator": "", "SparkPodOperator": "spark"}
"""tidepool's own operators, each with the name of the image that it takes where none is given; empty: one must be."""

STOCK_OPERATOR = "KubernetesPodOperator"
STOCK_TIMEOUT_SECONDS = 120
"""How long KubernetesPodOperator waits for a machine unless told otherwise (provider 10.25.0)."""

JOB_FIELDS = tuple(each.name for each in fields(Job) if each.name != "task")


class _Unknown:
    """A value that only running the file would tell."""


UNKNOWN = _Unknown()


def read(dags: Path, capacity: Capacity) -> Reading:
    """The jobs of all DAG files of a folder, with the pools of a capacity document."""
    reading = Reading()
    for file in files(dags):
        where = place(dags, file)
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        except (SyntaxError, UnicodeDecodeError) as error:
            line = getattr(error, "lineno", None) or 1
            reading.problems.append(
                Problem(f"{where}:{line}", "dag-import", f"it is not Python: {error}", "Correct the file")
            )
            continue
        constants = _constants(tree)
        for call, operator, defaults in _calls(tree, constants):
            given = defaults | {str(each.arg): _value(each.value, constants) for each in call.keywords if each.arg}
            if any(each.arg is None for each in call.keywords):
                reading.unread.append(f"{where}:{call.lineno}: arguments by **")
            else:
                _read(reading, f"{where}:{call.lineno}", operator, given, capacity)
    return reading


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
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                for each in node.keywords:
                    if each.arg == "task_id" and isinstance(each.value, ast.Constant):
                        found.setdefault((place(dags, file), str(each.value.value)), node.lineno)
    return found


def _read(reading: Reading, where: str, operator: str, given: dict[str, Any], capacity: Capacity) -> None:
    task = str(given.get("task_id", "?"))
    if operator not in JOB_OPERATORS and operator != STOCK_OPERATOR:
        reading.unread.append(f"{where}: task {task!r}: what {operator} launches is not known before the file runs")
        return
    unknown = sorted(name for name, value in given.items() if name in _DECISIVE and _has_unknown(value))
    if unknown:
        reading.unread.append(f"{where}: task {task!r}: {', '.join(unknown)} not known before the file runs")
        return
    own = operator != STOCK_OPERATOR
    try:
        pod = _job_pod(operator, task, given, capacity) if own else _bare_pod(given)
    except JobError as error:
        reading.problems.append(Problem(where, "job", str(error).rstrip("."), "Ask for what the stack's pools have"))
        return
    _lay_over(pod, given)
    wait = given.get("schedule_timeout_seconds")
    if wait is None:
        wait = capacity.schedule_timeout_seconds if own else given.get("startup_timeout_seconds", STOCK_TIMEOUT_SECONDS)
    limit = given.get("execution_timeout")
    reading.templates.append(
        Template(
            where=where,
            subject=f"task {task!r}",
            pod=pod,
            schedule_timeout_seconds=wait if isinstance(wait, int) else None,
            execution_timeout_seconds=limit.total_seconds() if isinstance(limit, timedelta) else None,
        )
    )


_DECISIVE = {
    *JOB_FIELDS,
    "affinity",
    "container_resources",
    "container_security_context",
    "full_pod_spec",
    "hostnetwork",
    "image",
    "init_containers",
    "namespace",
    "node_selector",
    "pod_template_dict",
    "pod_template_file",
    "priority_class_name",
    "security_context",
    "service_account_name",
    "tolerations",
    "volumes",
}
"""Arguments without which nothing can be said of the pod."""


def _job_pod(operator: str, task: str, given: Mapping[str, Any], capacity: Capacity) -> dict[str, Any]:
    asked = {name: given[name] for name in JOB_FIELDS if given.get(name) is not None}
    image = given.get("image") or JOB_OPERATORS[operator]
    if not image:
        raise JobError(f"task {task!r}: it has no image")
    placement = sizing.place(Job(task=task, **asked), capacity)
    return pods.manifest(placement, capacity.images.get(image, image), capacity)


def _bare_pod(given: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "base", "image": given.get("image")}]}
    if given.get("affinity"):
        spec["affinity"] = given["affinity"]
    if given.get("container_resources"):
        spec["containers"][0]["resources"] = given["container_resources"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default"}, "spec": spec}


def _lay_over(pod: dict[str, Any], given: Mapping[str, Any]) -> None:
    """What KubernetesPodOperator's own arguments make of the pod."""
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    for argument, target, key in (
        ("namespace", pod["metadata"], "namespace"),
        ("node_selector", spec, "nodeSelector"),
        ("service_account_name", spec, "serviceAccountName"),
        ("priority_class_name", spec, "priorityClassName"),
        ("hostnetwork", spec, "hostNetwork"),
        ("init_containers", spec, "initContainers"),
        ("security_context", spec, "securityContext"),
        ("container_security_context", container, "securityContext"),
    ):
        if given.get(argument):
            target[key] = given[argument]
    for argument, target, key in (("tolerations", spec, "tolerations"), ("volumes", spec, "volumes")):
        if given.get(argument):
            target[key] = [*(target.get(key) or []), *given[argument]]
    if given.get("annotations") and not _has_unknown(given["annotations"]):
        pod["metadata"]["annotations"] = (pod["metadata"].get("annotations") or {}) | given["annotations"]


def _calls(tree: ast.Module, constants: Mapping[str, Any]) -> Iterator[tuple[ast.Call, str, dict[str, Any]]]:
    """Every call of an operator, under its real name, with the default arguments of the DAG around it."""
    names = _imported(tree)
    whole = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and _name(each.func) in ("DAG", "dag")]
    outside = _defaults(whole[0], constants) if len(whole) == 1 else {}

    def visit(node: ast.AST, defaults: dict[str, Any]) -> Iterator[tuple[ast.Call, str, dict[str, Any]]]:
        around = []
        if isinstance(node, ast.With):
            around = [item.context_expr for item in node.items]
        elif isinstance(node, ast.FunctionDef):
            around = node.decorator_list
        for each in around:
            if isinstance(each, ast.Call) and _name(each.func) in ("DAG", "dag"):
                defaults = _defaults(each, constants)
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute) and function.attr == "partial":
                function = function.value  # Operator.partial(…).expand(…)
            operator = names.get(_name(function), "")
            if operator:
                yield node, operator, defaults
        for child in ast.iter_child_nodes(node):
            yield from visit(child, defaults)

    yield from visit(tree, outside)


def _imported(tree: ast.Module) -> dict[str, str]:
    """Operators by the name that the file calls them: those known here, and whatever else tidepool has."""
    known = {*JOB_OPERATORS, STOCK_OPERATOR}
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
            value = _value(each.value, constants)
            return dict(value) if isinstance(value, dict) else dict.fromkeys(JOB_FIELDS, UNKNOWN)
    return {}


def _name(function: ast.expr) -> str:
    """The last part of what is called: `k8s.V1Toleration` is V1Toleration."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Module-level names that are given one literal, once."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                found[target.id] = UNKNOWN if target.id in found else _value(node.value, found)
    return found


def _value(node: ast.expr, constants: Mapping[str, Any]) -> Any:
    """What an expression is, as far as the text tells; Kubernetes' client objects become plain manifests."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return constants.get(name, UNKNOWN)
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_value(item, constants) for item in items]
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            if any(key is None for key in keys):
                return UNKNOWN
            read = [(_value(key, constants), _value(value, constants)) for key, value in pairs if key is not None]
            return UNKNOWN if any(_has_unknown(key) for key, _ in read) else dict(read)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _value(operand, constants)
            return -value if isinstance(value, (int, float)) else UNKNOWN
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            factors = _value(left, constants), _value(right, constants)
            if all(isinstance(each, (int, float)) for each in factors):
                return factors[0] * factors[1]
            return UNKNOWN
        case ast.Call(func=function, args=[], keywords=keywords) if all(each.arg for each in keywords):
            arguments = {str(each.arg): _value(each.value, constants) for each in keywords}
            return _built(_name(function), arguments)
    return UNKNOWN


def _built(name: str, arguments: dict[str, Any]) -> Any:
    if name == "timedelta" and not _has_unknown(arguments):
        return timedelta(**arguments)
    if name == "dict":
        return arguments
    if re.fullmatch(r"V1[A-Z]\w*", name):
        return {_camel(key): value for key, value in arguments.items() if value is not None}
    return UNKNOWN


def _camel(name: str) -> str:
    """`match_expressions` as manifests spell it. Trailing underscores escape Python's own words."""
    first, *rest = name.strip("_").split("_")
    plain = first + "".join(part.capitalize() for part in rest)
    return {"hostIpc": "hostIPC", "hostPid": "hostPID"}.get(plain, plain)


def _has_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_unknown(each) for each in value.values())
    if isinstance(value, list):
        return any(_has_unknown(each) for each in value)
    return value is UNKNOWN
