"""Reading other projects' JSON strictly: an error names the file, the record, the key and what was expected.

A file is a JSON array of objects, one object, or JSON Lines; :func:`read_records` finds out which. Keys that
nobody asks for are allowed, because every one of these formats carries keys of its own.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.streampro.annotations import FormatError
from edge_runtime.errors import SinkError

_REQUIRED = object()


@dataclass(frozen=True)
class Place:
    """Where a record was read: ``kind`` is "record" in an array and "line" in JSON Lines, from 1."""

    path: Path
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.path}, {self.short}"

    @property
    def short(self) -> str:
        """Without the file: "record 3"."""
        return f"{self.kind} {self.number}"


class Item:
    """A JSON object and the way to it. Methods raise FormatError for a value of another kind."""

    def __init__(self, place: Place, key: str, value: object) -> None:
        self.place, self.key = place, key
        if not isinstance(value, dict):
            self.fail("", f"an object, got {kind_of(value)}")
        self.value: dict[str, Any] = value

    def __contains__(self, key: str) -> bool:
        return key in self.value

    def fail(self, key: str, expected: str) -> NoReturn:
        """Raise FormatError: at ``key`` (empty: at this object) something else was ``expected``."""
        full = ".".join(part for part in (self.key, key) if part)
        where = f"{self.place}" + (f", key {full!r}" if full else "")
        raise FormatError(f"{where}: expected {expected}")

    def get(self, key: str, default: object = _REQUIRED) -> Any:
        """Any value; ``default`` for a missing key."""
        if key not in self.value and default is _REQUIRED:
            self.fail(key, "a value, the key is missing")
        return self.value.get(key, default)

    def text(self, key: str, *, empty: bool = False) -> str:
        """Text, by default with more in it than blanks."""
        value = self.get(key)
        if not isinstance(value, str):
            self.fail(key, f"text, got {kind_of(value)}")
        if not empty and not value.strip():
            self.fail(key, "text that is not empty")
        if any("\ud800" <= character <= "\udfff" for character in value):
            self.fail(key, "text without half a surrogate pair")
        return value

    def seconds(self, key: str) -> float:
        """A number of seconds, 0 or more."""
        return self._seconds(key, self.get(key))

    def integer(self, key: str) -> int:
        """A whole number, 0 or more."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.fail(key, f"a whole number, 0 or more, got {kind_of(value, show=True)}")
        return value

    def span(self, key: str) -> tuple[float, float]:
        """``[start, end]`` in seconds, the end not before the start."""
        value = self.array(key)
        if len(value) != 2:
            self.fail(key, f"[start, end], got a list of {len(value)}")
        start, end = (self._seconds(f"{key}[{index}]", each) for index, each in enumerate(value))
        if end < start:
            self.fail(key, f"an end not before the start ({start:g}), got {end:g}")
        return start, end

    def times(self, key: str) -> list[float]:
        """A list of seconds."""
        return [self._seconds(f"{key}[{index}]", each) for index, each in enumerate(self.array(key))]

    def texts(self, key: str) -> list[str]:
        """A list of texts that are not empty."""
        values = self.array(key)
        for index, each in enumerate(values):
            if not isinstance(each, str) or not each.strip():
                self.fail(f"{key}[{index}]", "text that is not empty")
        return values

    def array(self, key: str) -> list[Any]:
        """A list of anything."""
        value = self.get(key)
        if not isinstance(value, list):
            self.fail(key, f"a list, got {kind_of(value)}")
        return value

    def child(self, key: str) -> Item:
        """An object."""
        return self._child(key, self.get(key))

    def items(self, key: str) -> list[Item]:
        """A list of objects."""
        return [self._child(f"{key}[{index}]", each) for index, each in enumerate(self.array(key))]

    def _child(self, key: str, value: object) -> Item:
        return Item(self.place, ".".join(part for part in (self.key, key) if part), value)

    def _seconds(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"a number of seconds, 0 or more, got {kind_of(value)}")
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if not math.isfinite(seconds) or seconds < 0:
            self.fail(key, f"a number of seconds, 0 or more, got {seconds:g}")
        return seconds


def read_records(path: Path) -> list[Item]:
    """All objects of a JSON array, of JSON Lines, or the only one. Raises FormatError."""
    text = read_text(path)
    if text.lstrip()[:1] == "[":
        values = _parse(text, f"{path}")
        return [Item(Place(path, "record", n), "", value) for n, value in enumerate(values, start=1)]
    lines = text.removesuffix("\n").split("\n") if text else []
    if len(lines) > 1 and not _is_object(lines[0]):  # one object over several lines
        return [Item(Place(path, "record", 1), "", _parse(text, f"{path}"))]
    places = [Place(path, "line", n) for n in range(1, len(lines) + 1)]
    return [Item(place, "", _parse(line, f"{place}")) for place, line in zip(places, lines, strict=True)]


def read_object(path: Path) -> Item:
    """The object that a whole file is. Raises FormatError."""
    return Item(Place(path, "record", 1), "", _parse(read_text(path), f"{path}"))


def read_text(path: Path) -> str:
    """A whole file as UTF-8, without a byte order mark. Raises FormatError."""
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: expected UTF-8 text, byte {error.start + 1} is not") from error


def write_text(path: Path, parts: Iterable[str]) -> None:
    """Write a whole file or none: to a temporary file beside it, then renamed. Raises SinkError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror}); choose another path") from error
    finally:
        temporary.unlink(missing_ok=True)


def kind_of(value: object, *, show: bool = False) -> str:
    """What a JSON value is, in words; with ``show`` a number is given itself."""
    if value is None:
        return "null"
    for kind, name in ((bool, "a boolean"), (str, "text"), (list, "a list"), (dict, "an object")):
        if isinstance(value, kind):
            return name
    return f"{value:g}" if show and isinstance(value, int | float) else "a number"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        cause = "nothing" if not text.strip() else f"an error at line {error.lineno}, column {error.colno}"
        raise FormatError(f"{where}: expected JSON, got {cause} ({error.msg})") from error
    except ValueError as error:
        raise FormatError(f"{where}: expected JSON, got {error}") from error
    except RecursionError as error:
        raise FormatError(f"{where}: expected JSON, got too deeply nested brackets") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not have")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} twice in one object")
    return value
