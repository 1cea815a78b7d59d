"""What the images of images/ are made of: the files that go into each, its build arguments, and the tag that says so.

The local builder and the registry on AWS take it from here, so that one commit gives one tag everywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra import versions

CONTEXT = Path(__file__).resolve().parents[1]
"""The repository: the build context of every image."""

FOLDER = CONTEXT / "images"

VERSIONS = {
    "SPARK_VERSION": versions.SPARK,
    "HADOOP_CLIENT_VERSION": versions.HADOOP_CLIENT,
    "AWS_SDK_VERSION": versions.AWS_SDK,
    "SPARK_CLOUD_VERSION": versions.SPARK_CLOUD,
    "HADOOP_VERSION": versions.HADOOP,
    "AIRFLOW_VERSION": versions.AIRFLOW,
    "PROVIDER_CNCF_VERSION": versions.PROVIDER_CNCF,
}
"""The build arguments that carry what infra/versions.py pins; a Dockerfile gets those that it declares."""


@dataclass(frozen=True)
class Source:
    """What an image is made of. files: the Dockerfile and all that it copies; arguments: what it declares by ARG."""

    file: Path
    dockerfile: str
    files: tuple[Path, ...]
    arguments: frozenset[str]

    def versions(self) -> dict[str, str]:
        """The pinned versions that are build arguments of it."""
        return {name: version for name, version in VERSIONS.items() if name in self.arguments}

    def tag(self) -> str:
        """A digest of everything that goes into it."""
        digest = hashlib.sha256(repr(sorted(self.versions().items())).encode())
        for file in self.files:
            mode = b"x" if os.access(file, os.X_OK) else b"-"
            digest.update(str(file.relative_to(CONTEXT)).encode() + mode + file.read_bytes())
        return digest.hexdigest()[:12]


def names() -> list[str]:
    """The images that there are: the folders of images/."""
    return sorted(file.parent.name for file in FOLDER.glob("*/Dockerfile"))


def source(name: str) -> Source:
    """What the image `name` is made of. Raises KeyError where there is none."""
    file = FOLDER / name / "Dockerfile"
    if name not in names():
        raise KeyError(name)
    text = file.read_text(encoding="utf-8")
    copied = (CONTEXT / each for each in copied_from_context(text))
    below = {path for each in copied for path in ([each] if each.is_file() else each.rglob("*"))}
    files = {file, *(path for path in below if path.is_file() and "__pycache__" not in path.parts)}
    return Source(file, text, tuple(sorted(files)), frozenset(re.findall(r"^ARG (\w+)", text, re.MULTILINE)))


def copied_from_context(dockerfile: str) -> Iterator[str]:
    """The paths that a Dockerfile copies from the repository, not from another stage."""
    for line in re.sub(r"\\\n\s*", "", dockerfile).splitlines():
        if line.startswith("COPY "):
            words = shlex.split(line)[1:]
            if not any(word.startswith("--from=") for word in words):
                yield from [word for word in words if not word.startswith("--")][:-1]
