"""Read the tables of a TOML file key by key, and collect every mistake with its file, line and key.

A key that cannot be used is noted and its default returned, so one pass over the file finds every mistake.
The known keys are those that were read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from edge_runtime.config.key_lines import KeyPath
from edge_runtime.errors import Finding, Status

_T = TypeVar("_T")
_Default = TypeVar("_Default")
MOST = 1e9
"""Seconds and sizes beyond are mistakes, and more than the system's clocks and sockets can count."""


class TomlFile:
    """The file at ``path``, on which line each key stands, and the findings about it."""

    def __init__(self, path: Path, lines: Mapping[KeyPath, int]) -> None:
        self.path = path
        self._lines = lines
        self._findings: list[Finding] = []

    def finding(self, at: KeyPath, status: Status, detail: str, exit_code: int = 2) -> Finding:
        """A finding about the key ``at``."""
        return Finding(dotted(at), status, detail, "", self.path, self.line(at), exit_code)

    def note(self, at: KeyPath, detail: str) -> None:
        """Keep a finding about a key that cannot be used."""
        self._findings.append(self.finding(at, "fail", detail))

    def line(self, at: KeyPath) -> int | None:
        """Where a key stands; a missing one, where its table begins."""
        return next((self._lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self._lines), None)

    def in_order(self) -> tuple[Finding, ...]:
        """All findings, from the top of the file to its end."""
        return tuple(sorted(self._findings, key=lambda finding: finding.line or 0))


class Table:
    """One table of the file. Every method asks for a key; :meth:`close` notes what nobody read and
    what is missing.
    """

    def __init__(self, data: Mapping[str, Any], at: KeyPath, file: TomlFile) -> None:
        self.at = at
        self._data = data
        self._file = file
        self._read_keys: list[str] = []
        self._missing: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def wrong(self, key: str, text: str) -> None:
        self._file.note((*self.at, key), text)

    def value(self, key: str) -> Any:
        """As it stands in the file; None when it does not."""
        self._read_keys.append(key)
        return self._data.get(key)

    def forbid(self, key: str, why: str) -> None:
        """A key that people may expect here, and why it is none; not offered as a correction."""
        if key in self._data:
            self._read_keys.append(key)
            self.wrong(key, why)

    def text(self, key: str, default: _Default) -> str | _Default:
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.wrong(key, f"expected a text in quotes, got {value!r}")
            return default
        if "\0" in value:  # no path, address or name may hold one
            self.wrong(key, "expected a text without the character U+0000")
            return default
        return value

    def required_text(self, key: str) -> str | None:
        """None, and a problem, when it is missing or no text."""
        if key not in self:
            self._missing.append(key)
        return self.text(key, None)

    def parsed(self, key: str, parse: Callable[[str], _T], default: _Default) -> _T | _Default:
        """A text that ``parse`` reads; its ValueError says what is wrong with it."""
        text = self.text(key, None)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError as err:
            self.wrong(key, str(err))
            return default

    def number(
        self,
        key: str,
        default: _Default,
        accept: Callable[[float], bool] = lambda value: True,
        expected: str = "a number",
    ) -> float | _Default:
        value = self.value(key)
        if value is None:
            return default
        if not _is_number(value):
            self.wrong(key, f"expected a number, got {value!r}")
            return default
        if not accept(float(value)):
            self.wrong(key, f"expected {expected}, got {value:g}")
            return default
        return float(value)

    def positive(self, key: str, default: _Default, most: float = MOST) -> float | _Default:
        expected = f"a number greater than 0 and at most {most:g}"
        return self.number(key, default, lambda value: 0 < value <= most, expected)

    def seconds(self, key: str, default: _Default, *, zero: bool = True) -> float | _Default:
        """``zero``: may it be 0?"""
        expected = f"seconds from 0 to {MOST:g}" if zero else f"seconds greater than 0 and at most {MOST:g}"
        return self.number(key, default, lambda value: 0 < value <= MOST or (zero and value == 0), expected)

    def whole(
        self, key: str, default: _Default, accept: Callable[[int], bool], expected: str
    ) -> int | _Default:
        value = self.value(key)
        if value is None:
            return default
        if type(value) is not int or not accept(value):
            self.wrong(key, f"expected {expected}, got {value!r}")
            return default
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.value(key)
        if value is None:
            return default
        if type(value) is not bool:
            self.wrong(key, f"expected true or false, got {value!r}")
            return default
        return value

    def items(self, key: str) -> list[Any]:
        """Of a list; empty when it is not given."""
        value = self.value(key)
        if value is not None and not isinstance(value, list):
            self.wrong(key, f"expected a list in brackets, got {value!r}")
        return value if isinstance(value, list) else []

    def numbers(self, key: str, count: int) -> tuple[float, ...] | None:
        """A list of ``count`` numbers; None when it is not given or is none."""
        value = self.value(key)
        if value is None:
            return None
        return self.as_numbers(key, value, count)

    def as_numbers(self, key: str, value: Any, count: int) -> tuple[float, ...] | None:
        """The same of a ``value`` that stands within ``key``."""
        if not isinstance(value, list):
            self.wrong(key, f"expected a list in brackets, got {value!r}")
        elif len(value) != count or not all(map(_is_number, value)):
            self.wrong(key, f"expected {count} numbers, got {value!r}")
        else:
            return tuple(map(float, value))
        return None

    def path(self, key: str) -> Path | None:
        """A relative path is meant from the configuration file's folder."""
        text = self.text(key, None)
        return self.near(text) if text else None

    def near(self, text: str) -> Path:
        path = Path(text)
        with suppress(RuntimeError):  # "~somebody" nobody knows stays a name
            path = path.expanduser()
        return self._file.path.parent / path

    def table(self, key: str, read: Callable[[Table], _T]) -> _T:
        """``[key]``; an empty one when it is not given."""
        value = self.value(key)
        at = (*self.at, key)
        if value is not None and not isinstance(value, dict):
            self._file.note(at, f"expected a table, [{dotted(at)}], got {value!r}")
        return self._read(value if isinstance(value, dict) else {}, at, read)

    def tables(self, key: str, read: Callable[[Table], _T]) -> list[_T]:
        """Every ``[[key]]``."""
        values = self.value(key)
        at = (*self.at, key)
        if values is None:
            return []
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            self._file.note(at, f"expected [[{dotted(at)}]] with two brackets: there may be several")
            return []
        return [self._read(value, (*at, index), read) for index, value in enumerate(values)]

    def close(self) -> None:
        """Note every key that nobody read, and every missing one that none of these was meant to be."""
        meant: list[str] = []
        for key in self._data:
            if key not in self._read_keys:
                near = get_close_matches(key, self._read_keys, n=1)
                meant += near
                hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(self._read_keys)}"
                self.wrong(key, f"unknown key{hint}")
        for key in self._missing:
            if key not in meant:
                self.wrong(key, "is missing")

    def _read(self, data: Mapping[str, Any], at: KeyPath, read: Callable[[Table], _T]) -> _T:
        table = Table(data, at, self._file)
        result = read(table)
        table.close()
        return result


def dotted(at: KeyPath) -> str:
    return ".".join(str(part) for part in at if isinstance(part, str))


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return abs(float(value)) < float("inf")  # nan is not less
    except OverflowError:  # a whole number of hundreds of digits
        return False
