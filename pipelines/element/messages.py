"""A response as GStreamer carries it: element message, custom event, and analytics metadata.

Message and event hold the same: ``id`` (string), ``pts_start`` and ``pts_end`` (guint64, ns, time stamps of
the stream's buffers), ``text`` (string) and ``score`` (double).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pipelines.element.worker import ElementResponse
from pipelines.gst import load

NAME = "streampro"
"""Name of the structures."""


def structure(response: ElementResponse) -> Any:
    """``streampro, id=(string)..., pts_start=(guint64)..., ...``"""
    from gi.repository import GObject

    made = load().Gst.Structure.new_empty(NAME)
    made.set_value("id", response.id)
    for key in ("pts_start", "pts_end"):  # a plain int would become a 32-bit one
        value = GObject.Value(GObject.TYPE_UINT64)
        value.set_uint64(max(0, getattr(response, key)))
        made.set_value(key, value)
    made.set_value("text", response.text)
    made.set_value("score", response.score)
    return made


def message(element: Any, response: ElementResponse) -> Any:
    """For the application, on the bus."""
    return load().Gst.Message.new_element(element, structure(response))


def event(response: ElementResponse) -> Any:
    """For the elements downstream, in order among the buffers."""
    Gst = load().Gst
    return Gst.Event.new_custom(Gst.EventType.CUSTOM_DOWNSTREAM, structure(response))


@cache
def analytics() -> Any | None:
    """GStreamer's analytics library (1.24 and newer), or None."""
    import gi

    load()
    try:
        gi.require_version("GstAnalytics", "1.0")
        from gi.repository import GstAnalytics
    except (ValueError, ImportError):
        return None
    return GstAnalytics


def attach(buffer: Any, response: ElementResponse) -> bool:
    """Put the response on a writable ``buffer`` as a classification; False when it cannot be done here."""
    library = analytics()
    if library is None:
        return False
    from gi.repository import GLib

    relations = library.buffer_add_analytics_relation_meta(buffer)
    if relations is None:
        return False
    added = relations.add_one_cls_mtd(response.score, GLib.quark_from_string(response.text))
    return bool(added[0] if isinstance(added, tuple) else added)
