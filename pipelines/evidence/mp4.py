"""Write coded frames into an MP4 that browsers play.

H.264 and H.265 go in as they came. Everything else is decoded and encoded as H.264; so is what a privacy mask
hides a part of. This happens only when a clip is written.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_runtime.errors import SinkError, SourceError, first_line
from edge_runtime.video.framing import Polygon
from pipelines.evidence.ring import Unit
from pipelines.gst import caps_filter, chain, link, load, make

_PARSERS = {"video/x-h264": "h264parse", "video/x-h265": "h265parse"}
_MATRICES = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
_MATRIX_AT = 44
"""Bytes from the name of a ``tkhd`` box of version 0 to its matrix."""
_HEADER_BYTES = 4096
_TIMEOUT_S = 60
_ENCODING_TIMEOUT_S = 600
ENCODERS = ("x264enc", "openh264enc")
"""Encoders of H.264, the better first."""
NO_ENCODER = (
    "its video must be encoded, and no H.264 encoder is installed; install one with "
    "`sudo apt-get install -y gstreamer1.0-plugins-ugly`"
)


def needs_encoding(caps: str, masks: Sequence[Polygon]) -> bool:
    """True when video of this format cannot go into the file as it came."""
    return bool(masks) or caps.partition(",")[0] not in _PARSERS


def encoder() -> str:
    """The encoder in use; empty when none is installed."""
    factories = load().Gst.ElementFactory
    return next((name for name in ENCODERS if factories.find(name) is not None), "")


def write(path: Path, caps: str, units: Sequence[Unit], masks: Sequence[Polygon], rotate: int = 0) -> None:
    """Write ``units`` in the order of decoding; the first is a key frame. ``rotate``: how to show it.

    Raises OSError when the disk is full, SinkError for everything else that goes wrong.
    """
    if not units:
        raise SinkError("there is no video in this clip")
    Gst = load().Gst
    encode = needs_encoding(caps, masks)
    pipeline = Gst.Pipeline.new(None)
    index = path.with_name(f"{path.name}.moov")
    try:
        source = make("appsrc", caps=Gst.Caps.from_string(caps), format=Gst.Format.TIME, max_bytes=0)
        muxer = make("mp4mux", faststart=True, faststart_file=str(index))
        sink = make("filesink", location=str(path), **{"async": False})
        ending = [make("h264parse" if encode else _PARSERS[caps.partition(",")[0]]), muxer, sink]
        if encode:
            _add_encoding(pipeline, source, masks, ending)
        else:
            chain(pipeline, [source, *ending])
        _run(pipeline, source, units, _ENCODING_TIMEOUT_S if encode else _TIMEOUT_S)
    except SourceError as error:
        raise SinkError(str(error)) from error
    finally:
        pipeline.set_state(Gst.State.NULL)
        with suppress(OSError):
            index.unlink()
    if rotate:
        _turn(path, rotate)


def _add_encoding(pipeline: Any, source: Any, masks: Sequence[Polygon], ending: list[Any]) -> None:
    """Source, decoder, mask, encoder and what follows it."""
    from pipelines.pipeline.mask import PrivacyMask

    name = encoder()
    if not name:
        raise SinkError(NO_ENCODER)
    decoder, convert = make("decodebin"), make("videoconvert")
    coder = make("videoconvert"), caps_filter("video/x-raw, format=(string)I420"), _encoder(name)
    middle = [caps_filter("video/x-raw, format=(string)BGRx"), PrivacyMask(tuple(masks))] if masks else []
    for element in (source, decoder):
        pipeline.add(element)
    link(source, decoder)
    chain(pipeline, [convert, *middle, *coder, *ending])
    target = convert.get_static_pad("sink")

    def on_pad(_element: Any, pad: Any) -> None:
        if not target.is_linked():
            pad.link_full(target, load().Gst.PadLinkCheck.DEFAULT)

    decoder.connect("pad-added", on_pad)


def _encoder(name: str) -> Any:
    """One thread: decisions come first."""
    if name == "x264enc":
        made = make(name, quantizer=24, threads=1, bframes=0, key_int_max=60)
        for key, value in (("speed-preset", "superfast"), ("pass", "qual")):
            load().Gst.util_set_object_arg(made, key, value)
        return made
    made = make(name, bitrate=2_000_000, gop_size=60)
    load().Gst.util_set_object_arg(made, "complexity", "low")
    return made


def _turn(path: Path, rotate: int) -> None:
    """Write into the file's header how it is to be shown: mp4mux leaves that out."""
    with path.open("r+b") as file:
        head = file.read(_HEADER_BYTES)
        place = head.find(b"tkhd")
        if place < 0 or head[place + 4] != 0:
            raise SinkError("the clip's header is not as expected")
        a, b, c, d = _MATRICES[rotate]
        file.seek(place + _MATRIX_AT)
        file.write(struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30))


def _run(pipeline: Any, source: Any, units: Sequence[Unit], timeout_s: int) -> None:
    Gst = load().Gst
    if pipeline.set_state(Gst.State.PLAYING) == Gst.StateChangeReturn.FAILURE:
        raise _problem(pipeline.get_bus().timed_pop_filtered(0, Gst.MessageType.ERROR))
    shown, decoded = _times(units)
    for n, unit in enumerate(units):
        buffer = Gst.Buffer.new_wrapped(unit.data)
        buffer.pts, buffer.dts = shown[n], decoded[n]
        buffer.duration = _duration(decoded, n)
        source.emit("push-buffer", buffer)
    source.emit("end-of-stream")
    wanted = Gst.MessageType.ERROR | Gst.MessageType.EOS
    message = pipeline.get_bus().timed_pop_filtered(timeout_s * Gst.SECOND, wanted)
    if message is None or message.type == Gst.MessageType.ERROR:
        raise _problem(message)


def _times(units: Sequence[Unit]) -> tuple[list[int], list[int]]:
    """When each is shown and decoded, from 0 on.

    Cameras give no decoding times, containers give rounded ones: the order of showing holds all there is to
    know. The n-th frame decoded is due when the n-th frame is shown, less what the reordering takes.
    """
    shown = [unit.shown_ns for unit in units]
    for n in range(1, len(shown)):  # two frames cannot be shown at once
        if shown[n] == shown[n - 1]:
            shown[n] += 1_000_000
    decoded = sorted(shown)
    late = max(0, *(due - at for due, at in zip(decoded, shown, strict=True)))
    first = decoded[0]
    return [at - first + late for at in shown], [at - first for at in decoded]


def _duration(decoded: Sequence[int], n: int) -> int:
    if len(decoded) == 1:
        return 40_000_000
    n = min(n, len(decoded) - 2)
    return decoded[n + 1] - decoded[n]


def _problem(message: Any) -> Exception:
    if message is None:
        return SinkError("writing the clip takes too long")
    error, _debug = message.parse_error()
    modules = load()
    if error.matches(modules.Gst.ResourceError.quark(), modules.Gst.ResourceError.NO_SPACE_LEFT):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return SinkError(f"the clip cannot be made ({first_line(Exception(error.message))})")
