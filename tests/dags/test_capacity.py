from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidepool import capacity as document
from tidepool.capacity import Capacity, CapacityError, Pool


def changed(capacity: Capacity, change: Any) -> str:
    body = json.loads(document.dumps(capacity))
    change(body)
    return json.dumps(body)


def test_reads_back_what_it_writes(capacity: Capacity) -> None:
    assert document.loads(document.dumps(capacity)) == capacity


def test_without_the_variable_says_how_to_get_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEPOOL_CAPACITY", raising=False)
    with pytest.raises(CapacityError, match=r"TIDEPOOL_CAPACITY is not set.*tidepool local up"):
        document.load()


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEPOOL_CAPACITY", str(tmp_path / "gone.json"))
    with pytest.raises(CapacityError, match=r"gone\.json: No such file.*is the ConfigMap tidepool-capacity mounted"):
        document.load()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"version": 7}', "version is 7; this library reads version 2"),
    ],
)
def test_what_is_no_document_is_refused_with_its_name(text: str, words: str) -> None:
    with pytest.raises(CapacityError, match=rf"^here: {words}"):
        document.loads(text, "here")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "capacity.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CapacityError, match="not UTF-8"):
        document.load(path)


def test_tells_every_problem_at_once_with_its_path(capacity: Capacity) -> None:
    def spoil(body: dict[str, Any]) -> None:
        pool = body["pools"]["spot-small"]
        pool["market"] = "stolen"
        pool["cpu_millis"] = "2"
        pool["memory_bytes"] = -1
        pool["instance_types"] = "m5.large"
        pool["usd_per_hour"] = True
        pool["labels"] = {"a": 1}
        pool["taints"] = [{"key": "k", "value": "v"}]
        pool["colour"] = "blue"
        pool["gpus"] = -1
        pool["architecture"] = "x86_64"
        del pool["priority"]
        body["tenants"]["research"] = {"namespace": 1, "quota": 2}
        body["tenants"]["other"] = "other"
        body["default_tenant"] = "sales"
        body["lake"] = {"uri": 7}
        body["schedule_timeout_seconds"] = 1.5

    with pytest.raises(CapacityError) as caught:
        document.loads(changed(capacity, spoil))
    message = str(caught.value)
    for line in (
        "pools.spot-small.market: must be spot or on-demand, not 'stolen'",
        "pools.spot-small.cpu_millis: must be a whole number, not negative, not '2'",
        "pools.spot-small.memory_bytes: must be a whole number, not negative, not -1",
        "pools.spot-small.instance_types: must be a list of texts, not 'm5.large'",
        "pools.spot-small.usd_per_hour: must be a number, not negative, not True",
        "pools.spot-small.labels: must be an object of texts, not {'a': 1}",
        "pools.spot-small.taints[0].effect: missing",
        "pools.spot-small.colour: unknown key",
        "pools.spot-small.priority: missing",
        "pools.spot-small.gpus: must be a whole number, not negative, not -1",
        "pools.spot-small.architecture: must be amd64 or arm64, not 'x86_64'",
        "tenants.research.namespace: must be text, not 1",
        "tenants.research.service_account: missing",
        "tenants.research.quota: unknown key",
        "tenants.other: must be an object",
        "default_tenant: must be one of the tenants (analytics, other, research), not 'sales'",
        "lake.uri: must be text, not 7",
        "schedule_timeout_seconds: must be a whole number, not negative, not 1.5",
    ):
        assert line in message


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(capacity: Capacity, tmp_path: Path) -> None:
    path = tmp_path / "capacity.json"
    path.write_text(document.dumps(capacity), encoding="utf-8")
    first = document.load(path)
    assert document.load(path) is first
    path.write_text(changed(capacity, lambda body: body.update(cluster="other")), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert document.load(path).cluster == "other"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tenants", [], "tenants: must be an object of tenants by team"),
        ("tenants", {}, "default_tenant: must be one of the tenants (none), not 'analytics'"),
        ("default_tenant", None, "default_tenant: must be text, not None"),
        ("tenants", ..., "tenants: missing"),
        ("default_tenant", ..., "default_tenant: missing"),
    ],
)
def test_tenants_and_the_default_among_them_are_required(capacity: Capacity, key: str, value: Any, words: str) -> None:
    with pytest.raises(CapacityError) as caught:
        document.loads(changed(capacity, lambda body: body.pop(key) if value is ... else body.update({key: value})))
    assert words in str(caught.value)


def test_a_pool_for_jobs_needs_labels_by_which_they_find_it(capacity: Capacity) -> None:
    def spoil(body: dict[str, Any]) -> None:
        for pool in body["pools"].values():
            pool["labels"] = {}

    with pytest.raises(CapacityError, match=r"pools\.spot-small\.labels: must be at least one") as caught:
        document.loads(changed(capacity, spoil))
    assert "pools.system" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"pool": "batch", "zone": "a"}, "batch"),
        ({"pool": "batch", "disk": "nvme"}, "batch-nvme"),
        ({"tidepool.dev/pool": "spot-small"}, "spot-small"),
        ({"tidepool.dev/pool": "removed-since"}, "removed-since"),
        ({"pool": "other"}, ""),
        ({}, ""),
    ],
)
def test_a_node_is_of_the_pool_whose_labels_it_carries(
    pool: Callable[..., Pool], labels: dict[str, str], name: str
) -> None:
    pools = [
        dataclasses.replace(pool("batch"), labels={"pool": "batch"}),
        dataclasses.replace(pool("batch-nvme"), labels={"pool": "batch", "disk": "nvme"}),
        dataclasses.replace(pool("bare"), labels={}),
        pool("spot-small"),
    ]
    assert document.pool_of(labels, pools) == name
