from __future__ import annotations

from email import message_from_string

import pytest

from infra.aws import allocatable, machines, user_data
from tests.infra.samples import aws_pool
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
      kubeReserved:
        cpu: 70m
        memory: 475Mi
        ephemeral-storage: 1Gi
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
        reserved=allocatable.kube_reserved(vcpu=2, max_pods=20),
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
        reserved={}, labels={}, taints=(),
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


def of_pool(**changes: object) -> str:
    return machines.machine_user_data(
        "dev",
        aws_pool("m5d.large", **changes),
        endpoint="https://eks.example",
        certificate_authority="Q0E=",
        service_cidr="172.20.0.0/16",
    )


def test_a_machine_reserves_for_the_pods_that_it_may_hold_and_not_for_those_its_interfaces_could() -> None:
    config = user_data.parse(of_pool(max_pods=8))["spec"]["kubelet"]["config"]
    assert config["kubeReserved"] == {"cpu": "70m", "memory": "343Mi", "ephemeral-storage": "1Gi"}


def test_pods_live_on_the_instance_store_only_where_the_pool_says_so() -> None:
    assert "instance" not in user_data.parse(of_pool())["spec"]
    assert user_data.parse(of_pool(nvme=True))["spec"]["instance"] == {"localStorage": {"strategy": "RAID0"}}


def test_a_machine_of_a_warm_pool_does_not_join_the_cluster_while_it_is_warmed() -> None:
    def kinds(text: str) -> list[str]:
        return [part.get_content_type() for part in message_from_string(text).walk() if not part.is_multipart()]

    assert kinds(of_pool()) == ["application/node.eks.aws"]
    warm = of_pool(warm=1, market="on-demand")
    assert kinds(warm) == ["application/node.eks.aws", "text/x-shellscript"]
    assert "target-lifecycle-state" in warm
    assert user_data.parse(warm) == user_data.parse(of_pool())


def test_user_data_stays_below_the_limit_of_ec2() -> None:
    authority = "Q0E=" * 500  # as long as a real one
    text = machines.machine_user_data(
        "a-long-cluster-name", aws_pool("g5.xlarge", warm=1, nvme=True), endpoint="https://" + "x" * 80,
        certificate_authority=authority, service_cidr="172.20.0.0/16",
    )  # fmt: skip
    assert len(text) < 16 * 1024
