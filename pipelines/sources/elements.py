"""The elements at the front of a pipeline: from a source record to coded or raw video.

Elements are made and linked by code, and values set as properties: a pipeline's text made from what a user
typed could be made to do anything. Credentials are properties, too, never part of a location.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from edge_runtime.errors import SourceError
from pipelines.gst import load, make, structure_of
from pipelines.pipeline.preprocessing import link
from pipelines.sources import formats
from pipelines.sources.errors import NO_VIDEO, REDIRECTS, Problem
from pipelines.sources.http import tls
from pipelines.sources.http.snapshots import snapshot_element
from pipelines.sources.http.trim import FirstBoundary, trim, without_mark
from pipelines.sources.images.frames import picture_source
from pipelines.sources.registry import (
    CsiSource,
    DeviceSource,
    FileSource,
    HttpSource,
    ImagesSource,
    RtspSource,
    Source,
    SrtSource,
    TestSource,
)
from pipelines.sources.rtp_validation import guard

_TEST_CAPS = "video/x-raw, width=(int)640, height=(int)480, framerate=(fraction)30/1"
_CSI_CAPS = "width=(int)1280, height=(int)720, framerate=(fraction)30/1"
_HTTP_TIMEOUT_S = 15
_MOST_REQUESTS = 40
"""To an RTSP server, up to the first stream: rtspsrc follows redirects without end. Ten are 20 requests."""

Connect = Callable[[Any, str, Callable[..., Any]], None]
"""``connect(element, signal, callback)``: registers a signal handler that is removed with the pipeline."""
Fail = Callable[[Problem], None]
"""``fail(problem)``: ends the connection with a problem that is known better than what GStreamer will say."""


@dataclass(frozen=True)
class ConnectionOptions:
    """How to read a source."""

    rtsp_transport: Literal["tcp", "udp", "auto"] = "tcp"
    rtsp_latency_ms: int = 100
    """Jitter budget; with pictures shown as they come it adds no delay on a quiet network."""
    tls_verify: bool = True
    """False: accept any certificate of a server."""
    tls_ca_file: str | None = None
    """Certificates (PEM) to trust in place of the system's."""
    tls_fingerprint: str | None = None
    """SHA-256 of the one certificate that is accepted, as 64 hexadecimal digits."""
    decoder: str = "auto"
    """``auto`` (proven hardware, else software), ``software``, or the name of a GStreamer decoder."""
    image_fps: float | None = None
    """Pictures in sequence: how many make a second. None: each one is a timestep."""

    def __post_init__(self) -> None:
        _ = self.trust  # refuses what contradicts itself

    @property
    def trust(self) -> tls.Trust:
        return tls.Trust(self.tls_verify, self.tls_ca_file, self.tls_fingerprint)


def add_head(
    pipeline: Any,
    source: Source,
    options: ConnectionOptions,
    fps: float,
    decodebin: Any,
    connect: Connect,
    on_skipped: Callable[[str, str], None],
    fail: Fail,
) -> Any | None:
    """Add ``source``'s elements to ``pipeline``. ``fps``: timesteps per second.

    ``on_skipped(path, reason)`` is called for each picture that cannot be read, on a thread of GStreamer's.

    Returns the pad of raw video, or None when the elements are (or will be) joined to ``decodebin``. Raises
    SourceError when an element is missing.
    """
    if isinstance(source, TestSource):
        return _chain(pipeline, *_test_elements(source))
    if isinstance(source, CsiSource):
        return _chain(pipeline, *_csi_elements(source))
    if isinstance(source, ImagesSource):
        return _chain(pipeline, picture_source(source.files, options.image_fps or fps, connect, on_skipped))
    if isinstance(source, RtspSource):
        element = _rtsp_element(source, options, connect, fail)
        pipeline.add(element)
        # The caps of a pad just added may not be known yet; more than one stream of video: the first.
        connect(element, "pad-added", lambda _element, pad: _join(pad, decodebin))
        return None
    if isinstance(source, DeviceSource):
        elements = _device_elements(source)
    elif isinstance(source, HttpSource) and source.found is not None and source.found.kind == "picture":
        elements = [snapshot_element(source, options.trust, fps, connect)]
    elif isinstance(source, HttpSource):
        elements = [_http_element(source)]
        connect(pipeline, "deep-element-added", lambda *a: _set_up_part(a[2], source, options))
    elif isinstance(source, SrtSource):
        elements = [_srt_element(source)]
    else:
        assert isinstance(source, FileSource)
        elements = [make("filesrc", location=source.path)]
    _chain(pipeline, *elements)
    link(elements[-1], decodebin)
    return None


def _chain(pipeline: Any, *elements: Any) -> Any:
    """Add and link; the last one's output."""
    for element in elements:
        pipeline.add(element)
    for before, after in itertools.pairwise(elements):
        link(before, after)
    return elements[-1].get_static_pad("src")


def _join(pad: Any, decodebin: Any) -> None:
    sink = decodebin.get_static_pad("sink")
    if not sink.is_linked():
        guard(pad)
        pad.link(sink)


def _filter(caps: str) -> Any:
    return make("capsfilter", caps=load().Gst.Caps.from_string(caps))


def _test_elements(source: TestSource) -> list[Any]:
    element = make("videotestsrc", is_live=True)
    load().Gst.util_set_object_arg(element, "pattern", source.pattern)
    return [element, _filter(_TEST_CAPS)]


