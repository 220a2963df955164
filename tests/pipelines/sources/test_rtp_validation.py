"""Packets that would crash GStreamer's depayloaders."""

from __future__ import annotations

import struct

import pytest

from pipelines.sources.rtsp.rtp_validation import sound


def packet(payload: bytes, *, sources: int = 0, extension: int | None = None, padding: int = 0) -> bytes:
    first = 0x80 | sources | (0x10 if extension is not None else 0) | (0x20 if padding else 0)
    head = struct.pack(">BBHII", first, 96, 7, 9000, 1) + bytes(4 * sources)
    if extension is not None:
        head += struct.pack(">HH", 0xBEDE, extension) + bytes(4 * extension)
    return head + payload + (bytes(padding - 1) + bytes([padding]) if padding else b"")


@pytest.mark.parametrize("where", [{}, {"sources": 3}, {"extension": 2}, {"padding": 200}])
@pytest.mark.parametrize(
    ("payload", "good"),
    [
        (b"", False),
        (b"\x7c", False),  # FU-A
        (b"\x7c\x85", False),
        (b"\x7c\x45\x01", True),
        (b"\x1d\x85", False),  # FU-B
        (b"\x62\x01\x93", False),  # H.265 FU
        (b"\x62\x01\x93\x01", True),
        (b"\x09\xf0", True),  # an access unit delimiter
        (b"\x65" + bytes(500), True),
    ],
)
def test_fragments_that_carry_nothing(payload: bytes, good: bool, where: dict[str, int]) -> None:
    assert sound(packet(payload, **where)) is good


@pytest.mark.parametrize("data", [b"", b"\x80", bytes(12), b"\xff" * 13, b"\xbf" + b"\xff" * 30])
def test_what_is_no_packet(data: bytes) -> None:
    assert not sound(data)
