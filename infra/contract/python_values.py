"""What a Python expression is, as far as its text tells: literals, names for them, and Kubernetes' client objects.

Nothing of the file runs. What only a run would tell, and what could not even be built, is UNKNOWN.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any


class _Unknown:
    """A value that only running the file would tell."""

    def __repr__(self) -> str:
        return "?"


UNKNOWN = _Unknown()


def constants(tree: ast.Module) -> dict[str, Any]:
    """Module-level names that are given one literal, once."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                found[target.id] = UNKNOWN if target.id in found else value(node.value, found)
    return found


def value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What an expression is; Kubernetes' client objects become plain manifests. names: what names stand for."""
    try:
        return _value(node, names)
    except (TypeError, ValueError, OverflowError):  # running the file would raise it too, and say more
        return UNKNOWN


def has_unknown(found: Any) -> bool:
    """Whether a value, or any part of it, is not known."""
    if isinstance(found, dict):
        return any(has_unknown(each) for each in found.values())
    if isinstance(found, list):
        return any(has_unknown(each) for each in found)
    return found is UNKNOWN


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Name(id=name):
            return names.get(name, UNKNOWN)
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [value(item, names) for item in items]
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            if any(key is None for key in keys):
                return UNKNOWN
            read = [(value(key, names), value(each, names)) for key, each in pairs if key is not None]
            return UNKNOWN if any(has_unknown(key) for key, _ in read) else dict(read)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            number = value(operand, names)
            return -number if isinstance(number, (int, float)) else UNKNOWN
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            factors = value(left, names), value(right, names)
            if all(isinstance(each, (int, float)) for each in factors):
                return factors[0] * factors[1]
            return UNKNOWN
        case ast.Call(func=function, args=[], keywords=keywords) if all(each.arg for each in keywords):
            arguments = {str(each.arg): value(each.value, names) for each in keywords}
            return _built(called(function), arguments)
    return UNKNOWN


def called(function: ast.expr) -> str:
    """The last part of what is called: `k8s.V1Toleration` is V1Toleration."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _built(name: str, arguments: dict[str, Any]) -> Any:
    if name == "timedelta" and not has_unknown(arguments):
        return timedelta(**arguments)
    if name == "dict":
        return arguments
    if re.fullmatch(r"V1[A-Z]\w*", name):
        return {_camel(key): each for key, each in arguments.items() if each is not None}
    return UNKNOWN


def _camel(name: str) -> str:
    """`match_expressions` as manifests spell it. Trailing underscores escape Python's own words."""
    first, *rest = name.strip("_").split("_")
    plain = first + "".join(part.capitalize() for part in rest)
    return {"hostIpc": "hostIPC", "hostPid": "hostPID"}.get(plain, plain)
