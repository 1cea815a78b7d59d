"""Container images: a repository in ECR for each, and their build where this program builds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws
import pulumi_docker_build as docker_build

from tidepool.capacity import Architecture

UNTAGGED_DAYS = 7
KEPT_IMAGES = 50
"""How many tagged images a repository keeps, the newest. A parts list counts once, and keeps what it lists."""


@dataclass(frozen=True)
class Build:
    """How one image is built. dockerfile, context: paths from the program's folder `infra/`, the same on all machines.

    tag: says what is in the image, as tags can't be pushed twice: another file in the build context, another tag. What
    the context holds is in `Dockerfile.dockerignore` beside the Dockerfile.
    """

    dockerfile: str
    context: str
    tag: str
    build_args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RegistryArgs:
    """Inputs of the registry. repositories: names of images that have one; builds: those that are built and pushed now.

    architectures: what each build is for; references: images from elsewhere, by name; protect: see `AwsCloud`.
    """

    cluster: str
    repositories: tuple[str, ...]
    builds: Mapping[str, Build]
    references: Mapping[str, str]
    architectures: tuple[Architecture, ...]
    protect: bool
    tags: Mapping[str, str]


class Registry(pulumi.ComponentResource):
    """Repositories that scan what is pushed, never let a tag be moved, and drop what is old.

    references: image reference by name: of built ones with tag and digest, of others as given. urls: of repositories.
    """

    references: Mapping[str, pulumi.Input[str]]
    urls: Mapping[str, pulumi.Output[str]]

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:Registry", name, {}, opts)
        repositories = {image: self._repository(name, image, args) for image in args.repositories}
        self.urls = {image: repository.repository_url for image, repository in repositories.items()}
        self.references = {
            **args.references,
            **{image: self._push(name, image, build, args) for image, build in args.builds.items()},
        }
        self.register_outputs({"urls": dict(self.urls)})

    def _repository(self, name: str, image: str, args: RegistryArgs) -> aws.ecr.Repository:
        repository = aws.ecr.Repository(
            f"{name}-{image}",
            name=f"{args.cluster}/{image}",
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            force_delete=not args.protect,
            tags=dict(args.tags),
            opts=pulumi.ResourceOptions(parent=self),
        )
        aws.ecr.LifecyclePolicy(
            f"{name}-{image}-lifecycle",
            repository=repository.name,
            policy=lifecycle_policy(),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return repository

    def _push(self, name: str, image: str, build: Build, args: RegistryArgs) -> pulumi.Output[str]:
        url = self.urls[image]
        token = aws.ecr.get_authorization_token_output(opts=pulumi.InvokeOptions(parent=self))
        return docker_build.Image(
            f"{name}-{image}-image",
            context=docker_build.BuildContextArgs(location=build.context),
            dockerfile=docker_build.DockerfileArgs(location=build.dockerfile),
            build_args=dict(build.build_args),
            platforms=[docker_build.Platform(f"linux/{architecture}") for architecture in args.architectures],
            tags=[pulumi.Output.concat(url, ":", build.tag)],
            push=True,
            # A preview needs no Docker.
            build_on_preview=False,
            registries=[
                docker_build.RegistryArgs(
                    address=url, username=token.user_name, password=pulumi.Output.secret(token.password)
                )
            ],
            # Machines may still run what this program no longer builds; the repository's own rules drop it.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        ).ref


def lifecycle_policy() -> str:
    """What a repository drops: what lost its tag after some days, and all but the newest tagged images."""
    rules = [
        {
            "rulePriority": 1,
            "description": "untagged",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": UNTAGGED_DAYS,
            },
            "action": {"type": "expire"},
        },
        {
            "rulePriority": 2,
            "description": "all but the newest",
            "selection": {
                "tagStatus": "tagged",
                "tagPatternList": ["*"],
                "countType": "imageCountMoreThan",
                "countNumber": KEPT_IMAGES,
            },
            "action": {"type": "expire"},
        },
    ]
    return json.dumps({"rules": rules})
