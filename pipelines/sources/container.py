"""Is a video file whole? Answered from its structure, because GStreamer ends a cut file without any error.

Only headers and sizes are read, never the content. Formats: MP4, Matroska, AVI and FLV; animated images are
recognised. "Missing" and "broken" are said only of what holds the video: some programs write bytes of their
own behind it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_EBML = 0x1A45DFA3
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
_IN_SEGMENT = (
    *(_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1043A770, 0x1C53BB6B, 0x1941A469, 0x1254C367),
    *(0xEC, 0xBF),
)
_IN_CLUSTER = (0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0x5854, 0xEC, 0xBF)
_MP4_STARTS = (b"ftyp", b"styp", b"sidx", b"moov", b"moof", b"mdat", b"free", b"wide", b"skip")
_MP4_VIDEO = (b"moov", b"moof", b"mdat")
_MOST_BOXES = 1_000_000


@dataclass(frozen=True)
class Structure:
    """What the outermost headers say; the defaults when they say nothing."""

    missing_bytes: int = 0
    """Bytes promised beyond the file's end: it was cut off."""
    no_index: bool = False
    """An MP4 without ``moov``: a recording never finished. It cannot be played at all."""
    broken: bool = False
    """Where a part of the video should begin there is something else."""
    fragmented: bool = False
    """An MP4 in fragments, maybe only some of them: the duration in its header need not be the file's."""
    frames: int = 0
    """How many the index of an MP4 lists, or the header of an AVI; 0: unknown."""
    animation: str = ""
    """``a GIF`` or ``an animated WebP``: not a video that GStreamer plays to its end."""


def inspect(path: str) -> Structure:
    """Look at the file's structure. Never raises: what cannot be read says nothing."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(21)
            file.seek(0)
            if head[4:8] in _MP4_STARTS:
                return _inspect_mp4(file, size)
            if head[:4] == _EBML.to_bytes(4, "big"):
                return _inspect_matroska(file, size)
            if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
                return _inspect_avi(file, size)
            if head[:3] == b"FLV":
                return _inspect_flv(file, size)
            if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
                return Structure(animation="an animated WebP" if head[20] & 2 else "")
            if head[:4] == b"GIF8":
                return Structure(animation="a GIF")
    except (OSError, struct.error, IndexError):
        pass
    return Structure()


def _inspect_mp4(file: BinaryIO, size: int) -> Structure:
    """Walk the top-level boxes."""
    position, kinds, missing, frames = 0, set(), 0, 0
    for _ in range(_MOST_BOXES):
        if position + 8 > size:
            break
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        elif length == 0:  # to the end of the file
            length = size - position
        if length < 8:  # not a box: damage of another kind
            return Structure()
        if position + length > size:
            missing = position + length - size if kind in _MP4_VIDEO else 0
            kinds.add(kind if missing else b"")
            break
        kinds.add(kind)
        if kind == b"moov":
            frames = _indexed_frames(file.read(length - 8))
        position += length
    no_index, fragmented = b"mdat" in kinds and b"moov" not in kinds, b"moof" in kinds
    return Structure(missing, no_index, fragmented=fragmented, frames=0 if fragmented else frames)


def _indexed_frames(moov: bytes) -> int:
    """How many frames the first track of video lists in its table of sizes."""
    for track in _boxes(moov, b"trak"):
        media = next(_boxes(track, b"mdia"), b"")
        handler = next(_boxes(media, b"hdlr"), b"")
        if handler[8:12] == b"vide":
            table = next(_boxes(next(_boxes(media, b"minf"), b""), b"stbl"), b"")
            sizes = next(_boxes(table, b"stsz"), b"")
            return int.from_bytes(sizes[8:12], "big")
    return 0


def _boxes(data: bytes, wanted: bytes) -> Iterator[bytes]:
    """What the boxes of this kind right inside ``data`` hold."""
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length < 8:
            return
        if data[position + 4 : position + 8] == wanted:
            yield data[position + 8 : position + length]
        position += length


def _inspect_matroska(file: BinaryIO, size: int) -> Structure:
    """Walk the segment's parts, and those of its clusters. Nothing is said when its size is left open."""
    identity, _ = _read_vint(file, keep_marker=True)
    length, known = _read_vint(file)
    if identity != _EBML or not known:
        return Structure()
    file.seek(length, os.SEEK_CUR)
    identity, _ = _read_vint(file, keep_marker=True)
    length, known = _read_vint(file)
    if identity != _SEGMENT or not known:
        return Structure()
    end = file.tell() + length
    return Structure(max(0, end - size), broken=end <= size and _is_broken(file, end, _IN_SEGMENT))


def _is_broken(file: BinaryIO, end: int, expected: tuple[int, ...]) -> bool:
    """True when an element before ``end`` is none of ``expected``, or reaches beyond it."""
    while (position := file.tell()) < end:
        try:
            identity, _ = _read_vint(file, keep_marker=True)
            length, known = _read_vint(file)
        except OSError:
            return True
        inside = file.tell()
        if identity not in expected or (known and inside + length > end):
            return True
        if not known:  # goes on until something else comes
            return False
        if identity == _CLUSTER and _is_broken(file, inside + length, _IN_CLUSTER):
            return True
        file.seek(inside + length)
        if file.tell() <= position:
            return True
    return False


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


def _inspect_avi(file: BinaryIO, size: int) -> Structure:
    """Walk the chunks; those of the list ``movi`` are the video."""
    _, length = struct.unpack("<4sI", file.read(8))
    if length + 8 > size:
        return Structure(length + 8 - size)
    position, end, frames = 12, length + 8, 0
    while position + 12 <= end:
        file.seek(position)
        kind, length, form = struct.unpack("<4sI4s", file.read(12))
        if not (kind.isascii() and kind.decode().isprintable()):
            return Structure(broken=True, frames=frames)
        if kind == b"avih":
            frames = int.from_bytes(file.read(16)[12:], "little")
        inside = kind == b"LIST" and form in (b"hdrl", b"movi", b"rec ")
        position += 12 if inside else 8 + length + length % 2
    return Structure(frames=frames)


def _inspect_flv(file: BinaryIO, size: int) -> Structure:
    """Walk the tags: a kind, a length, and behind each tag its length again."""
    file.seek(5)
    (position,) = struct.unpack(">I", file.read(4))
    position += 4
    while position + 11 <= size:
        file.seek(position)
        head = file.read(11)
        if head[0] & 0x1F not in (8, 9, 18):
            return Structure(broken=True)
        position += 11 + int.from_bytes(head[1:4], "big") + 4
    return Structure(max(0, position - size) if position > size + 4 else 0)
