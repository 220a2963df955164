"""The one door to GStreamer: loaded on first use, so that importing :mod:`pipelines` needs neither gi nor
GStreamer.

What is missing is answered with the Debian/Ubuntu packages that bring it.
"""

from __future__ import annotations

import ctypes
import fnmatch
import itertools
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from edge_runtime.errors import SourceError

APT_BASE = (
    "sudo apt-get install -y python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav"
)

_ELEMENT_PACKAGES = {
    "decodebin": "gstreamer1.0-plugins-base",
    "appsink": "gstreamer1.0-plugins-base",
    "videoscale": "gstreamer1.0-plugins-base",
    "videoconvert": "gstreamer1.0-plugins-base",
    "videotestsrc": "gstreamer1.0-plugins-base",
    "videoflip": "gstreamer1.0-plugins-good",
    "rtspsrc": "gstreamer1.0-plugins-good",
    "v4l2src": "gstreamer1.0-plugins-good",
    "souphttpsrc": "gstreamer1.0-plugins-good",
    "videocrop": "gstreamer1.0-plugins-good",
    "srtsrc": "gstreamer1.0-plugins-bad",
    "nvvidconv": "nvidia-l4t-gstreamer",
    "libcamerasrc": "gstreamer1.0-libcamera",
}
_HARMLESS = (
    *("GST_BUFFER", "GST_CLOCK", "GST_ELEMENT_FACTORY", "GST_MEMORY", "GST_PERFORMANCE"),
    *("GST_PLUGIN_LOADING", "GST_REFCOUNTING", "GST_REGISTRY", "GST_SCHEDULING", "GST_STATES"),
    *("codecparsers_*", "h264parse", "h265parse", "jpegdec", "libav", "nv*", "rtph26*"),
    *("rtpjitterbuffer", "rtpjpegdepay", "tsdemux", "v4l2*", "va*", "videoconvert", "videoscale"),
)
"""Log categories that show no location, header, event, message or query. Every other may, in some release."""


class Modules(NamedTuple):
    """The introspected libraries in use."""

    Gst: Any
    GstVideo: Any
    GstPbutils: Any
    GLib: Any


_loaded: Modules | None = None
_lock = threading.Lock()


def load() -> Modules:
    """Import and initialise GStreamer once. Raises SourceError that names the packages to install."""
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _load()
        return _loaded


def _load() -> Modules:
    _prefer_libgcc()
    try:
        import gi
    except ImportError as error:
        raise SourceError(
            f"GStreamer's Python bindings cannot be imported ({error}); install them with `{APT_BASE}` "
            "and use an environment made with `/usr/bin/python3 -m venv --system-site-packages`",
            permanent=True,
        ) from None
    try:
        for name in ("Gst", "GstVideo", "GstPbutils", "GstRtsp", "GstSdp"):
            gi.require_version(name, "1.0")
        # The last two give what rtspsrc's signals bring its methods.
        from gi.repository import GLib, Gst, GstPbutils, GstRtsp, GstSdp, GstVideo  # noqa: F401

        if not Gst.is_initialized():
            Gst.init(None)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(
            f"GStreamer cannot be loaded ({reason}); install it with `{APT_BASE}`", permanent=True
        ) from None
    return Modules(Gst, GstVideo, GstPbutils, GLib)


def structure_of(holder: Any, *index: int) -> Any:
    """Return a copy of the structure of caps (at ``index``), an event, a message or a query.

    Use it in place of ``holder.get_structure()``: in the Python bindings of GStreamer 1.26 that is a context
    manager without the structure's methods.
    """
    found = holder.get_structure(*index)
    if not hasattr(found, "__enter__"):
        return found
    with found as inside:
        return inside.copy()


def hush() -> None:
    """Let GStreamer's own debug log (GST_DEBUG) not show credentials.

    Its C code writes whole requests and locations there, and nothing of ours sees that text. So the harmless
    categories alone stay of what GST_DEBUG asks for, also in plugins that are loaded later. What the others
    report as errors still comes, scrubbed.
    """
    Gst = load().Gst
    kept = []
    for entry in os.environ.get("GST_DEBUG", "").split(","):
        name, _, level = entry.strip().rpartition(":")
        if name in ("", "*"):
            kept += [f"{category}:{level}" for category in _HARMLESS if level]
        elif any(fnmatch.fnmatchcase(name, category) for category in _HARMLESS):
            kept.append(f"{name}:{level}")
    Gst.debug_set_threshold_for_name("*", Gst.DebugLevel.NONE)
    if kept:  # the last rule that fits a category counts
        Gst.debug_set_threshold_from_string(",".join(kept), False)


def _prefer_libgcc() -> None:
    """Let C++ exceptions be unwound by libgcc.

    GStreamer brings libunwind, which has functions of the same names; found first, they crash the process
    when libsrt throws while an SRT source is closed. The first library loaded for all to see is found first.
    """
    with suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)


def make(factory: str, **properties: Any) -> Any:
    """A new element with ``properties`` set (``_`` stands for ``-``). Raises SourceError when missing."""
    element = load().Gst.ElementFactory.make(factory, None)
    if element is None:
        package = _ELEMENT_PACKAGES.get(factory, "gstreamer1.0-plugins-good")
        raise SourceError(
            f"GStreamer's element {factory} is missing; install it with `sudo apt-get install -y {package}`",
            permanent=True,
        )
    for name, value in properties.items():
        element.set_property(name.replace("_", "-"), value)
    return element


def caps_filter(caps: str) -> Any:
    """A capsfilter that lets through ``caps`` alone."""
    return make("capsfilter", caps=load().Gst.Caps.from_string(caps))


def link(before: Any, after: Any) -> None:
    """Link two elements. Raises SourceError when they do not fit."""
    if not before.link(after):
        raise SourceError(f"GStreamer cannot link {before.get_name()} to {after.get_name()}", permanent=True)


def chain(pipeline: Any, elements: Sequence[Any]) -> None:
    """Add ``elements`` to ``pipeline`` and link each to the next. Raises SourceError."""
    for element in elements:
        pipeline.add(element)
    for before, after in itertools.pairwise(elements):
        link(before, after)
