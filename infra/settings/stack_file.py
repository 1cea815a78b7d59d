"""Reading a stack file `stacks/Pulumi.<environment>.yaml` as plain data. What the data mean: `infra.settings`."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.naming import DNS_LABEL, PROJECT
from infra.settings.strict import Table


class SettingsError(Exception):
    """A stack file is wrong. The message names the file, and each problem with its path, value and what is allowed."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{where}: {count}\n" + "\n".join(f"  {problem}" for problem in problems))


def environment(stack_file: Path) -> str:
    """The environment's name, which is the file's: `Pulumi.<environment>.yaml`."""
    match = re.fullmatch(rf"Pulumi\.({DNS_LABEL})\.yaml", stack_file.name)
    if match is None:
        raise SettingsError(str(stack_file), ["not a stack file; its name must be Pulumi.<environment>.yaml"])
    return match.group(1)


def read(stack_file: Path) -> dict[str, Any]:
    """The `config` map of a stack file as it stands there; a key that stands there twice is an error."""
    try:
        document = yaml.load(stack_file.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 a safe loader
    except OSError as error:
        raise SettingsError(str(stack_file), [f"cannot be read: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(str(stack_file), [f"not YAML: {' '.join(str(error).split())}"]) from error
    problems: list[str] = []
    top = Table(document, "", problems)
    for key in ("encryptionsalt", "encryptedkey", "secretsprovider"):  # Pulumi's own
        top.string(key, default="")
    top.table("config")
    top.done()
    if problems:
        raise SettingsError(str(stack_file), problems)
    config: dict[str, Any] = document["config"]
    return config


def override(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config map with values put at dotted paths below `tidepool:`."""
    changed = copy.deepcopy(dict(config))
    for path, value in overrides.items():
        *above, last = path.split(".")
        target: Any = changed
        for depth, part in enumerate(above):
            target = target.setdefault(part if depth else f"{PROJECT}:{part}", {})
            if not isinstance(target, dict):
                raise SettingsError("overrides", [f"{path}: {value!r}; {part} is no map, so nothing can be put in it"])
        target[last if above else f"{PROJECT}:{last}"] = value
    return changed


class _UniqueKeys(yaml.SafeLoader):
    """YAML as usual, except that a key may not stand twice in one map: the second pool would silently win."""


def _unique(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands here twice", node.value[index][0].start_mark
            )
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique)
