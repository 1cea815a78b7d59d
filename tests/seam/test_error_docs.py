"""The list of errors in dags/docs/errors.md is the library's: every message that it can raise, and no other."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
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


WORDLESS = {
    ("capacity.py", r"f'{where}:\n' + '\n'.join((f'  {problem}' for problem in problems))"): "each problem is listed",
    ("job.py", "f'task {self.task!r}: ' + '; '.join(problems)"): "each problem is listed",
    ("arguments.py", "f'task {task!r}: ' + '; '.join(problems)"): "each problem is listed",
    ("problems.py", "self._found[0]"): "each problem is listed",
    (
        "problems.py",
        "f'{self._task}: ' + '; '.join([*(words.removesuffix('.') for words in others), last])",
    ): "each problem is listed",
    ("ending.py", "f'{clock}; {found.message}'"): "the clock's message is listed, and the end by its cause",
    ("conclusion.py", "str(error)"): "the result's ValueError is listed",
    ("launch.py", "end.message"): "the machine's own words: listed by the cause, unschedulable",
    ("launch.py", "why"): "the kubelet's own words: listed by the cause, image_pull",
}
"""Messages that are somebody else's words, by module and expression: where those are listed."""


@dataclass(frozen=True)
class Scope:
    """What names stand for: functions of the module, variables, and constants of other modules (`ending.STOPPED`)."""

    functions: Mapping[str, ast.FunctionDef]
    variables: Mapping[str, list[ast.expr]]
    constants: Mapping[tuple[str, str], ast.expr]

    def without(self, name: str) -> Scope:
        """The same without one variable, which may be put together from itself."""
        return replace(self, variables={key: each for key, each in self.variables.items() if key != name})


def assigned(body: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    """What variables are set to, by name, anywhere in the nodes."""
    found: dict[str, list[ast.expr]] = {}
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.NamedExpr(ast.Name(id=name), value):
                found.setdefault(name, []).append(value)
    return found


@functools.cache
def constants() -> dict[tuple[str, str], ast.expr]:
    """Module-level texts of the whole library, by module and name."""
    return {
        (path.stem, name): values[0]
        for path in modules()
        for name, values in assigned(ast.parse(path.read_text(encoding="utf-8")).body).items()
    }


def message(node: ast.AST, scope: Scope) -> list[str]:
    """The texts that an expression may be, with `…` for what only a run knows."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else UNKNOWN for part in values)]
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return [a + b for a in message(left, scope) for b in message(right, scope)]
        case ast.IfExp(body=body, orelse=orelse):
            return [text for each in (body, orelse) for text in message(each, scope)]
        case ast.Name(id=name) if name in scope.variables:
            return [text for each in scope.variables[name] for text in message(each, scope.without(name))]
        case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in scope.constants:
            return message(scope.constants[module, name], scope)
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.GeneratorExp(elt=each)]):
            return message(each, scope)
        case ast.Call(func=ast.Name(id=name)) if name in scope.functions:
            function = scope.functions[name]
            returned = [each for each in ast.walk(function) if isinstance(each, ast.Return) and each.value]
            return [text for each in returned if each.value for text in message(each.value, scope)]
    return [UNKNOWN]


def plain(text: str) -> str:
    """Without the task's name, which is in front of most, and on one line."""
    text = re.sub(r"^task …(:| )", "", re.sub(r"\s+", " ", text.replace("\n", " ")))
    return re.sub(f"{UNKNOWN}( ?{UNKNOWN})+", UNKNOWN, text).strip()


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def told(source: str) -> Iterator[tuple[ast.expr, list[str]]]:
    """Every message of a module's errors: what it raises, what it collects to raise at once, and how attempts end.

    Each as it stands there, and the texts that it may be.
    """
    tree = ast.parse(source)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    outside = assigned(tree.body)
    inner = {id(node): function for function in functions.values() for node in ast.walk(function)}
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
        if not found:
            continue
        function = inner.get(id(node))
        scope = Scope(functions, {**outside, **(assigned(ast.walk(function)) if function else {})}, constants())
        for each in found:
            yield each, [plain(text) for text in message(each, scope)]


def messages_of(source: str) -> Iterator[str]:
    for _, texts in told(source):
        yield from texts


def has_words(text: str) -> bool:
    return re.search(r"\w\w", text.replace(UNKNOWN, "")) is not None


def modules() -> list[Path]:
    found = [path for path in LIBRARY.rglob("*.py") if path.relative_to(LIBRARY).parts[0] not in NOT_THE_AUTHORS]
    return sorted(path for path in found if path.name != "outcome.py")  # its ends are listed by cause


def raised() -> set[str]:
    texts = {text for path in modules() for text in messages_of(path.read_text(encoding="utf-8"))}
    return {text for text in texts if has_words(text)}


def wordless() -> set[tuple[str, str]]:
    """Messages of which nothing is known but that they are some: by module and expression."""
    return {
        (path.name, ast.unparse(each))
        for path in modules()
        for each, texts in told(path.read_text(encoding="utf-8"))
        if not all(map(has_words, texts))
    }


def listed() -> list[tuple[str, str]]:
    """Message and remedy of each row."""
    rows = re.findall(r"^\| (`+) ?(.+?) ?\1 \| (.+) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return [(text.strip(), remedy) for _, text, remedy in rows]


def test_every_error_of_the_library_is_listed() -> None:
    assert sorted(raised() - {text for text, _ in listed()}) == []


def test_no_message_hides_in_a_variable() -> None:
    assert sorted(wordless() - set(WORDLESS)) == [], "say the words where they are raised, or list where they are from"
    assert sorted(set(WORDLESS) - wordless()) == [], "no longer there"


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
    assert kinds - TOLD - NOT_TOLD - {"failed"} == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('raise JobError(f"task {task!r}: no {thing} here")', ["no … here"]),
        ('raise JobError(f"task {task!r}: " + "; ".join(problems))', []),
        ('raise JobError("a " + "; ".join(f"b {each}" for each in c) + ". d")', ["a b …. d"]),
        ('def _why():\n    return f"c {d}"\nraise CapacityError(_why())', ["c …"]),
        ('problems.append(f"{path}: must be an object")', ["…: must be an object"]),
        ('problems += [f"{key}: unknown" for key in body]', ["…: unknown"]),
        ('raise self.failed(Outcome(Cause.CANCELLED, "stopped"))', ["stopped"]),
        ('raise KeyError("x")', []),
        ('WHY = "stopped"\nraise JobError(WHY)', ["stopped"]),
        ('def f():\n    words = f"a {b}"\n    raise JobError(words + (" c" if d else ""))', ["a … c", "a …"]),
        ("Outcome(Cause.CANCELLED, ending.STOPPED)", ["the task was stopped: it was cleared or marked"]),
        ('def f():\n    if why := f"a {b}":\n        raise JobError(why)', ["a …"]),
        ("raise JobError(why)", []),
    ],
)
def test_messages_are_found_however_they_are_put_together(source: str, found: list[str]) -> None:
    assert [text for text in messages_of(source) if text != UNKNOWN] == found
