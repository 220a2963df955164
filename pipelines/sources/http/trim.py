"""Bytes in front of a stream that its demuxer would stumble over are taken off.

A playlist may start with a byte order mark, and some cameras start MJPEG in the middle: without the boundary
in front of the first part. GStreamer's typefinders and demuxers then refuse the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipelines.gst import load
from pipelines.sources.http.playlist import BOM

_MOST = 16 << 20
"""A frame is smaller than that: a boundary that has not come by then is none."""
_KEPT = 512
_PART = re.compile(rb"\n(--[!-~][ -~]{0,200}\r?\n[A-Za-z-]{1,60}:)")
"""A boundary and the header after it, whatever boundary the server announced: some announce another."""

Start = Callable[[bytes], bytes | None]
"""Given the next bytes: what is passed on of all so far, or None while the start has not come."""


def trim(pad: Any, start: Start) -> None:
    """Drop what comes out of ``pad`` until ``start`` finds the start; everything passes from then on."""
    waiting = [start]

    def on_buffer(pad: Any, info: Any) -> Any:
        Gst = load().Gst
        if not waiting:
            return Gst.PadProbeReturn.OK
        buffer = info.get_buffer()
        data = buffer.extract_dup(0, buffer.get_size())
        rest = waiting[0](data)
        if rest is None:
            return Gst.PadProbeReturn.DROP
        waiting.clear()
        if rest == data:
            return Gst.PadProbeReturn.OK
        # Python cannot exchange the buffer of a probe: the new one takes the same way, and this one none.
        fresh = Gst.Buffer.new_wrapped(rest)
        fresh.pts, fresh.dts = buffer.pts, buffer.dts
        pad.push(fresh)
        return Gst.PadProbeReturn.DROP

    pad.add_probe(load().Gst.PadProbeType.BUFFER, on_buffer)


def without_mark(data: bytes) -> bytes:
    """Take a byte order mark off."""
    return data.removeprefix(BOM)


class FirstBoundary:
    """Finds the first part of MJPEG that has its boundary."""

    def __init__(self) -> None:
        self._held = b""
        self._seen = 0

    def __call__(self, data: bytes) -> bytes | None:
        self._seen += len(data)
        held = self._held + data
        if self._seen == len(held) and (whole := held.lstrip(b"\r\n")).startswith(b"--"):
            return whole
        if match := _PART.search(held):
            return held[match.start(1) :]
        if self._seen > _MOST:
            return held
        self._held = held[-_KEPT:]
        return None
