"""The stack files that commands are about."""

from __future__ import annotations

from pathlib import Path

import typer

from infra import contract, settings
from infra.local.paths import REPOSITORY
from infra.settings.model import Settings
from infra.settings.strict import near
from tidepool.capacity import Capacity

STACKS = REPOSITORY / "stacks"


def files() -> list[Path]:
    """Those of this repository's environments, at least one."""
    found = sorted(STACKS.glob("Pulumi.*.yaml"))
    if not found:
        raise typer.BadParameter(f"{STACKS} has no Pulumi.<environment>.yaml")
    return found


def file(stack: str, asked_by: str = "--stack") -> Path:
    """The stack file of an environment's name, or the file itself. asked_by: the argument that an error names."""
    named = STACKS / f"Pulumi.{stack}.yaml"
    if named.is_file():
        return named
    if stack.endswith((".yaml", ".yml")):
        if Path(stack).is_file():
            return Path(stack)
        raise typer.BadParameter(f"there is no file {stack}", param_hint=asked_by)
    known = [name(each) for each in files()]
    raise typer.BadParameter(
        f"there is no stack {stack!r}{near(stack, known)}; the stacks are {', '.join(known)}", param_hint=asked_by
    )


def name(file: Path) -> str:
    """The environment of a stack file."""
    return file.name.removeprefix("Pulumi.").removesuffix(".yaml")


def load(stack: str) -> Settings:
    """The settings of what --stack names."""
    chosen = file(stack)
    try:
        return settings.load(chosen)
    except settings.SettingsError as error:
        raise typer.BadParameter("\n".join([f"{chosen}:", *error.problems]), param_hint="--stack") from None


def planned(stack: str) -> Capacity:
    """The capacity document of what --stack names, as it will be once that is deployed."""
    return contract.planned(load(stack))
