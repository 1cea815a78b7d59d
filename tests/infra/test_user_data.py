from __future__ import annotations

import pytest

from infra.aws import user_data
from tidepool.capacity import Taint

GOLDEN = """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="tidepool-node-config"

--tidepool-node-config
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: dev
    apiServerEndpoint: https://eks.example
    certificateAuthority: Q0E=
    cidr: 172.20.0.0/16
  kubelet:
    config:
      maxPods: 20
      shutdownGracePeriod: 90s
      shutdownGracePeriodCriticalPods: 15s
      singleProcessOOMKill: true
    flags:
    - --node-labels=a=1,b=2
    - --register-with-taints=tidepool.dev/pool=spot:NoSchedule
--tidepool-node-config--
"""


def rendered(taints: tuple[Taint, ...] = (Taint("tidepool.dev/pool", "spot", "NoSchedule"),)) -> str:
    return user_data.render(
        cluster="dev",
        endpoint="https://eks.example",
        certificate_authority="Q0E=",
        service_cidr="172.20.0.0/16",
        max_pods=20,
        labels={"b": "2", "a": "1"},
        taints=taints,
    )


def test_user_data_is_what_nodeadm_reads() -> None:
    assert rendered() == GOLDEN


def test_a_pool_without_taints_has_no_taint_flag() -> None:
    assert user_data.parse(rendered(()))["spec"]["kubelet"]["flags"] == ["--node-labels=a=1,b=2"]


def test_what_was_rendered_can_be_read_back() -> None:
    config = user_data.parse(rendered())
    assert config["kind"] == "NodeConfig"
    assert config["spec"]["cluster"]["certificateAuthority"] == "Q0E="
    assert config["spec"]["kubelet"]["config"]["maxPods"] == 20


def test_a_long_certificate_authority_stays_on_one_line() -> None:
    long = "QUJD" * 1000
    text = user_data.render(
        cluster="dev", endpoint="https://e", certificate_authority=long, service_cidr="10.0.0.0/16", max_pods=4,
        labels={}, taints=(),
    )  # fmt: skip
    assert user_data.parse(text)["spec"]["cluster"]["certificateAuthority"] == long
    assert f"certificateAuthority: {long}\n" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\necho hello\n", "no MIME part of type application/node.eks.aws"),
        ("", "no MIME part"),
        (GOLDEN.replace("kind: NodeConfig", "kind: Other"), "has no kind NodeConfig"),
        (GOLDEN.replace("v1alpha1", "v2"), "must be node.eks.aws/v1alpha1"),
        (GOLDEN.replace("  cluster:", "  cluster: {"), "not YAML"),
    ],
)
def test_other_user_data_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(user_data.UserDataError, match=message):
        user_data.parse(text)
