"""The tables of stacks/README.md against what settings reads: every key, and every default."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import settings
from infra.settings import stack_file

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "stacks" / "README.md"
CASES = ROOT / "tests" / "infra" / "cases" / "accepted"

EKS, EXISTING = "every-key", "every-key-existing"
SECTIONS = {
    "cluster, kind eks": (EKS, "cluster"),
    "cluster, kind existing": (EXISTING, "cluster"),
    "network": (EKS, "network"),
    "system": (EKS, "system"),
    "machines": (EKS, "machines"),
    "pools, kind eks": (EKS, "pools.on-demand"),
    "pools, kind existing": (EXISTING, "pools.batch"),
    "system_nodes": (EXISTING, "system_nodes"),
    "storage": (EKS, "storage"),
    "database": (EKS, "database"),
    "budget": (EKS, "budget"),
    "quotas": (EKS, "quotas"),
    "tenants": (EKS, "tenants.jobs"),
    "images": (EKS, "images"),
    "jobs": (EKS, "jobs"),
    "jobs.budgets": (EKS, "jobs.budgets.daily"),
    "lake": (EKS, "lake"),
    "airflow": (EKS, "airflow"),
    "airflow.dags": (EKS, "airflow.dags"),
    "hdfs": (EKS, "hdfs"),
    "monitoring": (EKS, "monitoring"),
    "keeper": (EKS, "keeper"),
    "keeper.airflow": (EKS, "keeper.airflow"),
}
"""Headings of the tables: a case with all keys of the section, and the section's place in it."""

by_section = pytest.mark.parametrize("heading", SECTIONS)


def table(heading: str) -> dict[str, str]:
    """The keys of the table below a heading, with what stands in their column `default`."""
    sections = re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (body,) = [each for each in sections if each.startswith(f"{heading}\n")]
    title, _, *lines = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("|")]
    column = [cell.strip() for cell in title].index("default")
    return {cells[0].strip().strip("`"): cells[column].strip() for cells in lines}


def outcome(config: Mapping[str, Any]) -> settings.Settings | list[str]:
    """What settings makes of a configuration: equal outcomes mean that nothing can tell the two apart."""
    try:
        return settings.parse(config, environment="dev", where="here")
    except settings.SettingsError as error:
        return error.problems


def place(config: dict[str, Any], path: str) -> dict[str, Any]:
    """The map at a path below `tidepool:`."""
    first, *rest = path.split(".")
    found = config[f"tidepool:{first}"]
    for part in rest:
        found = found[part]
    assert isinstance(found, dict)
    return found


def case(heading: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration with every key of the section, and the section in it."""
    name, path = SECTIONS[heading]
    config = copy.deepcopy(stack_file.read(CASES / f"{name}.yaml"))
    return config, place(config, path)


def test_every_section_has_its_table() -> None:
    headings = re.findall(r"^## (.+)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(SECTIONS) < set(headings)


def test_the_table_of_keys_has_every_key_with_its_default_and_kind() -> None:
    documented = table("Keys")
    assert set(documented) == set(settings.KEYS)
    for key, default in settings.OPTIONAL.items():
        # eks needs some that existing must not have, so that Pulumi may not ask for them.
        required = documented[key] == "" and f"tidepool:{key}" in settings.OF_KIND["eks"]
        assert required or yaml.safe_load(documented[key].strip("`")) == default, key
    assert [key for key in settings.REQUIRED if documented[key]] == []
    for kind, keys in settings.OF_KIND.items():
        for key in keys:
            name = key.removeprefix("tidepool:")
            assert key == "aws:region" or f"| `{name}` | {kind} |" in README.read_text(encoding="utf-8")


@by_section
def test_a_table_has_every_key_of_its_section_and_no_other(heading: str) -> None:
    config, section = case(heading)
    section["zzz"] = 1
    problems = outcome(config)
    assert isinstance(problems, list)
    (problem,) = [each for each in problems if "zzz" in each]
    assert set(table(heading)) == set(problem.rpartition("allowed: ")[2].split(", "))


@by_section
def test_a_key_without_default_is_required_and_the_others_have_the_default_that_is_documented(heading: str) -> None:
    for key, default in table(heading).items():
        if default and not re.fullmatch(r"`[^`]*`", default):
            continue  # words: it depends on other keys
        without, section = case(heading)
        section.pop(key, None)
        missing = outcome(without)
        if not default:
            assert isinstance(missing, list), key
            assert any(f".{key}: missing" in problem for problem in missing), (key, missing)
        else:
            given, section = case(heading)
            section[key] = yaml.safe_load(default.strip("`"))
            assert outcome(given) == missing, key
