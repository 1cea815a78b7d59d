"""The device plugin that stands in for NVIDIA's, asked as a kubelet asks; and what a machine with GPUs sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from infra.aws import instance_types
from infra.local import hardware
from infra.local.device_plugin import Plugin, fields, message
from infra.local.machine_files import Size
from tidepool.capacity import GPU_RESOURCE

DEVICES = ("GPU-i-1-0", "GPU-i-1-1")
GIB = 1024**3


class Kubelet:
    """A client of the plugin's socket; messages are bytes."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}")

    def asks(self, call: str, request: bytes = b"") -> bytes:
        answer: bytes = self._channel.unary_unary(f"/{call}")(request, timeout=5)
        return answer

    def watches(self, call: str) -> Any:
        return self._channel.unary_stream(f"/{call}")(b"", timeout=20)


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    plugin = Plugin(tmp_path / "registry" / "gpu.sock", DEVICES)
    yield Kubelet(plugin.socket)
    plugin.close()


def texts(body: bytes) -> list[tuple[int, str]]:
    return [(number, content.decode()) for number, content in fields(body)]


def test_the_kubelet_finds_a_device_plugin_of_the_resource_that_jobs_ask_for(kubelet: Kubelet) -> None:
    info = kubelet.asks("pluginregistration.Registration/GetInfo")
    assert texts(info) == [(1, "DevicePlugin"), (2, GPU_RESOURCE), (4, "v1beta1")]
    registered = b"\x08\x01"  # plugin_registered = true
    assert kubelet.asks("pluginregistration.Registration/NotifyRegistrationStatus", registered) == b""
    assert kubelet.asks("v1beta1.DevicePlugin/GetDevicePluginOptions") == b""


def test_each_device_is_listed_as_healthy_for_as_long_as_the_kubelet_listens(kubelet: Kubelet) -> None:
    for _ in range(2):  # a kubelet that was started again asks again
        stream = kubelet.watches("v1beta1.DevicePlugin/ListAndWatch")
        assert [texts(device) for _, device in fields(next(stream))] == [
            [(1, device), (2, "Healthy")] for device in DEVICES
        ]
        stream.cancel()


def test_each_container_sees_the_devices_that_were_given_to_it(kubelet: Kubelet) -> None:
    request = message({1: [message({1: [DEVICES[0].encode(), DEVICES[1].encode()]}), message({1: DEVICES[1]})]})
    answer = kubelet.asks("v1beta1.DevicePlugin/Allocate", request)
    environments = [texts(entry) for _, container in fields(answer) for _, entry in fields(container)]
    assert environments == [
        [(1, "NVIDIA_VISIBLE_DEVICES"), (2, ",".join(DEVICES))],
        [(1, "NVIDIA_VISIBLE_DEVICES"), (2, DEVICES[1])],
    ]


def test_a_plugin_that_is_started_again_takes_over_what_the_last_one_left(tmp_path: Path) -> None:
    socket = tmp_path / "gpu.sock"
    socket.touch()
    plugin = Plugin(socket, DEVICES)
    assert Kubelet(socket).asks("pluginregistration.Registration/GetInfo")
    plugin.close()


def test_a_long_text_keeps_its_length() -> None:
    assert list(fields(message({1: "x" * 300, 16: b"y"}))) == [(1, b"x" * 300), (16, b"y")]


def test_a_machine_with_gpus_sees_its_instance_types_cores_and_memory(tmp_path: Path) -> None:
    machine = instance_types.table()["g4dn.xlarge"]
    hardware.write(tmp_path, machine)
    assert sorted(each.name for each in (tmp_path / "cpu").glob("cpu*")) == ["cpu0", "cpu1", "cpu2", "cpu3"]
    assert "MemTotal: 16777216 kB" in (tmp_path / "meminfo").read_text()
    assert hardware.size(machine, Size(2000, 8 * GIB, 9 * GIB)) == Size(4000, 16 * GIB, 9 * GIB)
