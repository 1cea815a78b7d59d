"""How a command says that it can't do what it was asked for: what is wrong and what to do, and exit code 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from infra.local.errors import LocalError


class CommandError(Exception):
    """Something that whoever gave the command can mend; the message says what and how. Each kind is a subclass."""


@contextmanager
def told(verb: str, *others: type[Exception]) -> Iterator[None]:
    """End the command where one of our errors is raised, without a traceback. others: kinds beside ours and the local
    cloud's."""
    kinds: tuple[type[Exception], ...] = (CommandError, LocalError, *others)
    try:
        yield
    except kinds as error:
        typer.echo(f"tidepool {verb}: {error}", err=True)
        raise typer.Exit(1) from error
