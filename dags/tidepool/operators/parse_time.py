"""What parsing DAG files costs Airflow's DAG processor: `tidepool bench parse` runs this.

    python -m tidepool.operators.parse_time FOLDER ROUNDS OUTPUT [MODULE …]

Parses every file of FOLDER in turn, ROUNDS times, each time in a process forked from one that has imported what the DAG
processor has: MODULEs, and what each file imports of Airflow's. OUTPUT gets JSON, a list for each file's name of
{"cpu_seconds", "wall_seconds", "tasks", "serialized_bytes", "errors": {file: traceback}}.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog
from airflow.dag_processing import processor

_LOG = structlog.get_logger()


def main(folder: str, rounds: str, output: str, *modules: str) -> int:
    """Parse and time them."""
    files = sorted(Path(folder).glob("*.py"))
    for module in modules:
        importlib.import_module(module)
    for file in files:
        processor._pre_import_airflow_modules(str(file), _LOG)
        _apart(file)  # not counted: it fills the page cache
    gc.freeze()  # as the DAG processor does: else each child may look once through all that its parent has
    found: dict[str, list[dict[str, Any]]] = {file.stem: [] for file in files}
    for number in range(int(rounds)):
        first = number % len(files)
        for file in files[first:] + files[:first]:
            found[file.stem].append(_apart(file))
    Path(output).write_text(json.dumps(found), encoding="utf-8")
    return 0


def _apart(file: Path) -> dict[str, Any]:
    """Parse a file in a process of its own: modules stay imported where they are."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as told:
        child = os.fork()
        if not child:
            try:
                Path(told.name).write_text(json.dumps(parse(file)), encoding="utf-8")
            finally:
                os._exit(0)  # nothing of the parent's may run in here
        os.waitpid(child, 0)
        text = told.read()
    if not text:
        raise SystemExit(f"the process that parsed {file.name} ended before it was done")
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def parse(file: Path) -> dict[str, Any]:
    """Do what the DAG processor's child does with a file, and time it."""
    asked = processor.DagFileParseRequest(
        file=str(file), bundle_path=file.parent, bundle_name="bench", callback_requests=[]
    )
    wall, cpu = time.perf_counter(), time.process_time()
    result = processor._parse_file(asked, _LOG)
    told: dict[str, Any] = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    dags = [each.data for each in result.serialized_dags] if result else []
    told["tasks"] = sum(len(each["dag"]["tasks"]) for each in dags)
    told["serialized_bytes"] = len(json.dumps(dags))
    told["errors"] = (result.import_errors or {}) if result else {file.name: "the DAG processor returned nothing"}
    return told


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
