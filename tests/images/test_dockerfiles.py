"""What every image promises, whatever is in it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from infra import image_sources, versions
from infra.local import golden, images
from infra.local.images import ImageError
from tidepool.pod import USER_ID

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted(ROOT.glob("images/*/Dockerfile"))
SCRIPTS = sorted(path for path in ROOT.glob("images/*/bin/*") if path.is_file())

by_image = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)


def lines(dockerfile: Path) -> list[str]:
    """The instructions, continuation lines joined."""
    text = re.sub(r"\\\n\s*", "", dockerfile.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@by_image
def test_an_image_starts_from_the_base_that_can_be_made_without_a_registry(dockerfile: Path) -> None:
    stages, bases = set(), set()
    for line in lines(dockerfile):
        if found := re.fullmatch(r"FROM (\S+)(?: AS (\w+))?", line):
            bases |= {found[1]} - stages
            stages.add(found[2])
    assert bases == {images.BASE}


@by_image
def test_an_image_runs_under_an_init_process_as_a_user_without_rights(dockerfile: Path) -> None:
    users = [line for line in lines(dockerfile) if line.startswith("USER")]
    assert len(users) == 1
    assert re.fullmatch(r"USER [1-9]\d+:\d+", users[0])
    (entry,) = [line for line in lines(dockerfile) if line.startswith("ENTRYPOINT")]
    assert entry.startswith('ENTRYPOINT ["/usr/bin/tini", "--"')


def test_spark_runs_as_the_user_that_jobs_run_as() -> None:
    assert f"USER {USER_ID}:{USER_ID}" in lines(ROOT / "images" / "spark" / "Dockerfile")


@by_image
def test_every_python_package_of_an_image_is_pinned(dockerfile: Path) -> None:
    installs = [line for line in lines(dockerfile) if "pip install" in line]
    for install in installs:
        words = shlex.split(install.split("pip install", 1)[1].split("&&")[0])
        if "--require-hashes" in words:
            continue
        packages = [word for word in words if not word.startswith(("-", "/"))]
        assert packages
        assert all("==" in package for package in packages), packages


def test_airflow_is_installed_with_its_own_list_of_versions_but_for_the_one_provider_that_is_ours() -> None:
    whole = lines(ROOT / "images" / "airflow" / "Dockerfile")
    (source,) = [line for line in whole if line.startswith("ARG CONSTRAINTS=")]
    assert re.search(r"apache/airflow/constraints-\$\{AIRFLOW_VERSION\}/constraints-[\d.]+\.txt$", source)
    (run,) = [line for line in whole if "pip install" in line]
    (fetched,) = re.findall(r"--output (\S+) \"\$\{CONSTRAINTS\}\"", run)
    (install,) = [step for step in run.split("&&") if "pip install" in step]
    assert shlex.split(install)[shlex.split(install).index("--constraint") + 1] == fetched
    assert re.findall(r"sed -i '(.*?)'", run) == ["/^apache-airflow-providers-cncf-kubernetes==/d"]


@by_image
def test_an_image_carries_no_secret(dockerfile: Path) -> None:
    named = re.findall(r"^(?:ARG|ENV) (\w+)", dockerfile.read_text(), re.MULTILINE)
    assert not [name for name in named if re.search(r"PASSWORD|SECRET|TOKEN|KEY", name)]


def test_spark_and_hdfs_share_their_first_layer() -> None:
    java = [
        next(line for line in lines(ROOT / "images" / name / "Dockerfile") if line.startswith("RUN"))
        for name in golden.BAKED
    ]
    assert len(set(java)) == 1
    assert "openjdk-17-jre-headless" in java[0]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_of_an_image_is_executable_and_has_no_syntax_error(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("image", image_sources.names())
def test_an_images_tag_is_a_digest_of_its_files(image: str) -> None:
    made = images.reference(image)
    assert re.fullmatch(rf"tidepool\.local/{image}:[0-9a-f]{{12}}", made)
    assert images.reference(image) == made
    files = image_sources.source(image).files
    assert ROOT / "images" / image / "Dockerfile" in files
    assert not [file for file in files if "__pycache__" in file.parts]


def test_an_images_tag_changes_with_the_version_that_goes_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spark, hdfs = images.reference("spark"), images.reference("hdfs")
    monkeypatch.setitem(image_sources.VERSIONS, "SPARK_VERSION", "0.0.0")
    assert images.reference("spark") != spark
    assert images.reference("hdfs") == hdfs


def test_what_a_dockerfile_copies_is_found_but_for_what_comes_from_another_stage() -> None:
    text = "COPY --from=jars /a/ /b/\nCOPY --chmod=755 images/x/bin/ \\\n    /usr/bin/\nCOPY one two /here/\n"
    assert list(image_sources.copied_from_context(text)) == ["images/x/bin/", "one", "two"]


def test_an_image_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(ImageError, match=r"no image 'hadoop'; there are .*hdfs.*spark"):
        images.reference("hadoop")


def test_hdfs_is_made_of_pinned_jars_of_the_pinned_version() -> None:
    pins = (ROOT / "images" / "hdfs" / "jars.sha256").read_text().splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  [\w.-]+\.jar", line) for line in pins)
    ours = {line.split()[1] for line in pins if re.search(r" hadoop-(common|hdfs|hdfs-client|auth)-", line)}
    assert ours == {f"hadoop-{part}-{versions.HADOOP}.jar" for part in ("common", "hdfs", "hdfs-client", "auth")}
