"""Who may import whom (README, layout): every import statement of infra/ and dags/ against one table of rules."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tidepool

ROOT = Path(__file__).resolve().parents[2]

PURE = [
    "capacity",
    "quantity",
    "requests",
    "labels",
    "objects",
    "job",
    "sizing",
    "queues",
    "spark_conf",
    "spark_standalone",
    "pod",
    "outcome",
    "retries",
    "breaker",
    "ladder",
    "explain",
    "result",
    "cluster",
    "image",
    "dask_conf",
    "h2o_conf",
    "spark_cluster_conf",
    "spark_application",
    "history",
    "rightsize",
    "running",
    "overrides",
    "budget",
    "estimate",
]
"""Modules of the library that know neither Airflow nor Kubernetes, and that infra's contract may use."""

PURE_INFRA = (
    "naming versions autoscaler_flags capacity_document charts hdfs_names image_sources scheduling team_namespaces "
    "aws.allocatable aws.asg_tags aws.instance_types aws.launch_template aws.machines aws.subnets aws.user_data"
)


@dataclass(frozen=True)
class Rule:
    """Files that match `files` import nothing that `forbidden` names, save what `allowed` names; both are prefixes."""

    name: str
    files: tuple[str, ...]
    forbidden: tuple[str, ...]
    allowed: tuple[str, ...] = ()


COMPOSERS = ("infra.aws.cloud",)
"""Beside infra/__main__.py: they put components together, and are none."""

AWS_PROVIDERS = ("pulumi_aws", "pulumi_eks", "pulumi_docker_build")
CLOUDS = ("pulumi", "pulumi_kubernetes", "pulumi_random", *AWS_PROVIDERS)
PROGRAM = (
    "infra/*.py",
    *(f"infra/{part}/**/*.py" for part in ("aws", "existing", "services", "settings", "contract", "policy")),
)
"""All of infra but where it is run from."""

DAG_FILES = ("dags/*.py", "dags/examples/**/*.py")
LIBRARY = (*(f"tidepool.{name}" for name in PURE), "tidepool.prices")

