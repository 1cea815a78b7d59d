"""Price lists that commands are given beside the bundled one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidepool.prices import book
from tidepool.prices.book import COLUMNS, Price, PriceError

PricesOption = Annotated[
    Path | None,
    typer.Option("--prices", metavar="FILE", help="A price list (CSV) that comes before the bundled one."),
]


def read(file: Path | None) -> list[Price]:
    """Its prices, none without a file. Raises PriceError."""
    if file is None:
        return []
    wanted = f"a price list is a CSV file with the columns {','.join(COLUMNS)}"
    try:
        return book.loads(file.read_text(encoding="utf-8"), str(file))
    except OSError as error:
        raise PriceError(f"--prices {file}: {error.strerror}; {wanted}") from error
    except UnicodeDecodeError as error:
        raise PriceError(f"--prices {file}: not UTF-8 ({error}); {wanted}") from error
