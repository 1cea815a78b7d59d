"""The list of errors in dags/docs/errors.md is the library's: every message that it can raise, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidepool.outcome import Cause

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "dags" / "tidepool"
DOCUMENT = ROOT / "dags" / "docs" / "errors.md"

NOT_THE_AUTHORS = ("deadlines", "keeper", "ledger", "prices", "report", "simulator")
"""Packages whose errors are of commands and services, which tell what to do themselves."""

TOLD = {"JobError", "CapacityError", "JobFailed", "NotOursError", "PodLaunchFailedException"}
TOLD |= {"PodLaunchTimeoutException", "ValueError"}
"""Exceptions that an author of DAGs meets."""

NOT_TOLD = {"AttributeError", "HTTPError", "UnknownPodError", "MissingError", "OverBudgetError", "_OverAlready"}
NOT_TOLD |= {"SystemExit"}
"""Of Python's own kind, retried or told otherwise inside, or of commands: check, explain, bench."""

UNKNOWN = "…"


def message(node: ast.AST, functions: dict[str, ast.FunctionDef]) -> list[str]:
    """The texts that an expression may be, with `…` for what only a run knows."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else UNKNOWN for part in values)]
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return [a + b for a in message(left, functions) for b in message(right, functions)]
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.GeneratorExp(elt=each)]):
            return message(each, functions)
        case ast.Call(func=ast.Name(id=name)) if name in functions:
            returned = [each for each in ast.walk(functions[name]) if isinstance(each, ast.Return) and each.value]
            return [text for each in returned if each.value for text in message(each.value, functions)]
    return [UNKNOWN]


def plain(text: str) -> str:
    """Without the task's name, which is in front of most, and on one line."""
    text = re.sub(r"^task …(:| )", "", re.sub(r"\s+", " ", text.replace("\n", " ")))
    return re.sub(f"{UNKNOWN}( ?{UNKNOWN})+", UNKNOWN, text).strip()


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def messages_of(source: str) -> Iterator[str]:
    """Every message of a module's errors: what it raises, what it collects to raise at once, and how attempts end."""
    tree = ast.parse(source)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        found: list[ast.expr] = []
        match node:
            case ast.Raise(exc=ast.Call() as call) if name_of(call) in TOLD - {"JobFailed"}:
                found = call.args[:1]
            case ast.Call(func=ast.Name(id="Outcome"), args=[_, told]):
                found = [told]
            case ast.Call(func=ast.Attribute(value=ast.Name(id="problems"), attr="append"), args=[told]):
                found = [told]
            case ast.AugAssign(target=ast.Name(id="problems"), value=ast.ListComp(elt=told)):
                found = [told]
        for each in found:
            yield from (plain(text) for text in message(each, functions))


def modules() -> list[Path]:
    found = [path for path in LIBRARY.rglob("*.py") if path.relative_to(LIBRARY).parts[0] not in NOT_THE_AUTHORS]
    return sorted(path for path in found if path.name != "outcome.py")  # its ends are listed by cause


def raised() -> set[str]:
    texts = {text for path in modules() for text in messages_of(path.read_text(encoding="utf-8"))}
    return {text for text in texts if re.search(r"\w\w", text.replace(UNKNOWN, ""))}


def listed() -> list[tuple[str, str]]:
    """Message and remedy of each row."""
    rows = re.findall(r"^\| (`+) ?(.+?) ?\1 \| (.+) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return [(text.strip(), remedy) for _, text, remedy in rows]


def test_every_error_of_the_library_is_listed() -> None:
    assert sorted(raised() - {text for text, _ in listed()}) == []


def test_nothing_is_listed_that_the_library_does_not_say() -> None:
    assert sorted({text for text, _ in listed()} - raised() - {str(cause) for cause in Cause}) == []


def test_every_cause_of_an_attempts_end_is_listed_but_the_good_one() -> None:
    assert {str(cause) for cause in Cause} - {text for text, _ in listed()} == {str(Cause.OK)}


def test_no_message_is_listed_twice_and_each_has_a_remedy() -> None:
    texts = [text for text, _ in listed()]
    assert sorted(texts) == sorted(set(texts))
    assert [text for text, remedy in listed() if len(remedy) < 10] == []


def test_no_kind_of_error_is_forgotten() -> None:
    kinds = {
        name_of(node.exc)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    }
    assert kinds - TOLD - NOT_TOLD - {"_failed"} == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('raise JobError(f"task {task!r}: no {thing} here")', ["no … here"]),
        ('raise JobError(f"task {task!r}: " + "; ".join(problems))', []),
        ('raise JobError("a " + "; ".join(f"b {each}" for each in c) + ". d")', ["a b …. d"]),
        ('def _why():\n    return f"c {d}"\nraise CapacityError(_why())', ["c …"]),
        ('problems.append(f"{path}: must be an object")', ["…: must be an object"]),
        ('problems += [f"{key}: unknown" for key in body]', ["…: unknown"]),
        ('raise self._failed(Outcome(Cause.CANCELLED, "stopped"))', ["stopped"]),
        ('raise KeyError("x")', []),
    ],
)
def test_messages_are_found_however_they_are_put_together(source: str, found: list[str]) -> None:
    assert [text for text in messages_of(source) if text != UNKNOWN] == found
