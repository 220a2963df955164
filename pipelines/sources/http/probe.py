"""Ask an HTTP server what it has, before GStreamer reads it: a recording, a playlist, a camera, a picture.

A URL's spelling tells little (``/video``, ``/stream?id=3``, a ``.ts`` that may be either). One GET does: the
content type, the length and the first bytes. Then the connection is closed. What cannot be told here is left
to the spelling and to GStreamer.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
from urllib.parse import urlsplit

from edge_runtime.errors import SourceError
from pipelines.sources.errors import LINKS, NO_VIDEO, REDIRECTS, Problem, refused_by_server
from pipelines.sources.http import challenges, playlist, tls
from pipelines.sources.http.client import HttpClient, Response
from pipelines.sources.registry import HttpFound, HttpSource

_HEAD_BYTES = 4096
_PLAYLIST_BYTES = 4 << 20
_HEAD_S = 3.0
"""How long to wait for the first bytes of a body."""
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_PAGES = re.compile(rb"\s*(<!doctype html|<html|\{)", re.IGNORECASE)


def ask(source: HttpSource, trust: tls.Trust, timeout_s: float) -> HttpFound | Problem | None:
    """What ``source`` is; a Problem when the server says no; None when it cannot be told."""
    try:
        client = HttpClient(source, trust, timeout_s)
        with client.get(source.location) as response:
            return _classify(client, source, response)
    except SourceError as error:
        return Problem(str(error), "", "permanent")
    except urllib.error.HTTPError as error:
        with error:
            return _refusal(source, error)
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            return _untrusted(source, trust, error.reason, timeout_s)
    except (OSError, http.client.HTTPException, ValueError):
        pass
    return None


def _classify(client: HttpClient, source: HttpSource, response: Response) -> HttpFound | Problem:
    headers = response.headers
    media_type = headers.get_content_type() if headers.get("Content-Type") else ""
    length = int(text) if (text := headers.get("Content-Length", "").strip()).isdecimal() else None
    if media_type.startswith("multipart/"):
        return HttpFound("mjpeg", live=True)
    head = _read_head(response)
    if playlist.is_playlist(head):
        return _playlist(client, source, response.url, head + response.read(_PLAYLIST_BYTES))
    if b"<MPD" in head:
        return HttpFound("playlist", live=b'type="dynamic"' in head)
    if head.startswith(_PICTURES) and (length is not None or media_type.startswith("image/")):
        return HttpFound("picture", live=True)
    if length == 0:
        return Problem("what the server sends is empty (0 bytes)", "check the URL")
    if _PAGES.match(head):
        return Problem(
            f"what the server sends is no video but a page ({media_type or 'text'})", "check the URL"
        )
    recorded = length is not None or headers.get("Accept-Ranges") == "bytes" or source.spelled_recorded
    return HttpFound("file", live=False) if recorded else HttpFound("stream", live=True)


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


def _playlist(client: HttpClient, source: HttpSource, url: str, data: bytes) -> HttpFound | Problem:
    text = data.decode("utf-8-sig", "replace")
    if playlist.is_link_list(text):
        return LINKS
    listed = playlist.variants(text, url)
    if not listed:
        return HttpFound("playlist", live=not playlist.is_recorded(text))
    chosen = playlist.choose(listed)
    if chosen is None:
        return NO_VIDEO
    with client.get(chosen.url) as response:
        media = response.read(_PLAYLIST_BYTES).decode("utf-8-sig", "replace")
    # GStreamer starts with the first entry and changes by bandwidth: never to one that is sound alone.
    location = chosen.url if playlist.may_be_sound(listed) else None
    return HttpFound("playlist", live=not playlist.is_recorded(media), location=location)


def _refusal(source: HttpSource, error: urllib.error.HTTPError) -> Problem:
    asked = challenges.unsupported(error.headers.get_all("WWW-Authenticate") or [])
    if error.code == 401 and asked:
        return unsupported_login(asked)
    if 300 <= error.code < 400:
        return REDIRECTS
    return refused_by_server(error.code, error.reason)


def _untrusted(
    source: HttpSource, trust: tls.Trust, error: ssl.SSLCertVerificationError, timeout_s: float
) -> Problem:
    """The first server's certificate was looked at before: this is about it, or about one it redirects to."""
    port = urlsplit(source.location).port or 443
    return tls.refused(source.host, port, trust, getattr(error, "verify_code", 0), timeout_s)


def unsupported_login(asked: str) -> Problem:
    """For RTSP as well."""
    return Problem(
        f"the server asks for {asked} authentication, which GStreamer does not have",
        "set it to MD5 digest or basic authentication (over TLS)",
        "auth",
    )
