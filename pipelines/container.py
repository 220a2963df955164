"""Is a video file whole? Answered from its structure, because GStreamer ends a cut file without any error.

Only the outermost sizes are read (a few dozen bytes), never the content. Formats: MP4, Matroska, AVI.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_EBML = 0x1A45DFA3
_SEGMENT = 0x18538067
_MP4_STARTS = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
_MOST_BOXES = 10_000


@dataclass(frozen=True)
class Structure:
    """What the outermost headers say; the defaults when they say nothing."""

    missing_bytes: int = 0
    """Bytes promised beyond the file's end: it was cut off."""
    no_index: bool = False
    """An MP4 without ``moov``: a recording never finished. It cannot be played at all."""


def inspect(path: str) -> Structure:
    """Look at the file's outermost structure. Never raises: what cannot be read says nothing."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(12)
            file.seek(0)
            if head[4:8] in _MP4_STARTS:
                return _inspect_mp4(file, size)
            if head[:4] == _EBML.to_bytes(4, "big"):
                return Structure(max(0, _end_of_segment(file) - size))
            if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
                return Structure(max(0, int.from_bytes(head[4:8], "little") + 8 - size))
    except (OSError, struct.error):
        pass
    return Structure()


def _inspect_mp4(file: BinaryIO, size: int) -> Structure:
    """Walk the top-level boxes."""
    position, kinds = 0, set()
    for _ in range(_MOST_BOXES):
        if position + 8 > size:
            break
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        kinds.add(kind)
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        elif length == 0:  # to the end of the file
            length = size - position
        if length < 8:  # not a box: damage of another kind
            return Structure()
        position += length
    return Structure(max(0, position - size), no_index=b"mdat" in kinds and b"moov" not in kinds)


def _end_of_segment(file: BinaryIO) -> int:
    """Where a Matroska file's segment says it ends; 0 when its size is left open (a live recording)."""
    identity, _ = _read_vint(file, keep_marker=True)
    length, known = _read_vint(file)
    if identity != _EBML or not known:
        return 0
    file.seek(length, os.SEEK_CUR)
    identity, _ = _read_vint(file, keep_marker=True)
    length, known = _read_vint(file)
    return file.tell() + length if identity == _SEGMENT and known else 0


def _read_vint(file: BinaryIO, *, keep_marker: bool = False) -> tuple[int, bool]:
    """A Matroska variable-length integer and whether it is a known size (not all ones)."""
    first = file.read(1)
    if not first or first[0] == 0:
        raise OSError("not a Matroska number")
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    if len(rest) != width - 1:
        raise OSError("cut off inside a number")
    value = int.from_bytes(first + rest, "big")
    if keep_marker:
        return value, True
    value &= (1 << (7 * width)) - 1
    return value, value != (1 << (7 * width)) - 1
