"""`tidepool images …`: the container images of images/."""

from __future__ import annotations

from typing import Annotated

import typer

from infra import image_sources
from infra.cli.told import told
from infra.local import cloud
from infra.local.progress import Progress

app = typer.Typer(help="Container images.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """A group, though it has one verb yet."""


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Of the folders of images/; none: all of them.")] = None,
) -> None:
    """Build images with docker, or without any daemon with buildah; print reference and size. Only buildah needs root.

    \b
    Examples:
      tidepool images build
      tidepool images build airflow
    """
    with told("images build"):
        for reference, size in cloud.build_images(names or image_sources.names(), Progress()).items():
            typer.echo(f"{reference}  {size / 1e6:.0f} MB")
