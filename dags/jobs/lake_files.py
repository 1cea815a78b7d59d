"""The lake for programs without Spark or a JVM: as a URL that fsspec, and so pandas and Dask, reads and writes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from lake import lake

WEBHDFS_PORT = 9870
USER = "spark"
"""Whose files jobs' files in HDFS are, whichever program writes them."""


def lake_url() -> tuple[str, dict[str, Any]]:
    """The lake's URL without a slash at its end, and fsspec's storage options for it.

    s3a://bucket/x becomes s3://bucket/x, and hdfs://namenode:8020/x becomes webhdfs://namenode:9870/x.
    """
    uri = lake()
    parts = urlsplit(uri)
    if parts.scheme == "s3a":
        return "s3" + uri.removeprefix("s3a"), {}
    if parts.scheme == "hdfs":
        if parts.port is None:
            raise SystemExit(f"{uri} names HDFS with high availability, which WebHDFS's clients can't find: use Spark")
        return f"webhdfs://{parts.hostname}:{WEBHDFS_PORT}{parts.path}", {"user": USER}
    return uri, {}


def write_json(name: str, value: Any) -> None:
    """Write a value as one JSON file of the lake, over one that is there."""
    import fsspec

    url, options = lake_url()
    with fsspec.open(f"{url}/{name}", "wb", **options) as file:
        file.write(json.dumps(value, indent=1, allow_nan=False).encode() + b"\n")
