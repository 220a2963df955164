"""Video over HTTP: HLS, a video file on a server, a camera's MJPEG or snapshot; ``https`` for TLS.

Which of them it is, the server is asked before it is read (:mod:`pipelines.sources.http.probe`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from pipelines.gst import load, make
from pipelines.sources.address import scheme_of, split_url
from pipelines.sources.base import ElementContext, Source
from pipelines.sources.errors import UNTRUSTED, Problem, StreamError
from pipelines.sources.http import probe
from pipelines.sources.http.snapshots import snapshot_element
from pipelines.sources.http.trim import FirstBoundary, trim, without_mark
from pipelines.sources.network import tls
from pipelines.sources.network.reachability import in_background
from pipelines.sources.network.source import NetworkSource
from pipelines.sources.options import ConnectionOptions

_PORTS = {"http": 80, "https": 443}
_RECORDED = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".flv", ".ogv", ".wmv", ".3gp")
_PLAYLISTS = (".m3u8", ".m3u", ".mpd")
_TIMEOUT_S = 15


@dataclass(frozen=True)
class HttpSource(NetworkSource):
    """What is recorded is read like a file; everything else is live.

    Until the server was asked (``found``), the spelling of the URL is what there is to go by.
    """

    found: probe.Found | None = None
    has_duration = True

    @property
    def kind(self) -> str:
        return "hls" if self.segmented else "http"

    @property
    def segmented(self) -> bool:
        """HLS or DASH."""
        if self.found is not None:
            return self.found.kind == "playlist"
        return self._spelled(_PLAYLISTS)

    @property
    def live(self) -> bool:
        return self.found.live if self.found is not None else not self._spelled(_RECORDED)

    def _spelled(self, endings: tuple[str, ...]) -> bool:
        return urlsplit(self.location).path.lower().endswith(endings)

    def prepare(
        self, options: ConnectionOptions, timeout_s: float, cancelled: Callable[[], bool]
    ) -> Source | Problem:
        """Ask for a playlist each time, as what it leads to may have changed; for anything else once."""
        reached = super().prepare(options, timeout_s, cancelled)
        before = self.found
        if reached is not self or (before is not None and before.kind != "playlist"):
            return reached
        recorded = self._spelled(_RECORDED)
        found = in_background(
            lambda: probe.ask(self, options.trust, timeout_s, spelled_recorded=recorded), cancelled
        )
        if found is None or isinstance(found, Problem):
            return found or self
        if before is not None:  # a live stream that has ended meanwhile is still read as one
            found = replace(found, live=before.live)
        return replace(self, found=found)

    def make_elements(self, context: ElementContext) -> list[Any]:
        kind = self.found.kind if self.found is not None else ""
        if kind == "snapshot":
            return [snapshot_element(self, context.options.trust, context.fps, context.connect)]
        # A camera's endless answer carries no times: they are taken from the clock.
        endless = self.live and not self.segmented
        variant = self.found.location if self.found is not None else None
        element = make(
            "souphttpsrc", location=variant or self.location, is_live=endless, do_timestamp=endless
        )
        if kind == "playlist":
            trim(element.get_static_pad("src"), without_mark)
        elif kind == "mjpeg":
            trim(element.get_static_pad("src"), FirstBoundary())
        options = context.options  # not the context: a handler of the pipeline must not hold it
        context.connect(
            context.pipeline, "deep-element-added", lambda _pipeline, _bin, part: self._set_up(part, options)
        )
        return [element]

    def _set_up(self, element: Any, options: ConnectionOptions) -> None:
        """Set up what comes into the pipeline: HTTP clients (a playlist makes more), the demuxer of MJPEG."""
        factory = element.get_factory()
        name = factory.get_name() if factory is not None else ""
        if name == "multipartdemux":
            element.set_property("single-stream", True)  # else decodebin waits for more streams
        if name != "souphttpsrc":
            return
        element.set_property("ssl-strict", options.tls_verify)
        element.set_property("timeout", _TIMEOUT_S)
        location = load().Gst.Uri.from_string(element.get_property("location") or "")
        if location is not None and (location.get_host() or "").lower() != self.host:
            return  # any other server that a playlist names gets no credentials, and the system's trust alone
        if (database := tls.database(options.trust)) is not None:
            element.set_property("tls-database", database)
        if self.user is not None:
            element.set_property("user-id", self.user)
            element.set_property("user-pw", self.password or "")

    def explain(self, error: StreamError) -> Problem | None:
        resource = error.domain == "resource"
        if resource and (status := _status(error.debug)):
            return probe.refused_by_server(*status)
        if resource and error.code in (3, 15):
            return probe.refused_by_server(401 if error.code == 15 else 404)
        if "certificate" in error.words:
            return UNTRUSTED
        if resource and error.delivered:
            return Problem("the connection was lost", "check the network and the server")
        if resource:
            return Problem(
                f"cannot open the stream ({error.detail})", "check that the server is on and the URL right"
            )
        if error.domain == "stream" and error.code in (1, 4, 5, 6, 9):
            cause = f"what the server sends is no video GStreamer can read ({error.detail})"
            return Problem(cause, "check the URL")
        return None


def parse(text: str) -> HttpSource | None:
    """Raises SourceError for an address that cannot be read."""
    scheme = scheme_of(text)
    return HttpSource(*split_url(text, _PORTS[scheme])) if scheme in _PORTS else None


def _status(debug: str) -> tuple[int, str] | None:
    """Status and reason in souphttpsrc's debug text: ``Forbidden (403), URL: ...``."""
    match = re.search(r"^(.*) \(([45]\d\d)\), URL:", debug, re.MULTILINE)
    return (int(match[2]), match[1]) if match else None
