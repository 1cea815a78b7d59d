"""Tables that fit the terminal: where room is scarce, columns to spare are left out and names cut, figures never."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2
_SHORTEST_NAME = 4


class Column(NamedTuple):
    """rank: columns of the highest go first where there is no room for all; 0: it stays, whatever the width.

    least: a name is not cut to fewer characters as long as there is a column that can be spared; None: never cut.
    """

    title: str
    rank: int
    justify: JustifyMethod
    least: int | None = None


def name(title: str, rank: int = 0, least: int = 20) -> Column:
    """What things are called: cut where it is too long."""
    return Column(title, rank, "left", least)


def word(title: str, rank: int = 0) -> Column:
    """What would say nothing if it were cut, such as a state or a day."""
    return Column(title, rank, "left")


def figure(title: str, rank: int = 0) -> Column:
    """A number, whole or not at all."""
    return Column(title, rank, "right")


def figures(*titles: str, rank: int = 1) -> list[Column]:
    """Numbers of which the last goes first, and the first, of this rank, last."""
    return [figure(title, rank + number) for number, title in enumerate(titles)]


class FittedTable:
    """A table without lines, for `Console.print`, that takes the width which it is printed with.

    What was left out is said below it.
    """

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._rows: list[list[Text]] = []
        self._has_sum = False

    def add_row(self, *cells: str | Text) -> None:
        """A line; what is no Text is shown as it is, without any markup in it."""
        self._rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in cells])

    def add_sum(self, *cells: str) -> None:
        """The last line, of all the others together."""
        self.add_row(*cells)
        self._has_sum = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table and the sentence below it."""
        wide = [
            max(cell_len(column.title), *(row[index].cell_len for row in self._rows), 0)
            for index, column in enumerate(self._columns)
        ]
        kept = self._kept(wide, options.max_width)
        widths = self._fitted({index: wide[index] for index in kept}, options.max_width)
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for index in kept:
            column = self._columns[index]
            table.add_column(
                Text(column.title), justify=column.justify, no_wrap=True, overflow="ellipsis", width=widths[index]
            )
        for row in self._rows:
            is_sum = self._has_sum and row is self._rows[-1]
            if is_sum:
                table.add_section()
            table.add_row(*(row[index] for index in kept), style="bold" if is_sum else None)
        yield table
        missing = [column.title for index, column in enumerate(self._columns) if index not in kept]
        if missing:
            yield Text(f"(no room for {', '.join(missing)})", style="dim")

    def _kept(self, wide: list[int], room: int) -> list[int]:
        """The columns, by number, for which there is room."""
        kept = list(range(len(self._columns)))
        ranks = sorted({column.rank for column in self._columns if column.rank}, reverse=True)
        for rank in ranks:
            needed = (min(wide[index], self._columns[index].least or wide[index]) for index in kept)
            if sum(needed) + _GAP * (len(kept) - 1) <= room:
                break
            kept = [index for index in kept if self._columns[index].rank != rank]
        return kept

    def _fitted(self, widths: dict[int, int], room: int) -> dict[int, int]:
        """Widths that fit: the longest names give way first."""
        names = [index for index in widths if self._columns[index].least is not None]
        over = sum(widths.values()) + _GAP * (len(widths) - 1) - room
        while over > 0 and names and (longest := max(names, key=lambda index: widths[index])) is not None:
            if widths[longest] <= _SHORTEST_NAME:
                break
            widths[longest] -= 1
            over -= 1
        return widths
