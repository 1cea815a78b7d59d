"""Which prepared root machines are cloned from: one that has what is asked for, else a new one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.local import golden, images
from infra.local.images import ImageError
from infra.local.progress import Progress


class Baker:
    """Bakes nothing, and says what it was asked to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        self.cache = cache
        self.edits: Callable[[], None] = lambda: None
        self.built: list[str] = []
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        monkeypatch.setattr(golden, "_containerd_version", lambda: "containerd 1")
        monkeypatch.setattr(golden, "Builder", lambda _: self)
        monkeypatch.setattr(golden, "_bake", self._bake)

    def build(self, name: str) -> str:
        self.built.append(name)
        return images.reference(name)

    def build_pause(self) -> None:
        pass

    def roots(self) -> list[str]:
        return sorted(each.name for each in (self.cache / "tidepool" / "golden").iterdir())

    def _bake(self, builder: Any, references: dict[str, str], archives: Path, folder: Path) -> None:
        self.edits()
        folder.mkdir(parents=True)
        said = {"images": references, "containerd": "containerd 1"}
        (folder / "complete").write_text(json.dumps(said))


@pytest.fixture
def baker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Baker:
    return Baker(monkeypatch, tmp_path)


def test_what_is_asked_for_is_baked_besides_what_every_machine_has(baker: Baker) -> None:
    root = golden.golden_root(Progress(), ["dask"])
    assert sorted(baker.built) == ["dask", "hdfs", "spark"]
    assert root.images == {name: images.reference(name) for name in ("dask", "hdfs", "spark")}


def test_a_root_that_has_more_will_do_and_one_that_has_less_is_replaced(baker: Baker) -> None:
    golden.golden_root(Progress())
    more = golden.golden_root(Progress(), ["dask"])
    baker.built.clear()
    again = golden.golden_root(Progress())
    assert (again, baker.built) == (more, [])
    assert baker.roots() == [more.folder.name]


def test_an_image_whose_sources_have_changed_is_not_offered(baker: Baker, monkeypatch: pytest.MonkeyPatch) -> None:
    golden.golden_root(Progress(), ["dask"])
    now = images.reference
    monkeypatch.setattr(images, "reference", lambda name: now(name) + ("changed" if name == "dask" else ""))
    assert sorted(golden.golden_root(Progress()).images) == ["hdfs", "spark"]
    baker.built.clear()
    golden.golden_root(Progress(), ["dask"])
    assert "dask" in baker.built


def test_an_image_whose_sources_change_while_it_is_baked_is_there_as_it_was(
    baker: Baker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = images.reference
    baker.edits = lambda: monkeypatch.setattr(images, "reference", lambda name: before(name) + "changed")
    root = golden.golden_root(Progress(), ["dask"])
    assert root.images == {name: before(name) for name in ("dask", "hdfs", "spark")}


def test_a_root_of_another_containerd_or_of_an_up_that_was_cut_off_is_not_taken(
    baker: Baker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = golden.golden_root(Progress()).folder
    (folder / "complete").write_text("")
    folder.rename(folder.with_name("older"))
    assert golden.golden_root(Progress()).folder != folder.with_name("older")
    baker.built.clear()
    monkeypatch.setattr(golden, "_containerd_version", lambda: "containerd 2")
    golden.golden_root(Progress())
    assert baker.built != []


def test_an_image_that_there_is_not_is_named_with_those_that_there_are(baker: Baker) -> None:
    with pytest.raises(ImageError, match=r"no image 'daks'; there are airflow, dask, h2o, hdfs"):
        golden.golden_root(Progress(), ["daks"])
