"""Ask an HTTP server what it has, before GStreamer reads it: a recording, a playlist, a camera, an image.

A URL's spelling shows little (``/video``, ``/stream?id=3``, a ``.ts`` that may be either). One GET does: the
content type, the length and the first bytes. Then the connection is closed. What stays unknown is left
to the spelling and to GStreamer.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from edge_runtime.errors import SourceError
from pipelines.sources.errors import FORBIDDEN, LINKS, NO_VIDEO, REDIRECTS, Problem, first_line
from pipelines.sources.http import playlist
from pipelines.sources.http.client import HttpClient, Response
from pipelines.sources.network import challenges, tls
from pipelines.sources.network.source import NetworkSource

_HEAD_BYTES = 4096
_PLAYLIST_BYTES = 4 << 20
_HEAD_S = 3.0
"""How long to wait for the first bytes of a body."""
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_PAGES = re.compile(rb"\s*(<!doctype html|<html|\{)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """What a server turned out to have."""

    kind: Literal["file", "playlist", "mjpeg", "snapshot", "stream"]
    live: bool
    location: str | None = field(default=None, repr=False)
    """Where to read instead: one entry of a playlist of playlists."""


def ask(
    source: NetworkSource, trust: tls.Trust, timeout_s: float, *, spelled_recorded: bool
) -> Found | Problem | None:
    """What ``source`` is; a Problem when the server refuses; None when it is not known.

    ``spelled_recorded``: the URL ends like a recording's.
    """
    try:
        client = HttpClient(source, trust, timeout_s)
        with client.get(source.location) as response:
            return _classify(client, response, spelled_recorded)
    except SourceError as error:
        return Problem(str(error), "", "permanent")
    except urllib.error.HTTPError as error:
        with error:
            return _refusal(error)
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            return _untrusted(source, trust, error.reason, timeout_s)
    except (OSError, http.client.HTTPException, ValueError):
        pass
    return None


def _classify(client: HttpClient, response: Response, spelled_recorded: bool) -> Found | Problem:
    headers = response.headers
    media_type = headers.get_content_type() if headers.get("Content-Type") else ""
    length = int(text) if (text := headers.get("Content-Length", "").strip()).isdecimal() else None
    if media_type.startswith("multipart/"):
        return Found("mjpeg", live=True)
    head = _read_head(response)
    if playlist.is_playlist(head):
        return _playlist(client, response.url, head + response.read(_PLAYLIST_BYTES))
    if b"<MPD" in head:
        return Found("playlist", live=b'type="dynamic"' in head)
    if head.startswith(_IMAGES) and (length is not None or media_type.startswith("image/")):
        return Found("snapshot", live=True)
    if length == 0:
        return Problem("what the server sends is empty (0 bytes)", "check the URL")
    if _PAGES.match(head):
        return Problem(
            f"what the server sends is no video but a page ({media_type or 'text'})", "check the URL"
        )
    recorded = length is not None or headers.get("Accept-Ranges") == "bytes" or spelled_recorded
    return Found("file", live=False) if recorded else Found("stream", live=True)


def _read_head(response: Response) -> bytes:
    """The first bytes of the body: fewer when no more come soon."""
    head, end = b"", time.monotonic() + _HEAD_S
    try:
        while len(head) < _HEAD_BYTES and time.monotonic() < end:
            data = response.read1(_HEAD_BYTES - len(head))
            if not data:
                break
            head += data
    except TimeoutError:
        pass
    return head


def _playlist(client: HttpClient, url: str, data: bytes) -> Found | Problem:
    text = data.decode("utf-8-sig", "replace")
    if playlist.is_link_list(text):
        return LINKS
    listed = playlist.variants(text, url)
    if not listed:
        return Found("playlist", live=not playlist.is_recorded(text))
    chosen = playlist.choose(listed)
    if chosen is None:
        return NO_VIDEO
    with client.get(chosen.url) as response:
        media = response.read(_PLAYLIST_BYTES).decode("utf-8-sig", "replace")
    # GStreamer starts with the first entry and changes by bandwidth: never to one that is sound alone.
    location = chosen.url if playlist.may_be_sound(listed) else None
    return Found("playlist", live=not playlist.is_recorded(media), location=location)


def _refusal(error: urllib.error.HTTPError) -> Problem:
    asked = challenges.unsupported(error.headers.get_all("WWW-Authenticate") or [])
    if error.code == 401 and asked:
        return challenges.unsupported_login(asked)
    if 300 <= error.code < 400:
        return REDIRECTS
    return refused_by_server(error.code, error.reason)


def _untrusted(
    source: NetworkSource, trust: tls.Trust, error: ssl.SSLCertVerificationError, timeout_s: float
) -> Problem:
    """The first server's certificate was looked at before: this is about it, or about one it redirects to."""
    port = urlsplit(source.location).port or 443
    return tls.refused(source.host, port, trust, getattr(error, "verify_code", 0), timeout_s)


def refused_by_server(status: int, reason: str = "") -> Problem:
    """The problem of an HTTP status that is not a success."""
    if status == 401:
        return Problem(
            "the server refuses the user name or password (401)", "check user and password", "auth"
        )
    if status == 403:
        return FORBIDDEN
    if status in (404, 410):
        return Problem(f"the server has no such video ({status})", "check the path in the URL")
    return Problem(
        f"the server answers {status} {first_line(reason) if reason else ''}".rstrip(),
        "check the server and the URL",
    )
