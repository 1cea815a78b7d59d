from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pulumi
import pytest

from infra import naming
from infra.services import hdfs_config, network_policies
from infra.services.hdfs import Hdfs, HdfsArgs
from infra.services.placement import Placement
from infra.settings import model
from tests.infra import recording
from tests.infra.manifests import made_by

ROOT = Path(__file__).resolve().parents[2]
ONE = model.Hdfs(datanodes=3, replication=3, volume_gib=500, namenode_volume_gib=20, high_availability=False)
PAIR = dataclasses.replace(ONE, high_availability=True)
NAME = "hdfs-namenode.tidepool.svc.cluster.local"

both = pytest.mark.parametrize("settings", [ONE, PAIR], ids=["one NameNode", "high availability"])


def args(settings: model.Hdfs, image: pulumi.Input[str] = "hdfs:abc", storage_class: str = "gp3") -> HdfsArgs:
    selector = naming.node_labels(naming.SYSTEM_POOL)
    return HdfsArgs(settings, image, Placement(selector, naming.SYSTEM_TAINTS), storage_class, {})


def made(settings: model.Hdfs, **changes: Any) -> dict[str, dict[str, Any]]:
    return made_by(lambda: Hdfs("hdfs", args(settings, **changes)))


def pods(objects: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod specifications by the name of what makes them."""
    return {
        key.split("/")[-1]: each["spec"]["template"]["spec"]
        for key, each in objects.items()
        if key.startswith(("StatefulSet", "Job"))
    }


def containers(objects: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [container for pod in pods(objects).values() for container in pod["containers"]]


def properties(xml: str) -> dict[str, str]:
    found = {each.findtext("name", ""): each.findtext("value", "") for each in ElementTree.fromstring(xml)}  # noqa: S314
    assert "" not in found
    return found


def test_one_namenode_and_its_datanodes() -> None:
    objects = made(ONE)
    sets = {key: each["spec"]["replicas"] for key, each in objects.items() if key.startswith("StatefulSet")}
    assert sets == {"StatefulSet/tidepool/hdfs-namenode": 1, "StatefulSet/tidepool/hdfs-datanode": 3}
    names = [container["name"] for container in containers(objects)]
    assert sorted(names) == ["checkpointer", "datanode", "directories", "namenode"]


def test_high_availability_has_two_namenodes_with_failover_controllers_and_two_quorums() -> None:
    objects = made(PAIR)
    sets = {key: each["spec"]["replicas"] for key, each in objects.items() if key.startswith("StatefulSet")}
    assert {key.rpartition("/")[2]: count for key, count in sets.items()} == {
        "hdfs-namenode": 2,
        "hdfs-datanode": 3,
        "hdfs-journalnode": 3,
        "hdfs-zookeeper": 3,
    }
    assert [each["name"] for each in pods(objects)["hdfs-namenode"]["containers"]] == ["namenode", "zkfc"]
    assert "checkpointer" not in {each["name"] for each in containers(objects)}, "the standby makes checkpoints"


@both
def test_every_pod_keeps_to_the_level_restricted(settings: model.Hdfs) -> None:
    objects = made(settings)
    for pod in pods(objects).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"} <= {
            "configMap",
            "emptyDir",
        }
    for container in containers(objects):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@both
def test_every_pod_goes_to_system_machines_before_others_and_is_left_there(settings: model.Hdfs) -> None:
    objects = made(settings)
    for pod in pods(objects).values():
        assert pod["nodeSelector"] == {"tidepool.dev/pool": "system"}
        (toleration,) = pod["tolerations"]
        assert (toleration["key"], toleration["effect"]) == ("CriticalAddonsOnly", "NoSchedule")
        assert pod["priorityClassName"] == "tidepool-platform"
    for key, each in objects.items():
        if key.startswith("StatefulSet"):
            annotations = each["spec"]["template"]["metadata"]["annotations"]
            assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


@both
def test_what_replicas_are_for_is_not_on_one_machine_and_drained_one_at_a_time(settings: model.Hdfs) -> None:
    objects = made(settings)
    for key, each in objects.items():
        if not key.startswith("StatefulSet"):
            continue
        name, labels = key.rpartition("/")[2], each["spec"]["selector"]["matchLabels"]
        assert objects[f"PodDisruptionBudget/tidepool/{name}"]["spec"] == {
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels},
        }
        if each["spec"]["replicas"] > 1:
            affinity = each["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
            (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
            assert term == {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}


@both
def test_what_replicas_are_for_is_spread_over_zones_and_waits_for_none(settings: model.Hdfs) -> None:
    """A pod whose volume is in a zone has to come back to it, however many are there."""
    for key, each in made(settings).items():
        if key.startswith("StatefulSet") and each["spec"]["replicas"] > 1:
            (spread,) = each["spec"]["template"]["spec"]["topologySpreadConstraints"]
            assert spread == {
                "labelSelector": {"matchLabels": each["spec"]["selector"]["matchLabels"]},
                "topologyKey": "topology.kubernetes.io/zone",
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
            }


@both
def test_pods_have_names_before_they_are_ready_and_no_address_hides_theirs(settings: model.Hdfs) -> None:
    objects = made(settings)
    for key, each in objects.items():
        if key.startswith("StatefulSet"):
            service = objects[f"Service/tidepool/{each['spec']['serviceName']}"]["spec"]
            assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
            assert service["selector"] == each["spec"]["template"]["metadata"]["labels"]
            named = {port["name"] for one in each["spec"]["template"]["spec"]["containers"] for port in one["ports"]}
            assert {port["targetPort"] for port in service["ports"]} == named


@both
def test_volumes_outlive_the_pods_and_are_of_the_clouds_class(settings: model.Hdfs) -> None:
    for key, each in made(settings).items():
        if key.startswith("StatefulSet"):
            (claim,) = each["spec"]["volumeClaimTemplates"]
            assert claim["spec"]["storageClassName"] == "gp3"
            assert each["spec"]["persistentVolumeClaimRetentionPolicy"] == {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            }
    claims = [
        each["spec"]["volumeClaimTemplates"][0]["spec"]
        for key, each in made(settings, storage_class="").items()
        if key.startswith("StatefulSet")
    ]
    assert not any("storageClassName" in claim for claim in claims), "the cluster's default"


def test_a_volume_is_as_large_as_the_settings_say() -> None:
    objects = made(ONE)
    sizes = {
        key.rpartition("/")[2]: each["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
        for key, each in objects.items()
        if key.startswith("StatefulSet")
    }
    assert sizes == {"hdfs-namenode": "20Gi", "hdfs-datanode": "500Gi"}


@both
def test_memory_is_limited_to_what_is_requested_and_holds_heap_and_more(settings: model.Hdfs) -> None:
    for container in containers(made(settings)):
        resources = container["resources"]
        assert resources["limits"] == {"memory": resources["requests"]["memory"]}
        for variable in container["env"]:
            if variable["name"] == "HDFS_HEAP_MIB":
                assert int(resources["limits"]["memory"].removesuffix("Mi")) >= int(variable["value"]) * 1.25 + 256


@both
def test_a_pod_fits_the_smallest_system_machines(settings: model.Hdfs) -> None:
    for pod in pods(made(settings)).values():
        memory = sum(int(each["resources"]["requests"]["memory"].removesuffix("Mi")) for each in pod["containers"])
        assert memory <= 3 * 1024, "an m6a.large has 7 GiB, for Airflow too"


@pytest.mark.parametrize(
    ("datanodes", "volume_gib", "replication", "namenode", "datanode"),
    [
        (2, 5, 2, 512, 512),
        (3, 500, 3, 528, 528),
        (10, 4000, 3, 938, 640),
        (100, 4000, 3, 4778, 640),
    ],
)
def test_heaps_grow_with_the_blocks_that_fit(
    datanodes: int, volume_gib: int, replication: int, namenode: int, datanode: int
) -> None:
    settings = model.Hdfs(datanodes, replication, volume_gib, 20, high_availability=False)
    assert (hdfs_config.namenode_heap_mib(settings), hdfs_config.datanode_heap_mib(settings)) == (namenode, datanode)


@both
def test_changed_settings_restart_the_servers(settings: model.Hdfs) -> None:
    def digests(of: model.Hdfs) -> set[str]:
        return {
            each["spec"]["template"]["metadata"]["annotations"]["tidepool.dev/config"]
            for key, each in made(of).items()
            if key.startswith("StatefulSet")
        }

    assert len(digests(settings)) == 1
    assert digests(settings) == digests(dataclasses.replace(settings, datanodes=5))
    assert digests(settings) != digests(dataclasses.replace(settings, replication=2))


@both
def test_a_preview_knows_no_image_and_makes_the_same(settings: model.Hdfs) -> None:
    unknown = recording.made_by(lambda: Hdfs("hdfs", args(settings, image=pulumi.Output.from_input("x"))), preview=True)
    assert unknown.names() == recording.made_by(lambda: Hdfs("hdfs", args(settings))).names()


def test_servers_take_datanodes_without_reverse_dns_and_listen_at_any_address() -> None:
    site = properties(made(ONE)["ConfigMap/tidepool/hdfs-config"]["data"]["hdfs-site.xml"])
    assert site["dfs.namenode.datanode.registration.ip-hostname-check"] == "false"
    assert site["dfs.namenode.rpc-bind-host"] == site["dfs.namenode.http-bind-host"] == "0.0.0.0"  # noqa: S104
    assert site["dfs.namenode.avoid.read.stale.datanode"] == "true"
    assert site["dfs.namenode.rpc-address"] == f"{NAME}:8020"
    assert site["dfs.replication"] == "3"


def test_clients_are_told_how_many_replicas_to_write_and_to_wait_for_a_namenode() -> None:
    told = hdfs_config.client_settings(dataclasses.replace(ONE, replication=2))
    assert told["dfs.replication"] == "2", "Hadoop's clients write three otherwise"
    assert told["dfs.client.retry.policy.enabled"] == "true"
    assert told["dfs.client.block.write.replace-datanode-on-failure.best-effort"] == "true"
    assert told["fs.defaultFS"] == hdfs_config.uri(ONE) == f"hdfs://{NAME}:8020"


def test_with_high_availability_clients_and_servers_agree_on_both_namenodes() -> None:
    told = hdfs_config.client_settings(PAIR)
    site = properties(made(PAIR)["ConfigMap/tidepool/hdfs-config"]["data"]["hdfs-site.xml"])
    core = properties(made(PAIR)["ConfigMap/tidepool/hdfs-config"]["data"]["core-site.xml"])
    assert told["fs.defaultFS"] == core["fs.defaultFS"] == hdfs_config.uri(PAIR) == "hdfs://tidepool"
    for name, value in told.items():
        assert name in ("fs.defaultFS", "ipc.client.connect.timeout") or site[name] == value
    for ordinal in (0, 1):
        node = f"hdfs-namenode-{ordinal}.{NAME}"
        assert told[f"dfs.namenode.rpc-address.tidepool.nn{ordinal}"] == f"{node}:8020"
        assert site[f"dfs.namenode.http-address.tidepool.nn{ordinal}"] == f"{node}:9870"
    assert len(site["dfs.namenode.shared.edits.dir"].split(";")) == len(core["ha.zookeeper.quorum"].split(",")) == 3
    assert "dfs.namenode.rpc-address" not in site


def test_zookeepers_servers_are_the_pods() -> None:
    text = made(PAIR)["ConfigMap/tidepool/hdfs-config"]["data"]["zoo.cfg"]
    servers = re.findall(r"^server\.(\d)=hdfs-zookeeper-(\d)\.hdfs-zookeeper\.\S+:2888:3888$", text, re.MULTILINE)
    assert servers == [("1", "0"), ("2", "1"), ("3", "2")]


def test_what_a_value_holds_is_not_taken_for_xml() -> None:
    assert properties(hdfs_config.site_xml({"a": "<b>&"})) == {"a": "<b>&"}


def test_teams_may_connect_to_every_port_that_a_client_needs() -> None:
    wanted = {*hdfs_config.NAMENODE_PORTS.values(), *hdfs_config.DATANODE_PORTS.values()}
    assert wanted == set(network_policies.HDFS_PORTS)


def test_the_jobs_user_owns_the_lake_and_the_event_logs() -> None:
    (container,) = pods(made(ONE))["hdfs-directories"]["containers"]
    rows = dict(row.split(" ", 1) for row in container["args"][1:])
    assert rows["/lake"] == "spark:spark 755"
    assert rows["/spark-events"].startswith("spark:spark")
    assert rows["/tmp"].endswith(" 1777"), "everybody's, each only his own"  # noqa: S108


@both
def test_a_server_runs_what_the_image_has(settings: model.Hdfs) -> None:
    script = (ROOT / "images" / "hdfs" / "bin" / "hdfs-server").read_text()
    for container in containers(made(settings)):
        if container["args"][0] == "hdfs-server":
            assert re.search(rf"^\s*(\w+ \| )*{container['args'][1]}\b.*\)", script, re.MULTILINE), container["args"]


def test_the_user_is_the_images() -> None:
    dockerfile = (ROOT / "images" / "hdfs" / "Dockerfile").read_text()
    assert f"USER {hdfs_config.USER_ID}:{hdfs_config.USER_ID}\n" in dockerfile
    assert f"--uid {hdfs_config.USER_ID} --user-group --no-create-home --shell /usr/sbin/nologin hdfs" in dockerfile
