"""Random values: really random, and kept in the state like everything else that was made."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

from infra.local.world_engine import Kind, Made
from infra.local.world_monitor import Registration
from infra.local.world_rows import require_all_used
from infra.local.world_state import Entry

SPECIAL = "!@#$%&*()-_=+[]{}<>:?"  # the provider's own
ALPHABETS = {"upper": string.ascii_uppercase, "lower": string.ascii_lowercase, "numeric": string.digits}


class Random:
    """A Side of world_engine, without a place of its own."""

    name = ""
    identity = ""

    def kind(self, type_: str) -> Kind | None:
        """How a random value is made; other inputs make another one."""
        make = _TYPES.get(type_)
        return Kind(lambda inputs, taken: make(inputs), _never, lambda old: None) if make else None

    def call(self, token: str, arguments: Mapping[str, Any]) -> None:
        """There is nothing to look up."""

    def lacks(self, asked: Registration) -> None:
        """All of it is here."""

    def lacks_parts(self, asked: Registration) -> Mapping[str, str]:
        """All of it is here."""
        return {}


def _never(old: Entry, inputs: dict[str, Any]) -> Made | None:
    return None


def _text(inputs: dict[str, Any]) -> Made:
    """RandomPassword and RandomString: at least so many of each kind of letters as the inputs say."""
    rest = dict(inputs)
    rest.pop("keepers", None)
    length, special = rest.pop("length"), rest.pop("overrideSpecial", SPECIAL)
    alphabets = [
        (alphabet, rest.pop(f"min{name.capitalize()}", 0))
        for name, alphabet in {**ALPHABETS, "special": special}.items()
        if rest.pop(name, True)
    ]
    require_all_used("random text", rest)
    letters = [secrets.choice(alphabet) for alphabet, least in alphabets for _ in range(least)]
    every = "".join(alphabet for alphabet, _ in alphabets)
    letters += [secrets.choice(every) for _ in range(length - len(letters))]
    secrets.SystemRandom().shuffle(letters)
    text = "".join(letters)
    return Made("none", {**inputs, "result": text})


def _bytes(inputs: dict[str, Any]) -> Made:
    """RandomBytes."""
    value = secrets.token_bytes(inputs["length"])
    encoded = base64.b64encode(value).decode()
    return Made(encoded, {**inputs, "base64": encoded, "hex": value.hex()})


_TYPES: dict[str, Callable[[dict[str, Any]], Made]] = {
    "random:index/randomBytes:RandomBytes": _bytes,
    "random:index/randomPassword:RandomPassword": _text,
    "random:index/randomString:RandomString": _text,
}
