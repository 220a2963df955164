"""On which line of a TOML text each table and key stands: the standard library's parser does not tell."""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]
"""A key's way from the top: ``("camera", 0, "ask", 1, "text")``."""

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_NAME = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_PART = re.compile(_NAME)
_KEY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line numbers (from 1) of tables and keys. ``text`` is taken to be valid TOML.

    Keys within an inline table or an array have no entry of their own; look up the key that holds them.
    """
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    closing: str | None = None  # of the multi-line text that a line lies in
    depth = 0  # of the multi-line array that a line lies in
    for number, line in enumerate(text.splitlines(), start=1):
        if closing is not None:
            if closing in line:
                closing = None
            continue
        if depth == 0:
            if header := _HEADER.match(line):
                names = _parts(header[2])
                table = _resolve(names, counts, new_item=header[1] == "[[")
                lines.setdefault(table, number)
                lines.setdefault(table[:-1] if header[1] == "[[" else table, number)
                continue
            if key := _KEY.match(line):
                path = table
                for name in _parts(key[1]):
                    path = (*path, name)
                    lines.setdefault(path, number)
        closing, depth = _open_at_end(line, depth)
    return lines


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]


def _resolve(names: list[str], counts: dict[KeyPath, int], *, new_item: bool) -> KeyPath:
    """The path of a header's table; an array of tables is followed by the index of its last item."""
    path: KeyPath = ()
    for position, name in enumerate(names):
        path = (*path, name)
        if new_item and position == len(names) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _open_at_end(line: str, depth: int) -> tuple[str | None, int]:
    """Which triple quote, and how many brackets, a line leaves open."""
    position = 0
    while position < len(line):
        for quote in ('"""', "'''", '"', "'"):
            if line.startswith(quote, position):
                end = _text_end(line, position + len(quote), quote)
                if end < 0:
                    return (quote if len(quote) == 3 else None), depth
                position = end + len(quote)
                break
        else:
            if line[position] == "#":
                break
            depth += (line[position] in "[{") - (line[position] in "]}")
            position += 1
    return None, max(0, depth)


def _text_end(line: str, start: int, quote: str) -> int:
    """Where ``quote`` closes, or -1; a backslash escapes in texts with double quotes."""
    position = start
    while position < len(line):
        if quote[0] == '"' and line[position] == "\\":
            position += 2
        elif line.startswith(quote, position):
            return position
        else:
            position += 1
    return -1
