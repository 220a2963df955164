"""What a report looks like: ``report.schema.json``, and a check for the part of JSON Schema that it uses."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def read_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(
        files("benchmarks.latency.bench.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    )
    return schema


def read_report(path: Path) -> dict[str, Any]:
    """A report from its file. Raises ConfigError for one that is missing, no JSON or no report."""
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
    """Where the report first departs from the schema, in words; None when it does not."""
    schema = read_schema()
    return _fault(report, schema, schema["$defs"], "report")


def _fault(value: Any, schema: dict[str, Any], definitions: dict[str, Any], place: str) -> str | None:
    if "$ref" in schema:
        return _fault(value, definitions[schema["$ref"].rpartition("/")[2]], definitions, place)
    if "const" in schema and value != schema["const"]:
        return f"{place} is not {schema['const']!r}"
    if "anyOf" in schema:
        faults = [_fault(value, option, definitions, place) for option in schema["anyOf"]]
        return None if None in faults else faults[0]
    if "type" in schema:
        is_bool = isinstance(value, bool)
        if not isinstance(value, _TYPES[schema["type"]]) or (is_bool and schema["type"] != "boolean"):
            return f"{place} is no {schema['type']}"
    if "minimum" in schema and value < schema["minimum"]:
        return f"{place} is less than {schema['minimum']}"
    if isinstance(value, dict):
        known = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                return f"{place} has no {name}"
        others = schema.get("additionalProperties", True)
        for name, part in value.items():
            inner = known.get(name, others)
            if inner is False:
                return f"{place} has an unknown {name}"
            if isinstance(inner, dict) and (fault := _fault(part, inner, definitions, f"{place}.{name}")):
                return fault
    if isinstance(value, list) and "items" in schema:
        for index, part in enumerate(value):
            if fault := _fault(part, schema["items"], definitions, f"{place}[{index}]"):
                return fault
    return None
