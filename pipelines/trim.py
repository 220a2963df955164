"""Bytes in front of a stream that its demuxer would stumble over are taken off.

A playlist may start with a byte order mark, and some cameras start MJPEG in the middle: without the boundary
in front of the first part. GStreamer's typefinders and demuxers then refuse the whole.
"""

from __future__ import annotations

from typing import Any

from .gst import load
from .playlist import BOM

_MOST = 16 << 20
"""A picture is smaller than that: a boundary that has not come by then is none."""


class Trim:
    """Put on the source pad of an HTTP client; passes everything once the start was found."""

    def __init__(self, pad: Any, boundary: str = "") -> None:
        """``boundary``: of MJPEG, without leading dashes; empty: a byte order mark is taken off."""
        self._marker = b"--" + boundary.removeprefix("--").encode() if boundary else b""
        self._held = b""
        self._dropped = 0
        self._done = False
        pad.add_probe(load().Gst.PadProbeType.BUFFER, self._on_buffer)

    def _on_buffer(self, pad: Any, info: Any) -> Any:
        Gst = load().Gst
        if self._done:
            return Gst.PadProbeReturn.OK
        buffer = info.get_buffer()
        data = buffer.extract_dup(0, buffer.get_size())
        rest = self.start(data)
        if rest is None:
            return Gst.PadProbeReturn.DROP
        self._done = True
        if rest == data:
            return Gst.PadProbeReturn.OK
        # Python cannot exchange the buffer of a probe: the new one takes the same way, and this one none.
        fresh = Gst.Buffer.new_wrapped(rest)
        fresh.pts, fresh.dts = buffer.pts, buffer.dts
        pad.push(fresh)
        return Gst.PadProbeReturn.DROP

    def start(self, data: bytes) -> bytes | None:
        """What is passed on of ``data``, the next bytes; None while the start has not come."""
        if not self._marker:
            return data.removeprefix(BOM)
        held = self._held + data
        at = held.find(self._marker)
        if at >= 0:
            return held[at:]
        self._dropped += len(data)
        if self._dropped > _MOST:
            return held
        self._held = held[-len(self._marker) :]
        return None
