"""What a Pulumi program would make: its resources, recorded by Pulumi's own mocks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.runtime.mocks import MockMonitor

KUBECONFIG = json.dumps(
    {"clusters": [{"cluster": {"server": "https://kubernetes.example", "certificate-authority-data": "Q0E="}}]}
)


Calls = Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]


@dataclass(frozen=True)
class Recorded:
    """One resource. inputs: unknown ones are left out; depends_on: names of what must be there before it."""

    type: str
    name: str
    inputs: Mapping[str, Any]
    protect: bool
    ignore_changes: tuple[str, ...]
    depends_on: frozenset[str]


class Made(list[Recorded]):
    """All resources but components. Pulumi makes them side by side, so their order means nothing."""

    def of(self, kind: str) -> dict[str, Recorded]:
        """Resources by name whose type token ends so, such as `ec2/vpc:Vpc`."""
        return {each.name: each for each in self if each.type.endswith(kind)}

    def one(self, kind: str) -> Recorded:
        """The only resource of a type."""
        (found,) = self.of(kind).values()
        return found

    def types(self) -> set[str]:
        return {each.type for each in self}

    def names(self) -> set[tuple[str, str]]:
        return {(each.type, each.name) for each in self}


def made_by(
    build: Callable[[], Any],
    *,
    preview: bool = False,
    calls: Calls | None = None,
    computed: Mapping[str, Mapping[str, Any]] | None = None,
) -> Made:
    """Run a part of a program. With `preview`, as before a first deployment: no id and no output is known.

    calls: answers to look-ups by the call's token; any other look-up fails. computed: outputs that no input gives, by
    type token, besides those that every resource gets. An Output that `build` returns is waited for.
    """
    mocks = _Mocks(preview, calls or {}, computed or {})
    pulumi.runtime.set_mocks(mocks, preview=preview, monitor=_Monitor(mocks))

    @pulumi.runtime.test
    def program() -> Any:
        return build()

    program()
    return mocks.made


class _Mocks(pulumi.runtime.Mocks):
    def __init__(self, preview: bool, calls: Calls, computed: Mapping[str, Mapping[str, Any]]) -> None:
        self.preview = preview
        self.calls = calls
        self.computed = computed
        self.made = Made()
        self.current = threading.local()  # requests come from several threads at once

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        request = self.current.request
        if args.custom or args.typ == "eks:index:Cluster":
            self.made.append(
                Recorded(
                    type=args.typ,
                    name=args.name,
                    inputs=args.inputs,
                    protect=request.protect,
                    ignore_changes=tuple(request.ignoreChanges),
                    depends_on=frozenset(urn.split("::")[-1] for urn in request.dependencies),
                )
            )
        if self.preview:
            return "", args.inputs
        computed = {
            "arn": f"arn:aws:mock:::{args.name}",
            "name": args.name,
            "latestVersion": 1,
            "allocationId": f"{args.name}-allocation",
            "kubeconfigJson": KUBECONFIG,
            "clusterSecurityGroupId": "sg-cluster",
            **self.computed.get(args.typ, {}),
        }
        return f"{args.name}-id", {**computed, **args.inputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        assert args.token in self.calls, f"nothing of the kind is looked up here, but {args.token} was"
        return self.calls[args.token](args.args), []


class _Monitor(MockMonitor):
    """Hands on the whole request, of which mocks see only the inputs."""

    mocks: _Mocks

    def RegisterResource(self, request: Any) -> Any:
        self.mocks.current.request = request
        return super().RegisterResource(request)
