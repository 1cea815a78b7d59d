"""H2O Sparkling Water in one pod."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dags.submitted import conf_of
from tidepool import JobError, SparklingWaterPodOperator

IMAGE = "tidepool.local/h2o:1"


@pytest.fixture
def h2o_image(capacity_file: Path) -> None:
    capacity_file.write_text(capacity_file.read_text().replace('"spark": ', f'"h2o": "{IMAGE}", "spark": '))


@pytest.mark.usefixtures("h2o_image")
def test_task_id_and_application_are_enough() -> None:
    operator = SparklingWaterPodOperator(task_id="t", application="model.py")
    assert operator.image == IMAGE
    assert operator.arguments[-1] == "/opt/tidepool/jobs/model.py"
    assert conf_of(operator)["spark.master"] == "local[2,4]"


@pytest.mark.usefixtures("h2o_image")
def test_h2o_listens_to_its_own_pod_only() -> None:
    conf = conf_of(SparklingWaterPodOperator(task_id="t", application="model.py"))
    assert conf["spark.ext.h2o.client.ip"] == "127.0.0.1"
    assert conf["spark.ext.h2o.extra.properties"] == "-ip 127.0.0.1 -web_ip 127.0.0.1"


@pytest.mark.usefixtures("h2o_image")
def test_h2o_writes_where_the_pod_can() -> None:
    conf = conf_of(SparklingWaterPodOperator(task_id="t", application="model.py"))
    assert {key for key, value in conf.items() if key.startswith("spark.ext.h2o") and value.startswith("/")} == {
        "spark.ext.h2o.log.dir",
        "spark.ext.h2o.node.iced.dir",
        "spark.ext.h2o.client.iced.dir",
    }


@pytest.mark.usefixtures("h2o_image")
def test_the_authors_settings_win_and_his_jvm_options_come_besides() -> None:
    given = {"spark.ext.h2o.log.level": "INFO", "spark.driver.extraJavaOptions": "-Xss4m"}
    conf = conf_of(SparklingWaterPodOperator(task_id="t", application="model.py", conf=given))
    assert given.items() <= conf.items()
    assert "--add-exports" in conf["spark.driver.defaultJavaOptions"]


@pytest.mark.usefixtures("capacity_file")
def test_an_environment_without_its_image_says_so() -> None:
    with pytest.raises(JobError, match=r"'t': no image given, and the capacity document has no 'h2o' \(spark\)"):
        SparklingWaterPodOperator(task_id="t", application="model.py")