RULES = [
    Rule("the library knows nothing of infra", ("dags/tidepool/**/*.py",), ("infra", *CLOUDS, "moto")),
    Rule("only the keeper's own module makes clients of AWS", ("dags/tidepool/**/[!a]*.py",), ("boto3", "botocore")),
    Rule(
        "only the keeper's own module makes clients of AWS",
        ("dags/tidepool/[!k]*/**/*.py", "dags/tidepool/*.py", "dags/tidepool/keeper/aws_*.py"),
        ("boto3", "botocore"),
    ),
    Rule(
        "only operators import Airflow",
        (
            "dags/tidepool/*.py",
            "dags/tidepool/deadlines/**/*.py",
            "dags/tidepool/simulator/**/*.py",
            "dags/tidepool/ledger/**/*.py",
            "dags/tidepool/keeper/**/*.py",
            "dags/tidepool/report/**/*.py",
        ),
        ("airflow", "tidepool.operators"),
    ),
    Rule(
        "the pure modules import no client",
        (
            *(f"dags/tidepool/{name}.py" for name in PURE),
            "dags/tidepool/prices/**/*.py",
            "dags/tidepool/deadlines/**/*.py",
            "dags/tidepool/simulator/**/*.py",
            "dags/tidepool/ledger/**/*.py",
            "dags/tidepool/report/**/*.py",
        ),
        ("kubernetes", "kubernetes_asyncio", "pyspark", "airflow"),
    ),
    Rule("the capacity document is standard library only", ("dags/tidepool/capacity.py",), ("tidepool",)),
    Rule(
        "the program imports only the pure modules of the library",
        PROGRAM,
        ("tidepool",),
        LIBRARY,
    ),
    Rule(
        "the local cloud and the command line also read the ledger",
        ("infra/local/**/*.py", "infra/cli/**/*.py"),
        ("tidepool",),
        (*LIBRARY, *(f"tidepool.{name}" for name in ["deadlines", "ledger", "report", "keeper", "simulator"])),
    ),
    Rule("infra imports no Airflow and no Spark", ("infra/**/*.py",), ("airflow", "pyspark")),
    Rule(
        "the program knows nothing of where it is run from",
        PROGRAM,
        ("infra.local", "infra.cli"),
    ),
    Rule(
        "clouds and services know nothing of each other",
        ("infra/aws/**/*.py", "infra/existing/**/*.py"),
        ("infra.services",),
    ),
    Rule("AWS knows nothing of clusters that were there before", ("infra/aws/**/*.py",), ("infra.existing",)),
    Rule(
        "services and clusters that were there before need only Kubernetes",
        ("infra/services/**/*.py", "infra/existing/**/*.py"),
        ("infra.aws", *AWS_PROVIDERS),
    ),
    Rule("services serve any cloud", ("infra/services/**/*.py",), ("infra.existing", "infra.clouds")),
    Rule(
        "settings know nothing of what is made of them",
        ("infra/settings/**/*.py",),
        ("infra.services", "infra.existing", "infra.cloud", "infra.clouds", "infra.contract", "infra.policy"),
    ),
    Rule("the policy stands alone", ("infra/policy/**/*.py",), ("infra", "tidepool"), ("infra.policy",)),
    Rule(
        "pure modules of infra import no cloud",
        (
            *(f"infra/{name.replace('.', '/')}.py" for name in PURE_INFRA.split()),
            "infra/contract/**/*.py",
            "infra/policy/**/*.py",
            "infra/settings/[a-z]*.py",  # all but __init__, which asks Pulumi for the configuration
        ),
        CLOUDS,
    ),
    Rule("jobs import PySpark only", ("dags/jobs/**/*.py",), ("airflow", "tidepool", "infra", "kubernetes")),
    Rule("DAG files use public names only", DAG_FILES, ("infra", "pyspark", "kubernetes")),
]


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, save what stands under `if TYPE_CHECKING:` and so is never run."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from statements(child)


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, also inside functions."""
    for node in statements(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import; write the whole name"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def is_in(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the modules, or in one of them."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def breaches(rule: Rule, root: Path) -> list[str]:
    """Every import that the rule forbids, as file:line: name."""
    return [
        f"{file.relative_to(root)}:{line}: {name}"
        for pattern in rule.files
        for file in sorted(root.glob(pattern))
        for line, name in imports(file)
        if is_in(name, rule.forbidden) and not is_in(name, rule.allowed)
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_boundary(rule: Rule) -> None:
    assert breaches(rule, ROOT) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_boundary_is_guarded(rule: Rule, tmp_path: Path) -> None:
    """A file that breaks the rule is found, however it imports."""
    file = tmp_path / rule.files[0].replace("**/*", "new").replace("*", "new")
    file.parent.mkdir(parents=True)
    module = rule.forbidden[0]
    file.write_text(f"def f():\n    from {module}.x.y import z\n    import {module}.w\n")
    assert [breach.rpartition(":")[0] for breach in breaches(rule, tmp_path)] == [
        f"{file.relative_to(tmp_path)}:2",
        f"{file.relative_to(tmp_path)}:3",
    ]


def test_every_module_at_the_top_of_the_library_is_among_the_pure_ones() -> None:
    assert {file.stem for file in (ROOT / "dags/tidepool").glob("*.py")} - {"__init__"} == set(PURE)


def test_dag_files_import_only_names_that_are_public() -> None:
    public = {f"tidepool.{name}" for name in tidepool.__all__}
    for file in (file for pattern in DAG_FILES for file in ROOT.glob(pattern)):
        used = {name for _, name in imports(file) if is_in(name, ("tidepool",))}
        assert used <= public, f"{file}: {used - public} is not public"


def test_components_never_import_each_other() -> None:
    """A component is a module under aws/ or services/ that creates resources; who composes them hands results on."""
    files = [*(ROOT / "infra/aws").rglob("*.py"), *(ROOT / "infra/services").rglob("*.py")]
    components = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in files
        if any(is_in(name, CLOUDS) for _, name in imports(file))
    }
    assert components > set(COMPOSERS)
    for component in components - set(COMPOSERS):
        file = ROOT / (component.replace(".", "/") + ".py")
        others = tuple(components - {component})
        assert [name for _, name in imports(file) if is_in(name, others)] == [], component


def test_only_settings_reads_the_stacks_configuration() -> None:
    readers = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "infra").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "Config" and ast.unparse(node.value) == "pulumi"
    }
    assert readers == {"infra/settings/__init__.py"}


@pytest.mark.parametrize("folder", ["infra", "dags"])
def test_no_module_is_named_like_one_of_the_standard_library_at_the_top(folder: str) -> None:
    tops = {path.stem for path in (ROOT / folder).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert not tops & sys.stdlib_module_names
