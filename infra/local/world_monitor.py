"""Pulumi's own stand-in for its engine, made to hand over what it keeps from mocks: urn, dependencies and options.

`run` runs the Pulumi program against a `Handler`; the local cloud's creates what is registered, tests record it.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pulumi
from pulumi.runtime import mocks, rpc

from infra import naming

PROGRAM = Path(__file__).resolve().parents[1] / "__main__.py"
STACK_TYPE = "pulumi:pulumi:Stack"
HIDDEN = "[secret]"  # what Pulumi's command line shows, too
_REQUEST: contextvars.ContextVar[Any] = contextvars.ContextVar("request", default=None)


@dataclass(frozen=True)
class Registration:
    """One resource as the program asks for it. inputs: in the provider's names, as Python wrote them.

    custom: a provider makes it; a component is not, not even a remote one such as pulumi_eks.Cluster.
    provider: `urn::id` of an explicit one. secrets: inputs and outputs to be kept secret. dependencies: urns.
    """

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    custom: bool
    remote: bool
    parent: str
    provider: str
    dependencies: tuple[str, ...]
    secrets: frozenset[str]
    protect: bool
    retain_on_delete: bool
    ignore_changes: tuple[str, ...]


class Handler(Protocol):
    """Who answers a program. What it raises fails the program, unchanged."""

    def register(self, asked: Registration) -> tuple[str | None, Mapping[str, Any]]:
        """The id (None: not known yet) and the outputs."""

    def read(self, type_: str, name: str, identity: str) -> tuple[str | None, Mapping[str, Any]]:
        """The id and the outputs of what is there already, as `Type.get` asks."""

    def call(self, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to a look-up such as aws.get_caller_identity."""


def run(
    handler: Handler, config: Mapping[str, Any], stack: str, *, preview: bool = False, program: Path = PROGRAM
) -> dict[str, Any]:
    """Run the program with a stack's configuration; its outputs, secret ones as HIDDEN, unknown ones as None."""
    outputs: dict[str, Any] = {}
    monitor = _Monitor(handler)
    pulumi.runtime.set_mocks(monitor.mocks, project=naming.PROJECT, stack=stack, preview=preview, monitor=monitor)
    root: Any = pulumi.runtime.get_root_resource()
    root.outputs.clear()  # of an earlier run in this process

    async def collect() -> None:
        for name, value in root.outputs.items():
            output = pulumi.Output.from_input(value)
            outputs[name] = HIDDEN if await output.is_secret() else await output.future()

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def whole() -> pulumi.Output[Any]:
        runpy.run_path(str(program), run_name="__main__")
        return pulumi.Output.from_input(collect())

    with _pulumi_config(config):
        whole()
    return outputs


def plain(value: Any) -> Any:
    """Inputs as Python wrote them: the runtime turns numbers into floats, wraps secrets and keeps absent values."""
    value = rpc.unwrap_rpc_secret(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None and not key.startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Mocks(pulumi.runtime.Mocks):
    """Passes on to a handler what MockMonitor asks, with the request that it asks for."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if _REQUEST.get() is None:
            identity, state = self._handler.read(args.typ, args.name, args.resource_id or "")
            return identity, dict(state)
        urn, request = _REQUEST.get()
        asked = Registration(
            urn=urn,
            type=args.typ,
            name=args.name,
            inputs=plain(args.inputs),
            custom=request.custom,
            remote=request.remote,
            parent=request.parent,
            provider=request.provider,
            dependencies=tuple(request.dependencies),
            secrets=frozenset(request.additionalSecretOutputs)
            | {key for key, value in args.inputs.items() if rpc.is_rpc_secret(value)},
            protect=request.protect,
            retain_on_delete=request.retainOnDelete,
            ignore_changes=tuple(request.ignoreChanges),
        )
        identity, outputs = self._handler.register(asked)
        secret = {key: rpc.wrap_rpc_secret(outputs[key]) for key in asked.secrets & outputs.keys()}
        return identity, {**outputs, **secret}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        return dict(self._handler.call(args.token, plain(args.args))), []


class _Monitor(mocks.MockMonitor):
    """Refuses a urn that is there twice, as the engine does."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(_Mocks(handler))
        self._seen: set[str] = set()

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """As the engine makes it: with the types of all ancestors but the stack. MockMonitor takes the last."""
        ancestors = parent.split("::")[2] if parent else STACK_TYPE
        qualified = type_ if ancestors == STACK_TYPE else f"{ancestors}${type_}"
        return "::".join([f"urn:pulumi:{pulumi.get_stack()}", pulumi.get_project(), qualified, name])

    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if urn in self._seen:
            raise pulumi.RunError(f"two resources have the urn {urn}; give one another name")
        self._seen.add(urn)
        token = _REQUEST.set((urn, request))
        try:
            return super().RegisterResource(request)  # type: ignore[no-untyped-call]
        finally:
            _REQUEST.reset(token)


@contextlib.contextmanager
def _pulumi_config(config: Mapping[str, Any]) -> Iterator[None]:
    """The configuration where Pulumi's language host puts it: one variable, everything in it as text."""
    before = os.environ.get("PULUMI_CONFIG")
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    os.environ["PULUMI_CONFIG"] = json.dumps(texts)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PULUMI_CONFIG"]
        else:
            os.environ["PULUMI_CONFIG"] = before
