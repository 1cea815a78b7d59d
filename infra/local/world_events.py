"""Queues and EventBridge rules in moto."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from infra.local.world_rows import Inputs, Row, calls, is_gone, tagger
from infra.local.world_state import Entry

_ATTRIBUTES = {
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "sqsManagedSseEnabled": "SqsManagedSseEnabled",
}
_URL = "arn:aws:sqs:{region}:{account}:{name}"


def _text(value: Any) -> str:
    return json.dumps(int(value) if isinstance(value, float) else value)


def _of_queue(inputs: Inputs) -> Inputs:
    attributes = {name: _text(inputs[key]) for key, name in _ATTRIBUTES.items() if key in inputs}
    return {"QueueName": inputs["name"], "Attributes": attributes, "tags": inputs.get("tags", {})}


def _set_attribute(name: str) -> Any:
    def set_it(client: Any, identity: str, wanted: Any, before: Any) -> None:
        client.set_queue_attributes(QueueUrl=identity, Attributes={name: _text(wanted)})

    return set_it


def _set_queue_tags(client: Any, identity: str, wanted: dict[str, str], before: dict[str, str] | None) -> None:
    if stale := sorted((before or {}).keys() - wanted.keys()):
        client.untag_queue(QueueUrl=identity, TagKeys=stale)
    client.tag_queue(QueueUrl=identity, Tags=wanted)


def _find_queue(client: Any, inputs: Inputs) -> list[str]:
    try:
        return [client.get_queue_url(QueueName=inputs["name"])["QueueUrl"]]
    except ClientError as error:
        if is_gone(error) or "NonExistentQueue" in error.response["Error"]["Code"]:
            return []
        raise


def _delete_policy(client: Any, old: Entry) -> None:
    client.set_queue_attributes(QueueUrl=old.inputs["queueUrl"], Attributes={"Policy": ""})


def _of_policy(inputs: Inputs) -> Inputs:
    return {"QueueUrl": inputs["queueUrl"], "Attributes": {"Policy": inputs["policy"]}}


def _of_target(inputs: Inputs) -> Inputs:
    return {"Rule": inputs["rule"], "Targets": [{"Id": inputs["targetId"], "Arn": inputs["arn"]}]}


def _delete_target(client: Any, old: Entry) -> None:
    client.remove_targets(Rule=old.inputs["rule"], Ids=[old.inputs["targetId"]])


ROWS = {
    "aws:sqs/queue:Queue": Row(
        service="sqs",
        create="create_queue",
        id="QueueUrl",
        parameters=_of_queue,
        setters={key: _set_attribute(name) for key, name in _ATTRIBUTES.items()} | {"tags": _set_queue_tags},
        find=_find_queue,
        delete=calls("delete_queue", QueueUrl="id"),
        outputs={"arn": _URL, "url": "{id}"},
        auto_name="name",
    ),
    "aws:sqs/queuePolicy:QueuePolicy": Row(
        service="sqs",
        create="set_queue_attributes",
        id="{queueUrl}",
        parameters=_of_policy,
        put="set_queue_attributes",
        identity=("queueUrl",),
        delete=_delete_policy,
    ),
    "aws:cloudwatch/eventRule:EventRule": Row(
        service="events",
        create="put_rule",
        id="{name}",
        put="put_rule",
        identity=("name",),
        setters={
            "tags": tagger(
                "tag_resource", "untag_resource", "resourceARN", "arn:aws:events:{region}:{account}:rule/{id}"
            )
        },
        delete=calls("delete_rule", Name="id"),
        outputs={"arn": "arn:aws:events:{region}:{account}:rule/{name}"},
        auto_name="name",
    ),
    "aws:cloudwatch/eventTarget:EventTarget": Row(
        service="events",
        create="put_targets",
        id="{rule}-{targetId}",
        parameters=_of_target,
        put="put_targets",
        identity=("rule", "targetId"),
        delete=_delete_target,
    ),
}
