"""What a job's command hands to spark-submit."""

from __future__ import annotations

from tidepool.operators.job_pod import JobPodOperator


def conf_of(operator: JobPodOperator) -> dict[str, str]:
    args = operator.arguments
    return dict(args[at + 1].split("=", 1) for at, word in enumerate(args) if word == "--conf")
