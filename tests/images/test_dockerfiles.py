"""What every image promises, whatever is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra import versions
from infra.local import images
from tidepool.pod import USER_ID

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted(ROOT.glob("images/*/Dockerfile"))


def lines(dockerfile: Path) -> list[str]:
    """The instructions, continuation lines joined."""
    text = re.sub(r"\\\n\s*", "", dockerfile.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_starts_from_the_base_that_can_be_made_without_a_registry(dockerfile: Path) -> None:
    assert [line for line in lines(dockerfile) if line.startswith("FROM")] == [f"FROM {images.BASE}"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_runs_as_the_jobs_user_under_an_init_process(dockerfile: Path) -> None:
    assert f"USER {USER_ID}:{USER_ID}" in lines(dockerfile)
    assert 'ENTRYPOINT ["/usr/bin/tini", "--"]' in lines(dockerfile)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_every_python_package_of_an_image_is_pinned(dockerfile: Path) -> None:
    installs = [line for line in lines(dockerfile) if "pip install" in line]
    for install in installs:
        packages = re.search(r"pip install ((?:--?[\w-]+ )*)(.*?)(?: &&|$)", install)
        assert packages
        assert all("==" in package for package in packages[2].split()), packages[2]


def test_the_spark_images_tag_changes_with_what_goes_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.spark_reference()
    assert re.fullmatch(r"tidepool\.local/spark:[0-9a-f]{12}", before)
    assert images.spark_reference() == before
    monkeypatch.setattr(versions, "SPARK", "0.0.0")
    assert images.spark_reference() != before
