from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra import settings
from infra.settings import stack_file

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(__file__).parent / "cases"
ACCEPTED = sorted((CASES / "accepted").glob("*.yaml"))
REJECTED = sorted((CASES / "rejected").glob("*.yaml"))


def as_stack_file(case: Path, folder: Path) -> Path:
    return Path(shutil.copy(case, folder / "Pulumi.dev.yaml"))


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.stem)
def test_a_right_stack_file_is_accepted(case: Path, tmp_path: Path) -> None:
    assert settings.load(as_stack_file(case, tmp_path)).environment == "dev"


@pytest.mark.parametrize("case", REJECTED, ids=lambda case: case.stem)
def test_a_wrong_stack_file_is_rejected_with_file_path_value_and_what_is_allowed(case: Path, tmp_path: Path) -> None:
    expected = [
        line.removeprefix("# expect: ") for line in case.read_text().splitlines() if line.startswith("# expect")
    ]
    assert expected, f"{case.name} does not say what it expects"
    with pytest.raises(settings.SettingsError) as caught:
        settings.load(as_stack_file(case, tmp_path))
    for part in [str(tmp_path / "Pulumi.dev.yaml"), *expected]:
        assert part in str(caught.value)


@pytest.mark.parametrize("stack", sorted((ROOT / "stacks").glob("Pulumi.*.yaml")), ids=lambda stack: stack.name)
def test_every_stack_of_this_repository_is_accepted(stack: Path) -> None:
    settings.load(stack)


def test_pulumi_declares_just_the_keys_that_settings_reads() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    assert set(project["config"]) == set(settings.KEYS)
    assert all(body["description"] for body in project["config"].values())
    assert [key for key, body in project["config"].items() if body["type"] != "object"] == ["owner"]


def test_the_stack_files_readme_explains_every_key() -> None:
    readme = (ROOT / "stacks" / "README.md").read_text()
    pool_keys = ("instance_types", "market", "min", "max", "priority", "jobs", "max_pods", "unneeded_time", "zones")
    keys = (*settings.KEYS, *pool_keys, "root_volume_gib", "pod_security", "schedule_timeout_seconds", "host_path")
    assert [key for key in keys if f"`{key}`" not in readme] == []


def test_a_missing_stack_file_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(settings.SettingsError, match=r"Pulumi\.none\.yaml: 1 problem\n  cannot be read: No such file"):
        settings.load(tmp_path / "Pulumi.none.yaml")


def test_a_file_that_is_not_named_like_a_stack_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    shutil.copy(ACCEPTED[0], path)
    with pytest.raises(settings.SettingsError, match=r"its name must be Pulumi\.<environment>\.yaml"):
        settings.load(path)


def test_overrides_take_the_place_of_what_the_file_says() -> None:
    stack = ROOT / "stacks" / "Pulumi.local.yaml"
    changed = settings.load(
        stack, {"images.spark": "tidepool.local/spark:abc", "owner": "me", "pools.spot-small.max": 9}
    )
    assert (changed.images["spark"], changed.owner, changed.pools["spot-small"].maximum) == (
        "tidepool.local/spark:abc",
        "me",
        9,
    )
    assert settings.load(stack).owner == "tidepool"


def test_an_override_of_a_key_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(settings.SettingsError, match=r"tidepool:lake\.hostpath: '/x'; unknown key"):
        settings.load(ROOT / "stacks" / "Pulumi.local.yaml", {"lake.hostpath": "/x"})


def test_an_override_below_a_value_that_holds_nothing_is_an_error() -> None:
    with pytest.raises(settings.SettingsError, match=r"owner\.name: 'x'; owner is no map"):
        settings.load(ROOT / "stacks" / "Pulumi.local.yaml", {"owner.name": "x"})


def as_the_engine_passes_it(config: dict[str, Any]) -> str:
    return json.dumps({key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()})


def test_the_engines_configuration_reads_the_same_as_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stack = as_stack_file(CASES / "accepted" / "every-key.yaml", tmp_path)
    pulumi.runtime.set_mocks(NoResources(), project="tidepool", stack="dev")
    monkeypatch.setenv("PULUMI_CONFIG", as_the_engine_passes_it(stack_file.read(stack)))
    assert settings.from_pulumi() == settings.load(stack)


def test_an_unknown_key_is_an_error_under_the_engine_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = stack_file.read(as_stack_file(CASES / "accepted" / "minimal.yaml", tmp_path))
    pulumi.runtime.set_mocks(NoResources(), project="tidepool", stack="dev")
    monkeypatch.setenv("PULUMI_CONFIG", as_the_engine_passes_it({**config, "tidepool:poolz": "{}"}))
    with pytest.raises(settings.SettingsError, match=r"stacks/Pulumi\.dev\.yaml: 1 problem\n  tidepool:poolz"):
        settings.from_pulumi()


class NoResources(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        raise AssertionError(f"no resource is expected here, but {args.typ} came")

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        raise AssertionError(f"no look-up is expected here, but {args.token} came")
