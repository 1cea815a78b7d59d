"""HTML from values: whatever is not Html already is text, and can't be anything else. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable
from urllib.parse import urlencode

from tidepool.report.costs import plain

_VOID = frozenset({"meta", "link", "input", "br"})


class Html(str):
    """Markup made by this module."""

    __slots__ = ()


Child = object
"""Html, text or a figure; None and nested lists of them too."""


def text(value: object) -> Html:
    """A value as text: what HTML acts upon is escaped, what readers and terminals act upon is replaced."""
    return Html(html.escape(plain(str(value)), quote=True))


def join(*children: Child) -> Html:
    """One after another."""
    return Html("".join(_markup(children)))


def tag(name: str, /, *children: Child, **attributes: object) -> Html:
    """An element. Attributes: `class_` is class, `_` is `-`; None and False leave one out, True has no value."""
    said = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{''.join(_markup(children))}</{name}>")


def href(page: str, /, **query: object) -> str:
    """A link within the page: the parameters that have a value, whatever they hold."""
    chosen = {key: _unicode(value) for key, value in query.items() if value not in (None, "")}
    return f"{page}?{urlencode(chosen)}" if chosen else page


def _unicode(value: object) -> str:
    return str(value).encode(errors="replace").decode()


def _markup(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Html):
            yield child
        elif isinstance(child, (list, tuple)) or (isinstance(child, Iterable) and not isinstance(child, str)):
            yield from _markup(child)
        elif child is not None:
            yield text(child)


def _attribute(key: str, value: object) -> str:
    if value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(value)}"'
