"""What the Spark image has besides PySpark."""

from __future__ import annotations

import re
from pathlib import Path

from infra import versions

ROOT = Path(__file__).resolve().parents[2]


def test_spark_reaches_s3_by_pinned_jars_of_the_pinned_versions_without_the_sdks_bundle() -> None:
    pins = (ROOT / "images" / "spark" / "jars.sha256").read_text().splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  [\w.-]+\.jar", line) for line in pins)
    jars = {line.split()[1] for line in pins}
    assert {f"hadoop-aws-{versions.HADOOP_CLIENT}.jar", f"s3-{versions.AWS_SDK}.jar"} <= jars
    assert f"spark-hadoop-cloud_2.13-{versions.SPARK_CLOUD}.jar" in jars
    assert not [jar for jar in jars if jar.startswith(("bundle-", "netty-common", "slf4j-"))]