def _csi_elements(source: CsiSource) -> list[Any]:
    """A Jetson's camera through its ISP; on other boards through libcamera."""
    Gst = load().Gst
    if Gst.ElementFactory.find("nvarguscamerasrc") is not None:
        return [
            make("nvarguscamerasrc", sensor_id=source.index),
            _filter(f"video/x-raw(memory:NVMM), format=(string)NV12, {_CSI_CAPS}"),
            make("nvvidconv"),
            _filter("video/x-raw, format=(string)NV12"),
        ]
    if Gst.ElementFactory.find("libcamerasrc") is not None:
        element = make("libcamerasrc")
        if source.index:
            raise SourceError(
                f"{source.label}: libcamera has names, not numbers; use csi://0", permanent=True
            )
        return [element, _filter(f"video/x-raw, {_CSI_CAPS}")]
    raise SourceError(
        f"{source.label}: neither nvarguscamerasrc (Jetson) nor libcamerasrc is installed; on a Jetson "
        "install `nvidia-l4t-gstreamer`, elsewhere `gstreamer1.0-libcamera`",
        permanent=True,
    )


def _device_elements(source: DeviceSource) -> list[Any]:
    """v4l2src, and a filter for the format chosen from what the camera offers."""
    Gst = load().Gst
    element = make("v4l2src", device=source.path)
    chosen = None
    if element.set_state(Gst.State.READY) != Gst.StateChangeReturn.FAILURE:  # opened: asks the driver
        chosen = formats.choose(formats.offers(element.get_static_pad("src").query_caps(None)))
        element.set_state(Gst.State.NULL)
    if chosen is None:
        return [element]
    return [element, _filter(format_caps(chosen))]


def format_caps(chosen: formats.Offer) -> str:
    """The filter for one of a camera's formats."""
    text = f"{chosen.media_type}, width=(int){chosen.width}, height=(int){chosen.height}"
    if chosen.fps:
        whole = round(chosen.fps * 1000)
        text += f", framerate=(fraction)[ {max(1, whole - 500)}/1000, {whole + 500}/1000 ]"
    return text


def _rtsp_element(source: RtspSource, options: ConnectionOptions, connect: Connect, fail: Fail) -> Any:
    element = make("rtspsrc", location=source.location, latency=options.rtsp_latency_ms)
    if source.user is not None:
        element.set_property("user-id", source.user)
        element.set_property("user-pw", source.password or "")
    protocols = {"tcp": "tcp", "udp": "udp+udp-mcast", "auto": "tcp+udp-mcast+udp"}[options.rtsp_transport]
    load().Gst.util_set_object_arg(element, "protocols", protocols)
    if not options.tls_verify:
        element.set_property("tls-validation-flags", 0)
    elif (database := tls.database(options.trust)) is not None:
        element.set_property("tls-database", database)
    connect(element, "select-stream", _is_video_stream)
    connect(element, "on-sdp", lambda _element, description: _check_description(description, fail))
    _bound_requests(element, connect, fail)
    return element


def _check_description(description: Any, fail: Fail) -> None:
    kinds = [description.get_media(index).get_media() for index in range(description.medias_len())]
    if "video" not in kinds:
        fail(NO_VIDEO)


def _bound_requests(element: Any, connect: Connect, fail: Fail) -> None:
    """Stop rtspsrc when a server redirects it for ever."""
    left = [_MOST_REQUESTS]

    def on_send(_element: Any, _message: Any) -> bool:
        left[0] -= 1
        if left[0] == 0:
            fail(REDIRECTS)
        return left[0] > 0

    def on_pad(_element: Any, _pad: Any) -> None:
        left[0] = sys.maxsize  # it streams: what follows keeps the session alive

    connect(element, "before-send", on_send)
    connect(element, "pad-added", on_pad)


def _is_video_stream(_element: Any, _number: int, caps: Any) -> bool:
    return bool(structure_of(caps, 0).get_string("media") == "video")


def _http_element(source: HttpSource) -> Any:
    # A camera's endless answer carries no times: they are taken from the clock.
    endless = source.live and not source.playlist
    location = source.found.location if source.found is not None else None
    element = make("souphttpsrc", location=location or source.location, is_live=endless, do_timestamp=endless)
    if source.found is not None and source.found.kind == "playlist":
        trim(element.get_static_pad("src"), without_mark)
    elif source.found is not None and source.found.kind == "mjpeg":
        trim(element.get_static_pad("src"), FirstBoundary())
    return element


def _set_up_part(element: Any, source: HttpSource, options: ConnectionOptions) -> None:
    """Set up what comes into the pipeline: HTTP clients (a playlist makes more), and the demuxer of MJPEG."""
    factory = element.get_factory()
    name = factory.get_name() if factory is not None else ""
    if name == "multipartdemux":
        element.set_property("single-stream", True)  # else decodebin waits for more streams
    if name != "souphttpsrc":
        return
    element.set_property("ssl-strict", options.tls_verify)
    element.set_property("timeout", _HTTP_TIMEOUT_S)
    Gst = load().Gst
    location = Gst.Uri.from_string(element.get_property("location") or "")
    if location is not None and (location.get_host() or "").lower() != source.host:
        return  # whatever other server a playlist names gets no credentials, and no trust but the system's
    if (database := tls.database(options.trust)) is not None:
        element.set_property("tls-database", database)
    if source.user is not None:
        element.set_property("user-id", source.user)
        element.set_property("user-pw", source.password or "")


def _srt_element(source: SrtSource) -> Any:
    # A lost sender is answered like any lost source: reported, and replaced by a new connection.
    element = make("srtsrc", uri=source.location, auto_reconnect=False)
    for name, value in source.settings:
        load().Gst.util_set_object_arg(element, name, value)
    return element
