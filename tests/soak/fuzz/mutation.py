"""Ways to spoil bytes and texts, drawn from a seeded generator: the same seed, the same damage."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

_EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER_BYTES = 512
_MOST_RANDOM = 4096

_NUMBERS = ("0", "-1", "1e400", "nan", "-inf", "65536", "4294967296", "9" * 40, "0x7fffffff", "1e-320", "")
_VALUES = (
    *_NUMBERS,
    *('""', '"\\u0000"', '"\\ud800"', "'", "[]", "[[]]", "{}", "{a={b={}}}", "true", "1979-05-27T07:32:00Z"),
    *('"../../../etc/passwd"', '"rtsp://u:p@ss@h:x/"', '"file://h/x"', '"camera9999"', '"%s%n%d"'),
    *('"' + "x" * 5000 + '"', "[" * 400 + "]" * 400, "[" * 3000, "{a=" * 3000, "[[0.1,0.2],[0.3]]"),
)


def spoil(data: bytes, draw: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """``data`` with one to four kinds of damage; or zeros, or noise. ``others``: to splice with."""
    whole = draw.random()
    if whole < 0.06:
        return draw.randbytes(draw.randrange(_MOST_RANDOM))
    if whole < 0.09:
        return bytes(draw.randrange(1, _MOST_RANDOM))
    damaged = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        draw.choice(_BYTE_DAMAGE)(damaged, draw)
    if others and draw.random() < 0.1:
        other = draw.choice(others)
        damaged[draw.randrange(len(damaged) + 1) :] = other[draw.randrange(len(other)) :]
    return bytes(damaged)


def spoil_text(text: str, draw: random.Random) -> bytes:
    """A text of lines, such as TOML or a reply's headers, damaged by lines, by values or as bytes."""
    if draw.random() < 0.2:
        return spoil(text.encode(), draw)
    lines = text.split("\n")
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        draw.choice(_LINE_DAMAGE)(lines, draw)
    return "\n".join(lines).encode("utf-8", "surrogateescape")


# ---------------------------------------------------------------------- bytes


def _place(data: bytearray, draw: random.Random) -> int:
    """Half of all damage goes to the header."""
    return draw.randrange(max(1, min(len(data), _HEADER_BYTES) if draw.random() < 0.5 else len(data)))


def _truncate(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data) + 1) :]


def _flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 2, 8, 32))):
        if data:
            data[_place(data, draw)] ^= 1 << draw.randrange(8)


def _overwrite(data: bytearray, draw: random.Random) -> None:
    start, length = _place(data, draw), draw.randrange(1, 64)
    data[start : start + length] = draw.randbytes(length)


def _extreme(data: bytearray, draw: random.Random) -> None:
    width, start = draw.choice((1, 2, 4, 8)), _place(data, draw)
    value = draw.choice(_EXTREME) & ((1 << 8 * width) - 1)
    data[start : start + width] = value.to_bytes(width, draw.choice(("big", "little")))


def _zero(data: bytearray, draw: random.Random) -> None:
    start, length = _place(data, draw), draw.randrange(1, 256)
    data[start : start + length] = bytes(len(data[start : start + length]))


def _remove(data: bytearray, draw: random.Random) -> None:
    start = _place(data, draw)
    del data[start : start + draw.randrange(1, 256)]


def _repeat(data: bytearray, draw: random.Random) -> None:
    start = _place(data, draw)
    data[start:start] = data[start : start + draw.randrange(1, 256)] * draw.choice((1, 1, 20))


_BYTE_DAMAGE: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_truncate, _flip, _flip, _overwrite, _extreme, _extreme, _extreme, _zero, _remove, _repeat),
)

# ---------------------------------------------------------------------- lines


def _drop_line(lines: list[str], draw: random.Random) -> None:
    if lines:
        del lines[draw.randrange(len(lines))]


def _double_line(lines: list[str], draw: random.Random) -> None:
    if lines:
        line = lines[draw.randrange(len(lines))]
        lines[draw.randrange(len(lines)) : 0] = [line] * draw.choice((1, 1, 200))


def _swap_lines(lines: list[str], draw: random.Random) -> None:
    if lines:
        a, b = draw.randrange(len(lines)), draw.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]


def _change_value(lines: list[str], draw: random.Random) -> None:
    """What stands behind ``=`` or ``:`` becomes something else."""
    places = [index for index, line in enumerate(lines) if re.search(r"[=:]", line)]
    if places:
        index = draw.choice(places)
        key, sign, _ = re.split(r"([=:])", lines[index], maxsplit=1)
        lines[index] = f"{key}{sign} {draw.choice(_VALUES)}"


def _change_number(lines: list[str], draw: random.Random) -> None:
    places = [index for index, line in enumerate(lines) if re.search(r"\d", line)]
    if places:
        index = draw.choice(places)
        number = draw.choice(list(re.finditer(r"\d+", lines[index])))
        lines[index] = lines[index][: number.start()] + draw.choice(_NUMBERS) + lines[index][number.end() :]


def _spoil_line(lines: list[str], draw: random.Random) -> None:
    if lines:
        index = draw.randrange(len(lines))
        data = bytearray(lines[index].encode("utf-8", "surrogateescape"))
        draw.choice(_BYTE_DAMAGE)(data, draw)
        lines[index] = data.decode("utf-8", "surrogateescape")


_LINE_DAMAGE: tuple[Callable[[list[str], random.Random], None], ...] = (
    *(_drop_line, _double_line, _swap_lines, _change_value, _change_value, _change_number, _spoil_line),
)
