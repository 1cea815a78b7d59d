"""What `tidepool local status` and `up` print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.local.status import Status


def show(found: Status, console: Console) -> None:
    """Every table, the releases that are not deployed here among them; problems are told elsewhere."""
    for title, rows in found.as_dict().items():
        if title not in ("not_here", "problems"):
            _table(console, title, rows)
    if missing := releases(found.not_here):
        _table(console, "releases that are not deployed here", missing)
    if others := len(found.not_here) - len(missing):
        console.print(f"not here: {others} of the stack's other resources; --json lists them with the reasons")


def releases(not_here: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Of what can't be had here the Helm releases: chart, version, where it comes from, and why it is not here."""
    rows = []
    for each in not_here:
        if "chart" in each:
            folder, _, chart = each["chart"].rpartition("/")  # a chart of a registry is named with where it is
            row = {"release": each["name"], "chart": chart, "version": each["version"]}
            rows.append(row | {"repository": each["repository"] or folder, "reason": each["reason"]})
    return rows


def releases_told(not_here: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each release that is not deployed here."""
    return [
        f"not deployed here: {row['chart']} {row['version']} of {row['repository']} ({row['reason']})"
        for row in releases(not_here)
    ]


def _table(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in rows[0] if rows else ():
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table if rows else f"{title}: none", soft_wrap=False)
