"""Sparkling Water's settings in one pod."""

from __future__ import annotations

from tidepool.pod import SCRATCH_FOLDER

_LOOPBACK = "127.0.0.1"
_PACKAGES = ("sun.net.www.protocol.http", "sun.net.www.protocol.https")

SETTINGS = {
    # All of H2O is in this pod, and its port has neither password nor encryption: nothing outside may connect.
    "spark.ext.h2o.client.ip": _LOOPBACK,
    "spark.ext.h2o.extra.properties": f"-ip {_LOOPBACK} -web_ip {_LOOPBACK}",
    "spark.ext.h2o.log.dir": f"{SCRATCH_FOLDER}/h2o-logs",
    "spark.ext.h2o.node.iced.dir": f"{SCRATCH_FOLDER}/h2o",
    "spark.ext.h2o.client.iced.dir": f"{SCRATCH_FOLDER}/h2o",
    # Sparkling Water speaks to itself through classes that Java 17 keeps to itself.
    "spark.driver.defaultJavaOptions": " ".join(
        f"--add-exports=java.base/{package}=ALL-UNNAMED" for package in _PACKAGES
    ),
    "spark.ext.h2o.repl.enabled": "false",
    "spark.ext.h2o.log.level": "WARN",
}
"""The author's own win over these."""
