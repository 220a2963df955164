"""A network camera: ``rtsp://host/path``; ``rtsps`` for TLS. User and password are split off, never shown."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

from pipelines.gst import load, make, structure_of
from pipelines.sources.address import scheme_of, split_url
from pipelines.sources.base import ElementContext
from pipelines.sources.errors import FORBIDDEN, NO_VIDEO, REDIRECTS, UNTRUSTED, Problem, StreamError
from pipelines.sources.network import challenges, tls
from pipelines.sources.network.source import NetworkSource
from pipelines.sources.options import ConnectionOptions
from pipelines.sources.rtsp import login
from pipelines.sources.rtsp.rtp_validation import guard

_PORTS = {"rtsp": 554, "rtsps": 322}
_PROTOCOLS = {"tcp": "tcp", "udp": "udp+udp-mcast", "auto": "tcp+udp-mcast+udp"}
_MOST_REQUESTS = 40
"""Up to the first stream: rtspsrc follows redirects without end. Ten are 20 requests."""
_EXPLAIN_S = 3.0


@dataclass(frozen=True)
class RtspSource(NetworkSource):
    """A network camera."""

    kind = "rtsp"
    live = True

    def make_elements(self, context: ElementContext) -> list[Any]:
        options, connect = context.options, context.connect
        element = make("rtspsrc", location=self.location, latency=options.rtsp_latency_ms)
        if self.user is not None:
            element.set_property("user-id", self.user)
            element.set_property("user-pw", self.password or "")
        load().Gst.util_set_object_arg(element, "protocols", _PROTOCOLS[options.rtsp_transport])
        if not options.tls_verify:
            element.set_property("tls-validation-flags", 0)
        elif (database := tls.database(options.trust)) is not None:
            element.set_property("tls-database", database)
        fail, requests_left = context.fail, [_MOST_REQUESTS]

        def on_description(_element: Any, description: Any) -> None:
            media = [description.get_media(index) for index in range(description.medias_len())]
            if "video" not in [one.get_media() for one in media]:
                fail(NO_VIDEO)

        def on_send(_element: Any, _message: Any) -> bool:
            requests_left[0] -= 1
            if requests_left[0] == 0:
                fail(REDIRECTS)
            return requests_left[0] > 0

        def on_pad(_element: Any, pad: Any) -> None:
            requests_left[0] = sys.maxsize  # it streams: what follows keeps the session alive
            guard(pad)

        connect(element, "select-stream", _is_video_stream)
        connect(element, "on-sdp", on_description)
        connect(element, "before-send", on_send)
        connect(element, "pad-added", on_pad)
        return [element]

    def explain(self, error: StreamError) -> Problem | None:
        match error.domain, error.code:
            case "resource", 15:
                return Problem(
                    "the server refuses the user name or password (401)",
                    "write them as rtsp://USER:PASSWORD@host/path, special characters percent-encoded",
                    "auth",
                )
            case _ if "(403)" in error.debug:
                return FORBIDDEN
            case "resource", 3:
                return Problem("the server knows no such stream (404)", "check the path in the URL")
            case _ if "TLS" in error.debug or "certificate" in error.debug.lower():
                return UNTRUSTED
            case "resource", 5 | 7:
                return Problem(
                    f"cannot open the stream ({server_words(error.debug) or error.detail})",
                    "check that the camera is on and the URL right",
                )
            case "resource", 9 | 10 | 12 if error.delivered:
                return Problem("the connection was lost", "check the network and the camera")
            case "resource", 9 | 10 | 12:
                return Problem(
                    "the server broke off before any frame", "check that it serves RTSP on this port"
                )
            case "stream", 1 | 6 | 11:
                return Problem(f"the stream cannot be decoded ({error.detail})", "set the camera to H.264")
        return None

    def diagnose(self, problem: Problem, options: ConnectionOptions) -> Problem:
        """Of a refused login: is the password or GStreamer to blame?"""
        if self.user is not None and problem.kind == "auth":
            asked = login.login_asked_for(self, options.trust, _EXPLAIN_S)
            return challenges.unsupported_login(asked) if asked else problem
        return problem


def parse(text: str) -> RtspSource | None:
    """Raises SourceError for an address that cannot be read."""
    scheme = scheme_of(text)
    return RtspSource(*split_url(text, _PORTS[scheme])) if scheme in _PORTS else None


def server_words(debug: str) -> str:
    """The server's own reason inside rtspsrc's debug text, e.g. ``Service Unavailable (503)``."""
    match = re.search(r"\b([A-Z][A-Za-z ]+ \([345]\d\d\))", debug)
    return match[1] if match else ""


def _is_video_stream(_element: Any, _number: int, caps: Any) -> bool:
    return bool(structure_of(caps, 0).get_string("media") == "video")
