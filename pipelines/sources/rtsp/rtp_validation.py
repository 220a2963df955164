"""Packets that would crash the depayloaders are stopped in front of them.

GStreamer 1.22's rtph264depay takes two bytes off every fragment without asking whether they are there: a
fragment of one byte makes a length of 4 GB, and the process dies of a segmentation fault. A camera, or
whoever speaks in its place, could end the program with thirteen bytes.
"""

from __future__ import annotations

from typing import Any

from pipelines.gst import load

_FIXED = 12
_H264_FRAGMENTS = (28, 29)
_H265_FRAGMENT = 49
_SHORTEST_H264, _SHORTEST_H265 = 3, 4
"""A fragment's own headers and one byte of what it carries."""


def guard(pad: Any) -> None:
    """Drop what is not :func:`sound` of the RTP packets that pass through ``pad``."""
    types = load().Gst.PadProbeType
    pad.add_probe(types.BUFFER | types.BUFFER_LIST, _on_packet)


def _on_packet(_pad: Any, info: Any) -> Any:
    Gst = load().Gst
    if info.type & Gst.PadProbeType.BUFFER:
        good = _sound_buffer(info.get_buffer())
    else:
        packets = info.get_buffer_list()
        good = all(_sound_buffer(packets.get(index)) for index in range(packets.length()))
    return Gst.PadProbeReturn.OK if good else Gst.PadProbeReturn.DROP


def _sound_buffer(buffer: Any) -> bool:
    size = buffer.get_size()
    head = bytes(buffer.extract_dup(0, _FIXED + 1))
    if size > 2 * _FIXED and not head[0] & 0x3F:  # neither padding, extension nor sources: enough payload
        return True
    return sound(bytes(buffer.extract_dup(0, size)))


def sound(packet: bytes) -> bool:
    """True unless ``packet`` (RTP, RFC 3550) is a fragment of H.264 or H.265 that carries nothing.

    The codec is not asked for: in others, a packet that looks like one is as short and carries as little.
    """
    if len(packet) <= _FIXED:
        return False
    start = _FIXED + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    padding = packet[-1] if packet[0] & 0x20 else 0
    payload = packet[start : len(packet) - padding]
    if not payload:
        return False
    if payload[0] & 0x1F in _H264_FRAGMENTS and len(payload) < _SHORTEST_H264:
        return False
    return not (payload[0] >> 1 & 0x3F == _H265_FRAGMENT and len(payload) < _SHORTEST_H265)
