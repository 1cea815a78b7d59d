"""Components under Pulumi's mocks: what they ask for, as plain dicts with the provider's (camelCase) names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

Calls = Mapping[str, Mapping[str, Any]]


@dataclass
class Recorder(pulumi.runtime.Mocks):
    """Keeps every resource. computed: outputs by type that no input gives; calls: answers by the call's token.

    In a preview nothing has an id, and nothing computed is known.
    """

    computed: Calls = field(default_factory=dict)
    calls: Calls = field(default_factory=dict)
    preview: bool = False
    seen: list[pulumi.runtime.MockResourceArgs] = field(default_factory=list)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.seen.append(args)
        if self.preview:
            return None, args.inputs
        return f"{args.name}-id", {**args.inputs, **self.computed.get(args.typ, {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        assert args.token in self.calls, f"nothing of the kind is looked up here, but {args.token} was"
        return {**args.args, **self.calls[args.token]}, []

    def of_type(self, type_: str) -> dict[str, dict[str, Any]]:
        """Inputs by resource name."""
        return {each.name: each.inputs for each in self.seen if each.typ == type_}

    def one(self, type_: str) -> dict[str, Any]:
        """The inputs of the only resource of a type."""
        (inputs,) = self.of_type(type_).values()
        return inputs


def record(
    build: Callable[[], Any], *, computed: Calls | None = None, calls: Calls | None = None, preview: bool = False
) -> Recorder:
    """Run `build` and wait for all that it asked for. An Output that it returns is waited for too."""
    recorder = Recorder(computed or {}, calls or {}, preview)
    pulumi.runtime.set_mocks(recorder, preview=preview)

    @pulumi.runtime.test
    def program() -> Any:
        return build()

    program()
    return recorder
