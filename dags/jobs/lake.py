"""Where the jobs read and write, and how a small result gets there whole. Lies beside the jobs that import it."""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # programs without Spark import this too
    from pyspark.sql import SparkSession


def lake() -> str:
    """The lake's URI without a slash at its end, such as s3a://bucket/lake; the operator sets TIDEPOOL_LAKE."""
    uri = os.environ.get("TIDEPOOL_LAKE", "").rstrip("/")
    if not uri:
        raise SystemExit("TIDEPOOL_LAKE is not set: it must hold the URI of the lake, such as s3a://bucket/lake")
    return uri


def write_json(spark: SparkSession, uri: str, value: Any) -> None:
    """Write a value as one JSON file. Readers see the old file or the new one, also if the job dies on the way."""
    jvm: Any = spark._jvm
    hadoop: Any = jvm.org.apache.hadoop.fs
    conf = spark._jsc.hadoopConfiguration()
    target = hadoop.Path(uri)
    temporary = hadoop.Path(f"{uri}.{uuid.uuid4().hex}.tmp")
    files = target.getFileSystem(conf)
    files.setWriteChecksum(False)
    stream = files.create(temporary, True)
    try:
        stream.write(bytearray(json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"))
    finally:
        stream.close()
    # FileSystem.rename does not replace a file; FileContext's does, in one step, on HDFS and on a disk.
    overwrite = spark.sparkContext._gateway.new_array(jvm.org.apache.hadoop.fs.Options.Rename, 1)
    overwrite[0] = jvm.org.apache.hadoop.fs.Options.Rename.OVERWRITE
    hadoop.FileContext.getFileContext(target.toUri(), conf).rename(temporary, target, overwrite)
