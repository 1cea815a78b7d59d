"""EC2's notices reach the keeper's queue, and nobody else's messages do."""

from __future__ import annotations

import json

from infra.aws import events, policies
from infra.aws.events import Notices, NoticesArgs
from tests.infra.recording import Made, made_by
from tidepool.keeper import aws_facts

QUEUE = "arn:aws:sqs:eu-central-1:111122223333:dev-notices"
RULES = [f"arn:aws:events:eu-central-1:111122223333:rule/dev-{name}" for name in events.PATTERNS]
TAGS = {"tidepool.dev/environment": "dev"}


def made() -> Made:
    return made_by(lambda: Notices("notices", NoticesArgs(cluster="dev", tags=TAGS)))


def test_the_rules_choose_what_the_keeper_understands_and_only_that() -> None:
    chosen = [kind for pattern in events.PATTERNS.values() for kind in pattern["detail-type"]]
    assert sorted(chosen) == sorted(aws_facts.DETAIL_TYPES)
    assert all(pattern["source"] == ["aws.ec2"] for pattern in events.PATTERNS.values())
    for state in events.PATTERNS["ended"]["detail"]["state"]:
        body = {"instance-id": "i-0123456789abcdef0", "state": state}
        message = {"detail-type": aws_facts.STATE, "time": "2026-11-23T12:00:00Z", "detail": body}
        told = aws_facts.notice(json.dumps(message))
        assert told is not None
        assert told.kind == "machine.gone"


def test_the_queue_is_encrypted_and_keeps_notices_while_the_keeper_is_away() -> None:
    queue = made().one(":Queue").inputs
    assert queue["name"] == "dev-notices"
    assert queue["sqsManagedSseEnabled"] is True
    assert queue["messageRetentionSeconds"] == events.KEEP_SECONDS
    assert queue["tags"] == TAGS


def test_every_rule_sends_to_the_queue_once_it_may() -> None:
    found = made()
    rules = {each.inputs["name"] for each in found.of(":EventRule").values()}
    assert rules == {f"dev-{name}" for name in events.PATTERNS}
    targets = list(found.of(":EventTarget").values())
    assert {each.inputs["rule"] for each in targets} == rules
    assert all("notices-policy" in each.depends_on for each in targets)


def test_only_these_rules_may_send_and_only_with_tls() -> None:
    rules, tls = json.loads(events.queue_policy(QUEUE, RULES))["Statement"]
    assert rules["Principal"] == {"Service": "events.amazonaws.com"}
    assert (rules["Action"], rules["Resource"]) == ("sqs:SendMessage", QUEUE)
    assert rules["Condition"] == {"ArnEquals": {"aws:SourceArn": RULES}}
    assert (tls["Effect"], tls["Principal"], tls["Action"]) == ("Deny", "*", "sqs:*")
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_keeper_takes_messages_of_its_own_queue_and_sends_none() -> None:
    statements = json.loads(policies.keeper(QUEUE))["Statement"]
    of_queue = {action for each in statements if each["Resource"] == QUEUE for action in each["Action"]}
    assert of_queue == {"sqs:DeleteMessage", "sqs:ReceiveMessage"}
    everywhere = {action for each in statements if each["Resource"] == "*" for action in each["Action"]}
    assert all(action.split(":")[1].startswith(("Describe", "Get")) for action in everywhere)
    assert {"autoscaling:DescribeScalingActivities", "pricing:GetProducts", "ec2:DescribeInstances"} <= everywhere
