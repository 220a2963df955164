"""Other projects' files: a JSON array of objects, one object, or JSON Lines, found by content."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.metric.records import FormatError, Item, Place, parse_json, parse_line, read_bytes


def read_records(path: Path) -> list[Item]:
    """All objects of a JSON array, of JSON Lines, or the only one. Raises FormatError."""
    text = read_text(path)
    if text.lstrip()[:1] == "[":
        values = parse_json(text, f"{path}")
        return [Item(Place(path, "record", n), "", value) for n, value in enumerate(values, start=1)]
    lines = text.removesuffix("\n").split("\n") if text else []
    if len(lines) > 1 and not _is_object(lines[0]):  # one object over several lines
        return [Item(Place(path, "record", 1), "", parse_json(text, f"{path}"))]
    return [parse_line(line, path, number) for number, line in enumerate(lines, start=1)]


def read_object(path: Path) -> Item:
    """The object that a whole file is. Raises FormatError."""
    return Item(Place(path, "record", 1), "", parse_json(read_text(path), f"{path}"))


def read_text(path: Path) -> str:
    """A whole file as UTF-8, without a byte order mark. Raises FormatError."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: expected UTF-8 text, byte {error.start + 1} is not") from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
