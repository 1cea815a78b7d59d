from __future__ import annotations

import json
from typing import Any

import pulumi

from infra.aws.registry import Build, Registry, RegistryArgs, lifecycle_policy
from tests.infra.recording import Made, made_by
from tests.infra.samples import TAGS

REPOSITORY = "aws:ecr/repository:Repository"
IMAGE = "docker-build:index:Image"
TOKEN = {"aws:ecr/getAuthorizationToken:getAuthorizationToken": lambda _: {"userName": "AWS", "password": "t0ken"}}
COMPUTED = {
    REPOSITORY: {"repositoryUrl": "1.dkr.ecr.example/dev/spark"},
    IMAGE: {"ref": "1.dkr.ecr.example/dev/spark:abc123@sha256:0"},
}
SPARK = Build("../images/spark/Dockerfile", "..", "abc123", {"SPARK_VERSION": "4.3.0"})


def build(builds: dict[str, Build] | None = None, protect: bool = True) -> Registry:
    return Registry(
        "registry",
        RegistryArgs(
            cluster="dev",
            repositories=("spark",),
            builds=builds or {},
            references={"dask": "ghcr.io/dask/dask:2026.1.0"},
            architectures=("amd64", "arm64"),
            protect=protect,
            tags=TAGS,
        ),
    )


def made(builds: dict[str, Build] | None = None, protect: bool = True, preview: bool = False) -> Made:
    return made_by(lambda: build(builds, protect), computed=COMPUTED, calls=TOKEN, preview=preview)


def test_a_repository_scans_what_is_pushed_and_never_lets_a_tag_be_moved() -> None:
    repository = made().one(REPOSITORY).inputs
    assert repository["name"] == "dev/spark"
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["tags"] == TAGS


def test_a_repository_drops_what_is_old() -> None:
    policy = json.loads(made().one("ecr/lifecyclePolicy:LifecyclePolicy").inputs["policy"])
    assert policy == json.loads(lifecycle_policy())
    untagged, tagged = (rule["selection"] for rule in policy["rules"])
    assert (untagged["countUnit"], untagged["countNumber"]) == ("days", 7)
    assert (tagged["countType"], tagged["tagPatternList"]) == ("imageCountMoreThan", ["*"])


def test_nothing_is_built_where_nobody_asks_for_it() -> None:
    assert made().of(IMAGE) == {}


def test_an_image_is_built_for_all_machines_and_pushed_by_its_tag() -> None:
    image = made({"spark": SPARK}).one(IMAGE).inputs
    assert image["platforms"] == ["linux/amd64", "linux/arm64"]
    assert (image["push"], image["buildOnPreview"]) == (True, False)
    assert image["tags"] == ["1.dkr.ecr.example/dev/spark:abc123"]
    assert image["dockerfile"] == {"location": "../images/spark/Dockerfile"}
    assert image["context"] == {"location": ".."}
    assert image["buildArgs"] == {"SPARK_VERSION": "4.3.0"}


def test_references_are_those_of_the_settings_and_of_what_was_built() -> None:
    seen: list[Any] = []

    def program() -> Any:
        references = build({"spark": SPARK}).references
        return pulumi.Output.all(**references).apply(seen.append)

    made_by(program, computed=COMPUTED, calls=TOKEN)
    assert seen == [
        {"dask": "ghcr.io/dask/dask:2026.1.0", "spark": "1.dkr.ecr.example/dev/spark:abc123@sha256:0"},
    ]


def test_only_an_unprotected_repository_goes_with_its_images() -> None:
    assert made(protect=True).one(REPOSITORY).inputs["forceDelete"] is False
    assert made(protect=False).one(REPOSITORY).inputs["forceDelete"] is True


def test_a_preview_knows_no_url_and_goes_through() -> None:
    assert made({"spark": SPARK}, preview=True).one(IMAGE).inputs["push"] is True
