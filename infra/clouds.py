"""Which cloud an environment is on: the one place that knows them all."""

from __future__ import annotations

from infra.cloud import Cloud
from infra.settings.model import AwsCloud, Settings


def create(settings: Settings) -> Cloud:
    """Make the cloud that the settings describe, or reach the cluster that is there."""
    if isinstance(settings.cloud, AwsCloud):
        from infra.aws import cloud as aws  # its provider is not loaded where there is no AWS

        return aws.create(settings, settings.cloud)
    from infra.existing import cloud as existing

    return existing.create(settings, settings.cloud)
