"""What `tidepool local status` and `up` say of what is not deployed here."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from infra.cli import local_view
from infra.local.status import Status
from infra.local.world_kubernetes import HELM_RELEASE

REASON = "charts can't be fetched here"
NOT_HERE = [
    {"type": "aws:budgets/budget:Budget", "name": "budget", "reason": "moto has none"},
    {
        "type": HELM_RELEASE,
        "name": "autoscaler-release",
        "reason": REASON,
        "chart": "cluster-autoscaler",
        "repository": "https://kubernetes.github.io/autoscaler",
        "version": "9.59.0",
    },
    {
        "type": HELM_RELEASE,
        "name": "termination-handler-release",
        "reason": REASON,
        "chart": "oci://public.ecr.aws/aws-ec2/helm/aws-node-termination-handler",
        "repository": "",
        "version": "0.27.2",
    },
]


def shown(not_here: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    found = Status([{"process": "etcd", "state": "RUNNING", "pid": 7}], [], [], [], [], [], not_here, ["a problem"])
    local_view.show(found, Console(file=out, width=200))
    return out.getvalue()


def test_status_has_a_row_for_each_release_that_is_not_deployed_here() -> None:
    lines = [" ".join(line.split()) for line in shown(NOT_HERE).splitlines()]
    start = lines.index("releases that are not deployed here")
    assert lines[start + 1 :] == [
        "release chart version repository reason",
        f"autoscaler-release cluster-autoscaler 9.59.0 https://kubernetes.github.io/autoscaler {REASON}",
        "termination-handler-release aws-node-termination-handler 0.27.2 oci://public.ecr.aws/aws-ec2/helm " + REASON,
        "not here: 1 of the stack's other resources; --json lists them with the reasons",
    ]
    assert "etcd RUNNING 7" in lines
    assert "pools: none" in lines


def test_where_nothing_is_missing_nothing_is_said_of_it() -> None:
    assert "not deployed here" not in shown([])
    assert "not here" not in shown([])


def test_up_names_each_release_that_is_not_deployed_here() -> None:
    assert local_view.releases_told(NOT_HERE) == [
        f"not deployed here: cluster-autoscaler 9.59.0 of https://kubernetes.github.io/autoscaler ({REASON})",
        f"not deployed here: aws-node-termination-handler 0.27.2 of oci://public.ecr.aws/aws-ec2/helm ({REASON})",
    ]
