"""What the documents say is so: commands, paths, DAGs, defaults, sizes and messages that they show."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import os
import re
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

# Airflow reads these when it is first imported, and then makes its home.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="tidepool-tests-airflow-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

from airflow.dag_processing.dagbag import DagBag

from infra import capacity_document, settings, versions
from infra.cli import main
from infra.cloud import Cloud
from infra.settings.model import AwsCloud
from tidepool import JobPodOperator, SparkPodOperator, capacity, sizing
from tidepool.job import MIB, Job
from tidepool.outcome import Cause

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "dags" / "README.md"
TRACKED = subprocess.check_output(["git", "ls-files", "-z", "*.md"], cwd=ROOT, text=True)
DOCUMENTS = [ROOT / name for name in sorted(TRACKED.split("\0")) if name]
WITH_DAGS = [ROOT / "README.md", GUIDE]

BLOCK = re.compile(r"(?:^`(?P<file>[\w/.-]+)`:\n\n)?^```\w*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)\)")
APP: Any = typer.main.get_command(main.app)
COMMAND = re.compile(rf"\./tidepool ([a-z].*)|(?<![\w/.-])tidepool ((?:{'|'.join(APP.commands)})\b.*)")
TOP = "infra|dags|stacks|images|tests"
PATH = re.compile(rf"(?:{TOP}|\.ci|\.github)/[\w./-]*|[A-Z]+\.md|[\w-]+\.(?:toml|lock|yaml)")

by_file = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
with_dags = pytest.mark.parametrize("document", WITH_DAGS, ids=lambda path: str(path.relative_to(ROOT)))


def commands(text: str) -> Iterator[list[str]]:
    """Every tidepool command line of a document: of its shell blocks and of its code in sentences."""
    lines = [line for block in BLOCK.finditer(text) for line in block["body"].splitlines()]
    for line in lines + CODE.findall(BLOCK.sub("", text)):
        if found := COMMAND.search(line):
            yield re.split(r"\s+#|[)\"]", found[1] or found[2])[0].split()


def unknown(words: list[str]) -> list[str]:
    """What of a command line the command has not: verbs and options. `up | run` is a list of verbs."""
    command = APP
    while words and (verbs := getattr(command, "commands", None)):
        if words[0].startswith("-") and command.invoke_without_command:
            break
        several = words[1:2] == ["|"]
        listed = [word for word in words if word != "|"] if several else words[:1]
        if missing := [verb for verb in listed if verb not in verbs]:
            return missing
        command, words = verbs[words[0]], [] if several else words[1:]
    if command.context_settings.get("ignore_unknown_options"):
        return []  # they are another program's
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    own = words[: words.index("--")] if "--" in words else words
    return [word for word in own if word.startswith("-") and word not in options]


def files(document: Path, folder: Path) -> list[Path]:
    """The files whose content a document shows, written below `folder`."""
    written = []
    for block in BLOCK.finditer(document.read_text(encoding="utf-8")):
        if block["file"]:
            path = folder / block["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block["body"], encoding="utf-8")
            written.append(path)
    return written


def rows(heading: str, document: Path = GUIDE) -> list[list[str]]:
    """The rows of all tables below a heading of the document, without their titles."""
    section = re.split(r"^#+ ", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (body,) = [each for each in section if each.startswith(f"{heading}\n")]
    lines = [line for line in body.splitlines() if line.startswith("|")]
    kept = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if "|---" not in line + after]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in kept]


def keywords(cell: str) -> dict[str, Any]:
    """`memory="3Gi"` of a table as arguments; no code means none."""
    call = ast.parse(f"f({''.join(CODE.findall(cell))})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> capacity.Capacity:
    """The capacity document of the local environment, where the library finds it."""
    stack = settings.load(ROOT / "stacks" / "Pulumi.local.yaml")
    document = capacity_document.build(stack, stack.lake.uri, stack.images.references)
    path = tmp_path / "capacity.json"
    path.write_text(capacity.dumps(document), encoding="utf-8")
    monkeypatch.setenv("TIDEPOOL_CAPACITY", str(path))
    return document


@by_file
def test_every_command_that_a_document_shows_exists(document: Path) -> None:
    shown = list(commands(document.read_text(encoding="utf-8")))
    assert {" ".join(words): missing for words in shown if (missing := unknown(words))} == {}


def test_a_command_that_does_not_exist_is_found() -> None:
    assert unknown(["explode"]) == ["explode"]
    assert unknown(["local", "up", "--fast"]) == ["--fast"]
    assert unknown(["local", "up", "|", "stop"]) == ["stop"]
    assert unknown(["test", "--fast", "--", "-k", "dag_files"]) == []
    assert unknown(["hdfs", "dfs", "-ls", "/lake"]) == []
    assert unknown(["hdfs", "formats"]) == ["formats"]
    assert list(commands("`./tidepool explode`, and `kubectl -n tidepool get pods`")) == [["explode"]]


def test_every_command_is_in_the_readme() -> None:
    verbs = [verb for verb in APP.commands if verb != "local"]
    verbs += [f"local {verb}" for verb in APP.commands["local"].commands]
    listed = {row[0] for row in rows("Commands", ROOT / "README.md")}
    assert {verb for verb in verbs if not any(f"./tidepool {verb}" in cell for cell in listed)} == set()


@by_file
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    to_be_written = {block["file"] for block in BLOCK.finditer(text) if block["file"]}
    named = {code for code in CODE.findall(BLOCK.sub("", text)) if PATH.fullmatch(code)} - to_be_written
    assert {path for path in named if not (ROOT / path).exists()} == set()
    links = {link for link in LINK.findall(text) if "://" not in link}
    assert {link for link in links if not (document.parent / link).exists()} == set()


@by_file
def test_every_shell_block_is_bash_and_every_policy_in_it_is_json(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for block in re.findall(r"^ *```sh\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL):
        script = textwrap.dedent(block)
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert checked.stderr == "", script
        for body in re.findall(r"<<JSON\n(.*?)^JSON$", script, flags=re.MULTILINE | re.DOTALL):
            assert json.loads(body)["Version"] == "2012-10-17"


def test_the_commands_for_an_environment_speak_of_the_version_that_the_stack_files_have() -> None:
    text = (ROOT / "stacks" / "README.md").read_text(encoding="utf-8")
    minors = set(re.findall(r"/optimized-ami/(\d+\.\d+)/", text))
    assert minors == {".".join(versions.KUBERNETES.split(".")[:2])}
    releases = {cloud.machines.ami_release for name, cloud in on_aws().items() if name != "local"}
    assert set(re.findall(r"`(v20\d{6})` \|", text)) == releases


def test_every_placeholder_of_the_stack_files_is_in_the_table_of_what_to_put_there() -> None:
    text = (ROOT / "stacks" / "README.md").read_text(encoding="utf-8")
    (table,) = [each for each in re.split(r"^### ", text, flags=re.MULTILINE) if each.startswith("3. The stack file")]
    invented = r"123456789012|203\.0\.113\.0/24|[\w-]+@example\.com"  # what is nobody's
    for name in on_aws():
        found = set(re.findall(invented, (ROOT / "stacks" / f"Pulumi.{name}.yaml").read_text(encoding="utf-8")))
        assert found == {each for each in found if each in table}


def test_the_table_of_what_a_cloud_provides_has_every_field_of_the_interface() -> None:
    text = (ROOT / "DECISIONS.md").read_text(encoding="utf-8")
    (decision,) = [each for each in re.split(r"^## ", text, flags=re.MULTILINE) if "| field | on GKE |" in each]
    listed = [CODE.findall(line.split("|")[1]) for line in decision.splitlines() if line.startswith("| `")]
    assert sorted(name for row in listed for name in row) == sorted(each.name for each in dataclasses.fields(Cloud))


def on_aws() -> dict[str, AwsCloud]:
    """The AWS side of the stack files, by environment."""
    loaded = (settings.load(file) for file in (ROOT / "stacks").glob("Pulumi.*.yaml"))
    return {each.environment: each.cloud for each in loaded if isinstance(each.cloud, AwsCloud)}


@with_dags
@pytest.mark.usefixtures("local")
def test_the_first_dag_is_ten_lines_at_most_and_airflow_takes_it(document: Path, tmp_path: Path) -> None:
    dag, job = files(document, tmp_path)
    assert len(dag.read_text().splitlines()) <= 10
    bag = DagBag(dag)
    assert bag.import_errors == {}
    ((name, found),) = bag.dags.items()
    assert f"./tidepool local run {name}" in document.read_text(encoding="utf-8")
    (task,) = found.tasks
    assert isinstance(task, SparkPodOperator)
    assert task.arguments[-1] == f"/opt/tidepool/jobs/{job.name}"


@with_dags
def test_the_first_job_is_python_that_reads_what_the_lake_has(document: Path, tmp_path: Path) -> None:
    _, job = files(document, tmp_path)
    source = job.read_text()
    compile(source, str(job), "exec")
    assert "/raw/nycflights13/flights.csv" in source
    _, written = source.split(".write.")
    assert "{lake()}/" in written
    assert "{lake()}/raw/" not in written, "jobs may only read there"


@pytest.mark.parametrize("operator", [SparkPodOperator, JobPodOperator])
def test_the_guide_lists_each_operators_own_arguments_with_their_defaults(operator: type) -> None:
    parameters = inspect.signature(operator.__init__).parameters.values()
    own = {each.name: each for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    listed = {row[0].strip("`"): row[1].strip("`") for row in rows(operator.__name__)}
    further = {name for name in listed if name not in own}
    assert own.keys() <= listed.keys()
    for name, parameter in own.items():
        required = parameter.default is inspect.Parameter.empty
        assert listed[name] == ("required" if required else default(parameter.default)), name
    assert operator is JobPodOperator or not further


@pytest.mark.usefixtures("local")
def test_the_guides_defaults_of_the_stock_operators_arguments_are_those_of_a_job() -> None:
    task = SparkPodOperator(task_id="load", application="load.py")
    own = inspect.signature(JobPodOperator.__init__).parameters
    stock = {row[0].strip("`"): row[1] for row in rows("JobPodOperator") if row[0].strip("`") not in own}
    assert len(stock) == 7
    for name, words in stock.items():
        value = getattr(task, name)
        assert f"local: {value}" in words if "local" in words else words.strip("`") == default(value), name


def default(value: Any) -> str:
    """A default as an author would write it."""
    value = getattr(value, "value", value)  # an enumeration's
    if isinstance(value, timedelta):
        return f"timedelta(seconds={value.seconds})"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def test_the_guides_sizes_are_what_sizing_makes_of_the_local_pools(local: capacity.Capacity) -> None:
    shown = rows("Size: an example")
    assert len(shown) == 4
    for asked, *figures in shown:
        placement = sizing.place(Job(task="load", **keywords(asked)), local)
        parts = sizing.spark_memory("load", placement.memory_bytes, placement.cores)
        assert figures == [
            str(placement.cores),
            f"{placement.cpu_millis}m",
            f"{placement.memory_bytes // MIB} MiB",
            *map(str, (parts.heap, parts.overhead, parts.python, parts.margin)),
        ]


def test_the_guide_names_every_cause_once() -> None:
    assert [row[0].strip("`") for row in rows("How an attempt can end")] == [cause.value for cause in Cause]


@pytest.mark.usefixtures("local")
def test_what_the_guide_says_is_refused_is_refused_in_these_words() -> None:
    refused = rows("What is refused when the file is parsed")
    assert len(refused) >= 5
    for asked, message in refused:
        arguments = {"application": "load.py"} | keywords(asked)
        with pytest.raises(ValueError, match=r"task 'load'") as raised:
            SparkPodOperator(task_id="load", **arguments)
        assert message.strip("`") in str(raised.value).replace("`", "")


def test_decisions_are_numbered_in_order_and_each_says_context_decision_and_cost() -> None:
    text = (ROOT / "DECISIONS.md").read_text(encoding="utf-8")
    decisions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    for number, decision in enumerate(decisions, start=1):
        assert re.match(rf"{number}\. .+ \(\d{{4}}-\d\d-\d\d\)\n", decision), decision.splitlines()[0]
        assert re.findall(r"^(\w+): ", decision, flags=re.MULTILINE) == ["Context", "Decision", "Cost"], decision
