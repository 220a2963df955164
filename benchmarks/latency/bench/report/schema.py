"""What a report looks like: ``report.schema.json``, and whether a report keeps to it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from edge_runtime.errors import ConfigError


def read_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(
        files("benchmarks.latency.bench.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    )
    return schema


def read_report(path: Path) -> dict[str, Any]:
    """Read a report from its file. Raises ConfigError for one that is missing, no JSON or no report."""
    again = "give the report.json that `edge-run bench --report DIR` wrote"
    try:
        report: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); {again}") from error
    if (wrong := first_fault(report)) is not None:
        raise ConfigError(f"{path}: not a latency report ({wrong}); {again}")
    assert isinstance(report, dict)
    return report


def first_fault(report: Any) -> str | None:
    """Say in one line where a report departs from the schema; None when it does not."""
    error = best_match(Draft202012Validator(read_schema()).iter_errors(report))
    if error is None:
        return None
    message = error.message if len(error.message) <= 200 else f"{error.message[:200]}..."
    return f"report{error.json_path.removeprefix('$')}: {message}"
