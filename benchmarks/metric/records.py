"""JSON read strictly: an error names the file, the line or record, the key and what was expected.

:func:`read_lines` reads JSON Lines, one object a line; an :class:`Item` hands out an object's values with
their kinds checked. Keys that nobody asks for are allowed. Only a newline character ends a line: JSON strings
may hold other line separators. What JSON does not have (NaN, infinity) and a key twice in one object are
refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edge_runtime.errors import EdgeError

_REQUIRED = object()


class FormatError(EdgeError):
    """A file that does not hold what its format says."""

    exit_code = 2


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

    def others(self, *known: str) -> dict[str, Any]:
        """The object without the keys that are ``known``."""
        return {key: value for key, value in self.value.items() if key not in known}

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

    def seconds(self, key: str, *, positive: bool = False) -> float:
        """A number of seconds, 0 or more; with ``positive`` more than 0."""
        return self._seconds(key, self.get(key), positive)

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
        values = self.get(key)
        if not isinstance(values, list):
            self.fail(key, f"a list of objects, got {kind_of(values)}")
        return [self._child(f"{key}[{index}]", each) for index, each in enumerate(values)]

    def _child(self, key: str, value: object) -> Item:
        return Item(self.place, ".".join(part for part in (self.key, key) if part), value)

    def _seconds(self, key: str, value: object, positive: bool = False) -> float:
        expected = "a positive number of seconds" if positive else "a number of seconds, 0 or more"
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"{expected}, got {kind_of(value)}")
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if not math.isfinite(seconds) or seconds < 0 or (positive and seconds == 0):
            self.fail(key, f"{expected}, got {seconds:g}")
        return seconds


def read_lines(path: Path) -> Iterator[Item]:
    """Every line of a JSON Lines file, in order. Raises FormatError."""
    data = read_bytes(path).removesuffix(b"\n")
    for number, line in enumerate(data.split(b"\n") if data else [], start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{path}, line {number}: expected UTF-8 text, byte {error.start + 1} is not"
            ) from error
        yield parse_line(text, path, number)


def parse_line(text: str, path: Path, number: int) -> Item:
    """One line of a JSON Lines file. Raises FormatError."""
    place = Place(path, "line", number)
    return Item(place, "", parse_json(text, str(place), expected="one JSON object"))


def read_bytes(path: Path) -> bytes:
    """A whole file, without a byte order mark. Raises FormatError."""
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def parse_json(text: str, where: str, *, expected: str = "JSON") -> Any:
    """The value that ``text`` is; ``where`` begins the error's message. Raises FormatError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        cause = f"an error at {line}column {error.colno} ({error.msg})" if text.strip() else "nothing"
    except ValueError as error:
        cause = str(error)
    except RecursionError:
        cause = "too deeply nested brackets"
    raise FormatError(f"{where}: expected {expected}, got {cause}")


def kind_of(value: object, *, show: bool = False) -> str:
    """What a JSON value is, in words; with ``show`` a number is given itself."""
    if value is None:
        return "null"
    for kind, name in ((bool, "a boolean"), (str, "text"), (list, "a list"), (dict, "an object")):
        if isinstance(value, kind):
            return name
    return f"{value:g}" if show and isinstance(value, int | float) else "a number"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not have")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} twice in one object")
    return value
