"""Golden files: rendered text, kept beside the tests to be read and compared.

`TIDEPOOL_GOLDEN=write` writes them anew; look at the difference before you commit it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"
VARIABLE = "TIDEPOOL_GOLDEN"


def check(name: str, text: str) -> None:
    """The text is what `golden/<name>` says, to the letter. `name` may have folders, such as `tags/dev/spot.json`."""
    path = FOLDER / name
    if os.environ.get(VARIABLE) == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing: run the test with {VARIABLE}=write, read the file and commit it"
    message = f"{path} differs: if the change is meant, run the test with {VARIABLE}=write and commit the file"
    assert text == path.read_text(encoding="utf-8"), message


def check_json(name: str, value: Any) -> None:
    """As `check`, for plain data, with sorted keys."""
    check(name, json.dumps(value, indent=2, sort_keys=True) + "\n")
