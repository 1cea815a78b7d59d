from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra import image_sources, settings
from infra.settings import services, stack_file

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
def test_a_wrong_stack_file_is_rejected_with_just_its_problems(case: Path, tmp_path: Path) -> None:
    """A case says with `# expect:` how each problem begins; no further one may be reported."""
    lines = case.read_text().splitlines()
    expected = [line.removeprefix("# expect: ") for line in lines if line.startswith("# expect")]
    assert expected, f"{case.name} does not say what it expects"
    with pytest.raises(settings.SettingsError) as caught:
        settings.load(as_stack_file(case, tmp_path))
    problems = sorted(caught.value.problems)
    assert len(problems) == len(expected), problems
    for problem, start in zip(problems, sorted(expected), strict=True):
        assert start in problem
    assert str(caught.value).startswith(f"{tmp_path / 'Pulumi.dev.yaml'}: {len(problems)} problem")


@pytest.mark.parametrize("stack", sorted((ROOT / "stacks").glob("Pulumi.*.yaml")), ids=lambda stack: stack.name)
def test_every_stack_of_this_repository_is_accepted(stack: Path) -> None:
    settings.load(stack)


PROJECT = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
TYPES = {bool: "boolean", str: "string", dict: "object"}


def test_pulumi_declares_just_the_keys_that_settings_reads() -> None:
    assert set(PROJECT) == set(settings.KEYS)
    assert [key for key, body in PROJECT.items() if not body["description"].endswith(".")] == []


def test_pulumi_fills_in_what_settings_takes_for_a_missing_key() -> None:
    """A key without default is required of every stack by Pulumi itself."""
    defaults = {key: body["default"] for key, body in PROJECT.items() if "default" in body}
    assert defaults == settings.OPTIONAL
    types = {key: body["type"] for key, body in PROJECT.items() if key in defaults}
    assert types == {key: TYPES[type(value)] for key, value in defaults.items()}
    assert {key: PROJECT[key]["type"] for key in settings.REQUIRED if key != "owner"} == dict.fromkeys(
        [key for key in settings.REQUIRED if key != "owner"], "object"
    )


def test_the_images_that_settings_knows_are_those_of_this_repository() -> None:
    assert set(image_sources.names()) == set(services.OWN_IMAGES)


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
        stack, {"images.references.spark": "tidepool.local/spark:abc", "owner": "me", "pools.spot-small.max": 9}
    )
    assert (changed.images.references["spark"], changed.owner, changed.cloud.pools["spot-small"].maximum) == (
        "tidepool.local/spark:abc",
        "me",
        9,
    )
    assert settings.load(stack).owner == "tidepool"


def test_an_override_of_a_key_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(settings.SettingsError, match=r"tidepool:lake\.host_path: '/x'; unknown key"):
        settings.load(ROOT / "stacks" / "Pulumi.local.yaml", {"lake.host_path": "/x"})


def test_an_override_below_a_value_that_holds_nothing_is_an_error() -> None:
    with pytest.raises(settings.SettingsError, match=r"owner\.name: 'x'; owner is no map"):
        settings.load(ROOT / "stacks" / "Pulumi.local.yaml", {"owner.name": "x"})


def as_the_engine_passes_it(config: dict[str, Any]) -> str:
    """PULUMI_CONFIG: truth values and numbers as text, objects as JSON, and what Pulumi.yaml has for missing keys."""
    filled = {f"tidepool:{key}": body["default"] for key, body in PROJECT.items() if "default" in body} | config
    return json.dumps({key: value if isinstance(value, str) else json.dumps(value) for key, value in filled.items()})


@pytest.fixture
def pulumi_of_dev(event_loop_of_session: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Pulumi's runtime deploys the stack `dev`; what it began by that is over at the end."""
    asyncio.set_event_loop(event_loop_of_session)
    pulumi.runtime.set_mocks(NoResources(), project="tidepool", stack="dev")
    yield
    event_loop_of_session.run_until_complete(asyncio.gather(*asyncio.all_tasks(event_loop_of_session)))


@pytest.mark.usefixtures("pulumi_of_dev")
@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.stem)
def test_the_engines_configuration_reads_the_same_as_the_file(
    case: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack = as_stack_file(case, tmp_path)
    monkeypatch.setenv("PULUMI_CONFIG", as_the_engine_passes_it(stack_file.read(stack)))
    assert settings.from_pulumi() == settings.load(stack)


@pytest.mark.usefixtures("pulumi_of_dev")
def test_configuration_that_a_program_sets_reads_the_same_as_the_file(tmp_path: Path) -> None:
    """Pulumi's Automation API runs a program inline and hands the configuration over without PULUMI_CONFIG."""
    stack = as_stack_file(CASES / "accepted" / "every-key.yaml", tmp_path)
    pulumi.runtime.set_all_config(json.loads(as_the_engine_passes_it(stack_file.read(stack))))
    try:
        assert settings.from_pulumi() == settings.load(stack)
    finally:
        pulumi.runtime.set_all_config({})


@pytest.mark.usefixtures("pulumi_of_dev")
def test_an_unknown_key_is_an_error_under_the_engine_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = stack_file.read(as_stack_file(CASES / "accepted" / "minimal.yaml", tmp_path))
    monkeypatch.setenv("PULUMI_CONFIG", as_the_engine_passes_it({**config, "tidepool:poolz": "{}"}))
    with pytest.raises(settings.SettingsError, match=r"stacks/Pulumi\.dev\.yaml: 1 problem\n  tidepool:poolz"):
        settings.from_pulumi()


class NoResources(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        raise AssertionError(f"no resource is expected here, but {args.typ} came")

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        raise AssertionError(f"no look-up is expected here, but {args.token} came")
