"""What runs on every job machine, or on those with GPUs."""

from __future__ import annotations

from infra.services import gpu, termination_handler
from infra.services.gpu import DevicePlugin
from infra.services.termination_handler import TerminationHandler
from tests.infra import recording
from tests.infra.releases import RELEASE
from tidepool.pod import GRACE_SECONDS

NODES = [{"tidepool.dev/pool": "gpu"}, {"a": "b", "c": "d"}]


def test_agents_stand_every_taint_of_a_job_machine() -> None:
    for values in (termination_handler.values(), gpu.values(NODES)):
        assert values["tolerations"] == [{"operator": "Exists"}]


def test_a_machine_is_drained_on_the_notice_and_not_on_a_guess() -> None:
    values = termination_handler.values()
    assert values["enableSpotInterruptionDraining"]
    assert not values["enableRebalanceDraining"]
    assert not values["enableRebalanceMonitoring"]


def test_a_job_has_the_whole_notice_from_its_sigterm_on() -> None:
    values = termination_handler.values()
    assert values["podTerminationGracePeriod"] == -1, "the pod's own"
    assert values["nodeTerminationGracePeriod"] >= GRACE_SECONDS == 120


def test_the_device_plugin_is_on_machines_of_any_of_the_pools_and_on_no_other() -> None:
    affinity = gpu.values(NODES)["affinity"]
    terms = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [[each["key"] for each in term["matchExpressions"]] for term in terms] == [["tidepool.dev/pool"], ["a", "c"]]


def test_both_are_one_release_each() -> None:
    def build() -> None:
        TerminationHandler("reclaim", {})
        DevicePlugin("gpus", NODES, {"nvidia-device-plugin": "oci://mirror.example/helm"})

    releases = recording.made_by(build).of(RELEASE)
    assert {name: release.inputs["namespace"] for name, release in releases.items()} == {
        "reclaim-release": "kube-system",
        "gpus-release": "kube-system",
    }
    assert releases["gpus-release"].inputs["chart"] == "oci://mirror.example/helm/nvidia-device-plugin"
