"""Kubernetes objects that a component makes, as the API server gets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.infra import recording


def made_by(build: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """Objects by `Kind/name`, or `Kind/namespace/name` where they are in one."""
    made: dict[str, dict[str, Any]] = {}
    for resource in recording.made_by(build):
        if "kind" in resource.inputs:
            metadata = resource.inputs["metadata"]
            key = "/".join(filter(None, (resource.inputs["kind"], metadata.get("namespace"), metadata["name"])))
            assert key not in made, f"{key} is made twice"
            made[key] = dict(resource.inputs)
    return made
