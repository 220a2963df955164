"""Messages on a pipeline's bus become problems in words."""

from __future__ import annotations

from typing import Any

from pipelines.gst import load, structure_of
from pipelines.sources.errors import Problem, codec_name, explain, missing_plugin
from pipelines.sources.registry import Source


def read(message: Any, source: Source, decoder: str, *, delivered: bool) -> Problem | None:
    """The problem behind ``message``; None when there is none.

    ``decoder``: as of ConnectionOptions. ``delivered``: there have been pictures before.
    """
    modules = load()
    Gst, GstPbutils = modules.Gst, modules.GstPbutils
    if message.type == Gst.MessageType.ELEMENT and GstPbutils.is_missing_plugin_message(message):
        detail = structure_of(message).get_value("detail")
        media_type = structure_of(detail, 0).get_name() if isinstance(detail, Gst.Caps) else str(detail or "")
        if decoder not in ("auto", "software"):
            return Problem(
                f"decoder {decoder} cannot decode {codec_name(media_type)}", "use auto", "permanent"
            )
        return missing_plugin(media_type, GstPbutils.missing_plugin_message_get_description(message))
    if message.type == Gst.MessageType.ERROR:
        error, debug = message.parse_error()
        return explain(source, *_domain(error), error.message, debug or "", delivered=delivered)
    return None


def nothing_linked(message: Any) -> bool:
    """True for the error of a source whose data nobody takes: there is no video in it."""
    Gst = load().Gst
    return message.type == Gst.MessageType.ERROR and _domain(message.parse_error()[0]) == ("stream", 1)


def _domain(error: Any) -> tuple[str, int]:
    return error.domain.removeprefix("gst-").removesuffix("-error-quark"), error.code
