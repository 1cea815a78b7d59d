"""EC2's notices for the keeper: EventBridge rules, and the SQS queue to which they send."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws import policies

KEEP_SECONDS = 4 * 24 * 3600
"""As long as a keeper may be away and still know to the second when machines ended."""

HIDE_SECONDS = 60
PATTERNS: dict[str, dict[str, Any]] = {
    "spot": {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"],
    },
    "ended": {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["shutting-down", "terminated"]},
    },
}
"""By rule. EC2's events carry no tags: they are of every machine of the account in the region."""


@dataclass(frozen=True)
class NoticesArgs:
    """cluster: its name, which the queue's and the rules' begin with."""

    cluster: str
    tags: Mapping[str, str]


class Notices(pulumi.ComponentResource):
    """The queue and its rules. No dead-letter queue: what can't be written today is written when the database is back,
    and what is no notice the keeper drops itself."""

    queue_url: pulumi.Output[str]
    queue_arn: pulumi.Output[str]

    def __init__(self, name: str, args: NoticesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tidepool:aws:Notices", name, {}, opts)
        inside = pulumi.ResourceOptions(parent=self)
        queue = aws.sqs.Queue(
            f"{name}-queue",
            name=f"{args.cluster}-notices",
            message_retention_seconds=KEEP_SECONDS,
            visibility_timeout_seconds=HIDE_SECONDS,
            sqs_managed_sse_enabled=True,
            tags=dict(args.tags),
            opts=inside,
        )
        rules = {
            rule: aws.cloudwatch.EventRule(
                f"{name}-{rule}",
                name=f"{args.cluster}-{rule}",
                description="EC2's notices for the keeper of tidepool",
                event_pattern=json.dumps(pattern),
                tags=dict(args.tags),
                opts=inside,
            )
            for rule, pattern in PATTERNS.items()
        }
        allowed = aws.sqs.QueuePolicy(
            f"{name}-policy",
            queue_url=queue.url,
            policy=pulumi.Output.all(queue.arn, *(rule.arn for rule in rules.values())).apply(
                lambda arns: queue_policy(arns[0], arns[1:])
            ),
            opts=inside,
        )
        for rule, made in rules.items():
            aws.cloudwatch.EventTarget(
                f"{name}-{rule}-target",
                rule=made.name,
                target_id="keeper",
                arn=queue.arn,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[allowed]),
            )
        self.queue_url, self.queue_arn = queue.url, queue.arn
        self.register_outputs({"queue_url": queue.url})


def queue_policy(queue: str, rules: Sequence[str]) -> str:
    """EventBridge may send for these rules, and nobody does anything without TLS. All by ARN."""
    return json.dumps(
        {
            "Version": policies.VERSION,
            "Statement": [
                {
                    "Sid": "Rules",
                    "Effect": "Allow",
                    "Principal": {"Service": "events.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": queue,
                    "Condition": {"ArnEquals": {"aws:SourceArn": list(rules)}},
                },
                {
                    "Sid": "TlsOnly",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "sqs:*",
                    "Resource": queue,
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                },
            ],
        }
    )
