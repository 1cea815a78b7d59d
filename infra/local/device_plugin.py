"""A device plugin that stands in for NVIDIA's: a machine's GPUs, which are none, as a resource that pods can ask for.

It speaks the kubelet's own protocol (deviceplugin v1beta1, found by pluginregistration v1), so that what the kubelet,
the scheduler and a job see is what they see of NVIDIA's plugin: so many healthy devices, each given to one container at
a time, and their ids in NVIDIA_VISIBLE_DEVICES. There is no driver and no device behind them.

    python -m infra.local.device_plugin --socket FILE --machine ID --gpus N
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]

from infra.local.daemon import log, ready_to_stop
from tidepool.capacity import GPU_RESOURCE

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
_KIND, _VERSION = "DevicePlugin", "v1beta1"
_HEALTHY = "Healthy"
_TEXT = 2  # protobuf's wire type of texts and messages: a length, then the bytes
_STREAMS = 4  # of the kubelet's at once; ListAndWatch holds one for as long as the kubelet lives

Call = Any


class Plugin:
    """The plugin of one machine, served on a socket in the kubelet's registry until `close`."""

    def __init__(self, socket: Path, devices: Sequence[str]) -> None:
        self.socket, self.devices = socket, tuple(devices)
        socket.parent.mkdir(parents=True, exist_ok=True)
        socket.unlink(missing_ok=True)
        self._server = grpc.server(ThreadPoolExecutor(max_workers=_STREAMS + 4))
        self._server.add_generic_rpc_handlers((self._registration(), self._plugin()))
        self._server.add_insecure_port(f"unix://{socket}")
        self._server.start()

    def close(self) -> None:
        """Say nothing more: to the kubelet the devices are then not healthy."""
        self._server.stop(grace=None).wait()

    def _registration(self) -> Any:
        info = message({1: _KIND, 2: GPU_RESOURCE, 4: _VERSION})
        calls = {"GetInfo": _unary(lambda _: info), "NotifyRegistrationStatus": _unary(self._registered)}
        return grpc.method_handlers_generic_handler("pluginregistration.Registration", calls)

    def _plugin(self) -> Any:
        calls = {
            "GetDevicePluginOptions": _unary(lambda _: b""),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(self._list),
            "Allocate": _unary(allocate),
        }
        return grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", calls)

    def _registered(self, request: bytes) -> bytes:
        said = dict(fields(request))
        log(f"registered {len(self.devices)} devices" if said.get(1) else f"refused: {said.get(2, b'')!r}")
        return b""

    def _list(self, request: bytes, context: Call) -> Iterator[bytes]:
        over = threading.Event()
        if context.add_callback(over.set):
            yield message({1: [message({1: device, 2: _HEALTHY}) for device in self.devices]})
            over.wait()


def allocate(request: bytes) -> bytes:
    """An AllocateResponse for an AllocateRequest: each container gets to see the devices that are given to it."""
    containers = []
    for number, container in fields(request):
        if number == 1:
            ids = [each.decode() for _, each in fields(container)]
            containers.append(message({1: message({1: VISIBLE, 2: ",".join(ids)})}))
    return message({1: containers})


def message(body: dict[int, bytes | str | Sequence[bytes]]) -> bytes:
    """A protobuf message of texts and messages: field number to one of them, or to several."""
    told = b""
    for number, value in body.items():
        for each in [value] if isinstance(value, (bytes, str)) else value:
            content = each.encode() if isinstance(each, str) else each
            told += _varint(number << 3 | _TEXT) + _varint(len(content)) + content
    return told


def fields(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message, number and content; of a number or a truth its bytes."""
    at = 0
    while at < len(body):
        key, at = _read_varint(body, at)
        size, after = _read_varint(body, at)
        start, end = (after, after + size) if key & 7 == _TEXT else (at, after)
        yield key >> 3, body[start:end]
        at = end


def _varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low | 0x80]) + _varint(number >> 7) if number > low else bytes([low])


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        value |= (body[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if body[at - 1] < 0x80:
            return value, at


def _unary(answer: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(lambda request, context: answer(request))


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--gpus", type=int, required=True)
    arguments = parser.parse_args()
    stop = ready_to_stop()
    plugin = Plugin(arguments.socket, [f"GPU-{arguments.machine}-{number}" for number in range(arguments.gpus)])
    stop.wait()
    plugin.close()


if __name__ == "__main__":
    main()
