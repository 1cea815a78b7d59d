"""The policy pack as the Pulumi engine uses it: in its own environment, over gRPC. The rules: test_policy."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra.local import paths, toolchain
from infra.policy import rules
from tests.infra import recorded
from tests.infra.policy_cases import BAD, GOOD

PACK = Path(__file__).resolve().parents[2] / "infra" / "policy" / "pack"
ENGINE = Path(__file__).with_name("policy_engine.py")
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How the engine spells text that has no value yet."""


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of the pack's environment, which is made once for each version of its requirements."""
    requirements = PACK / "requirements.txt"
    home = paths.cache() / f"policy-pack-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:10]}"
    found = home / "bin" / "python"
    if not (home / ".complete").exists():
        uv = toolchain.uv()
        subprocess.run([uv, "venv", "--quiet", "--clear", str(home)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(found), "-r", str(requirements)], check=True)
        (home / ".complete").touch()
    return found


def ask(python: Path, resources: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What the pack answers about resources."""
    done = subprocess.run(
        [str(python), str(ENGINE), str(PACK)], input=json.dumps(resources), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, list[Any]] = json.loads(done.stdout)
    return answer


def one(kind: str, name: str, inputs: Any, protect: bool = True) -> dict[str, Any]:
    return {"type": kind, "name": name, "inputs": inputs, "protect": protect, "id": f"{name}-id"}


def test_the_pack_reports_what_the_rules_find_and_nothing_else(python: Path) -> None:
    good = [one(kind, f"good-{number}", inputs) for number, (kind, inputs) in enumerate(GOOD.items())]
    bad = [one(kind, f"bad-{number}", GOOD[kind] | change) for number, (_, kind, change, _) in enumerate(BAD)]
    answer = ask(python, good + bad)
    assert answer["policies"] == [rule.name for rule in (*rules.RULES, *rules.STACK_RULES)]
    stack_rules = {rule.name for rule in rules.STACK_RULES}
    found = {(policy, name) for policy, name, _ in answer["violations"] if policy not in stack_rules}
    assert found == {(rule, f"bad-{number}") for number, (rule, *_) in enumerate(BAD)}
    for number, (rule, _, _, says) in enumerate(BAD):
        assert any(
            says in text for policy, name, text in answer["violations"] if (policy, name) == (rule, f"bad-{number}")
        )


def test_resources_that_are_wrong_side_by_side_are_reported_with_their_urn(python: Path) -> None:
    answer = ask(python, [one("aws:ec2/vpc:Vpc", "lonely", {"tags": GOOD["aws:ec2/subnet:Subnet"]["tags"]})])
    assert {(policy, name) for policy, name, _ in answer["violations"]} == {("network", "lonely")}


def spelled(value: Any) -> Any:
    """Inputs as the engine sends them: unknown ones as their sentinel."""
    if isinstance(value, pulumi.output.Unknown):
        return UNKNOWN
    if isinstance(value, dict):
        return {key: spelled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [spelled(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


@pytest.mark.parametrize("preview", [False, True], ids=["deployment", "preview"])
def test_production_passes_the_pack(python: Path, preview: bool) -> None:
    resources = [
        {
            **one(each.typ, each.name, spelled(each.inputs), each.protect),
            "id": UNKNOWN if preview else f"{each.name}-id",
        }
        for each in recorded.record("prod", preview=preview)
    ]
    assert ask(python, resources)["violations"] == []


def test_the_pack_has_an_environment_of_its_own() -> None:
    options = yaml.safe_load((PACK / "PulumiPolicy.yaml").read_text())["runtime"]["options"]
    assert options["toolchain"] == "pip", "else Pulumi takes the environment of the nearest uv.lock, the program's"
    home = (PACK / options["virtualenv"]).resolve()
    assert home.parent == paths.REPOSITORY, "else tests that look at infra/ look at it too"
    assert f"{home.name}/" in (paths.REPOSITORY / ".gitignore").read_text().splitlines()
