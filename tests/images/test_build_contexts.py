"""An image is built anew by the Pulumi program when a file of its build context changes, and pushed by a tag that says
what is in it. Tags can't be pushed twice, so the context must hold what the tag counts and nothing else."""

from __future__ import annotations

import pytest

from infra import image_sources


def expected(name: str) -> str:
    copied = sorted(
        {path.rstrip("/") for path in image_sources.copied_from_context(image_sources.source(name).dockerfile)}
    )
    return "\n".join(
        [
            "# What the Dockerfile copies, and nothing else: other images' files must not build this one anew.",
            "*",
            *(f"!{path}" for path in copied),
            "**/__pycache__",
            "",
        ]
    )


@pytest.mark.parametrize("name", image_sources.names())
def test_the_build_context_of_an_image_is_what_it_copies(name: str) -> None:
    ignore = image_sources.FOLDER / name / "Dockerfile.dockerignore"
    text = ignore.read_text(encoding="utf-8") if ignore.exists() else ""
    assert text == expected(name), f"{ignore.relative_to(image_sources.CONTEXT)} should be:\n{expected(name)}"
