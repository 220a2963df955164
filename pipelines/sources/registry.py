"""Where frames come from: a source string becomes a small frozen record. Nothing is opened here.

=====================  ==============================================================================
``clip.mp4``           a file (also ``file:///...``)
``shots/``             pictures in a folder, one after another; ``shots/%04d.jpg`` by number; ``a.jpg`` alone
``rtsp://host/path``   a network camera; user and password in the URL are split off and never shown
``http://host/path``   HLS, a video file on a server, a camera's MJPEG or picture: asked for; ``https``
``srt://host:port``    an SRT sender; ``?mode=listener`` waits for one to call
``/dev/video0``        a camera by its device file
``camera0``            the first camera of this machine
``csi://0``            a CSI camera of a Jetson or Raspberry Pi
``test:``              a moving test pattern; ``test:ball`` names one of :data:`TEST_PATTERNS`
=====================  ==============================================================================
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from edge_runtime import redaction as secrets
from edge_runtime.errors import SourceError
from edge_runtime.video.network_url import (
    HOW_TO_WRITE,
    MASK,
    AmbiguousUrlError,
    UnreadableUrlError,
    decode,
    masked,
    read_url,
)
from pipelines.sources.images.paths import list_pictures, means_pictures

TEST_PATTERNS = (
    "ball",
    "smpte",
    "snow",
    "black",
    "white",
    "red",
    "green",
    "blue",
    "checkers-8",
    "circular",
    "pinwheel",
)
"""Patterns of GStreamer's videotestsrc that may be asked for by name."""

RTSP_SCHEMES = ("rtsp", "rtsps")
HTTP_SCHEMES = ("http", "https")
ACCEPTED = "a video file, rtsp://..., http://..., srt://..., /dev/videoN, cameraN, csi://N or test:"
_RECORDED = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".flv", ".ogv", ".wmv", ".3gp")
_SRT_KEYS = ("mode", "passphrase", "pbkeylen", "streamid", "latency")


@dataclass(frozen=True)
class FileSource:
    """A video file, read as fast as frames are taken; none is dropped."""

    path: str
    live = False

    @property
    def label(self) -> str:
        return self.path

    @property
    def kind(self) -> str:
        return "file"


@dataclass(frozen=True)
class ImagesSource:
    """Pictures in sequence: a folder, a pattern such as ``shot%04d.jpg``, or one picture."""

    path: str
    live = False

    @property
    def label(self) -> str:
        return self.path

    @property
    def kind(self) -> str:
        return "pictures"

    @property
    def files(self) -> list[str]:
        """See :func:`pipelines.sources.images.paths.list_pictures`."""
        return list_pictures(self.path).shown


@dataclass(frozen=True)
class RtspSource:
    """A network camera. ``location`` holds no credentials; ``user``/``password`` are decoded."""

    location: str = field(repr=False)  # may hold a token in its query; `label` is for showing
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    live = True

    @property
    def label(self) -> str:
        return secrets.scrub(self.location)

    @property
    def kind(self) -> str:
        return "rtsp"


@dataclass(frozen=True)
class HttpFound:
    """What a server turned out to have (:mod:`pipelines.sources.http.probe`)."""

    kind: Literal["file", "playlist", "mjpeg", "picture", "stream"]
    live: bool
    location: str | None = field(default=None, repr=False)
    """Where to read instead: one entry of a playlist of playlists."""


@dataclass(frozen=True)
class HttpSource:
    """Video over HTTP. What is recorded is read like a file; everything else is live.

    Until the server was asked (``found``), the spelling of the URL is what there is to go by.
    """

    location: str = field(repr=False)
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    found: HttpFound | None = None

    @property
    def _path(self) -> str:
        return urlsplit(self.location).path.lower()

    @property
    def playlist(self) -> bool:
        """HLS or DASH: segments that name their own pace."""
        if self.found is not None:
            return self.found.kind == "playlist"
        return self._path.endswith((".m3u8", ".m3u", ".mpd"))

    @property
    def spelled_recorded(self) -> bool:
        return self._path.endswith(_RECORDED)

    @property
    def live(self) -> bool:
        return self.found.live if self.found is not None else not self.spelled_recorded

    @property
    def label(self) -> str:
        return secrets.scrub(self.location)

    @property
    def kind(self) -> str:
        return "hls" if self.playlist else "http"


@dataclass(frozen=True)
class SrtSource:
    """An SRT stream. ``settings`` are srtsrc's properties, the passphrase among them."""

    location: str
    host: str
    port: int
    settings: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    live = True

    @property
    def label(self) -> str:
        return self.location

    @property
    def kind(self) -> str:
        return "srt"


@dataclass(frozen=True)
class CsiSource:
    """A camera on the CSI connector: ``index`` counts the board's sensors."""

    index: int = 0
    live = True

    @property
    def label(self) -> str:
        return f"csi://{self.index}"

    @property
    def kind(self) -> str:
        return "csi camera"


@dataclass(frozen=True)
class DeviceSource:
    """A camera of this machine: by device file, or the ``index``-th one found."""

    path: str | None = None
    index: int | None = None
    live = True

    @property
    def label(self) -> str:
        return self.path or f"camera{self.index}"

    @property
    def kind(self) -> str:
        return "camera"


@dataclass(frozen=True)
class TestSource:
    """A live test pattern made by GStreamer; needs no camera."""

    __test__ = False  # not a test class, whatever pytest thinks of its name
    pattern: str = "ball"
    live = True

    @property
    def label(self) -> str:
        return f"test:{self.pattern}"

    @property
    def kind(self) -> str:
        return "test pattern"


Source = (
    FileSource | ImagesSource | RtspSource | HttpSource | SrtSource | DeviceSource | CsiSource | TestSource
)


def parse_source(text: str) -> Source:
    """The record behind a source string. Raises SourceError (permanent) for one that cannot mean anything."""
    if not text or "\x00" in text:
        raise SourceError(f"the source is empty; give {ACCEPTED}", permanent=True)
    if (shown := printable(text)) != text:
        raise SourceError(f"{shown}: the name is not UTF-8; rename it", permanent=True)
    if text == "test" or (text.startswith("test:") and not os.path.isfile(text)):
        return _parse_test(text)
    if match := re.fullmatch(r"camera(\d{0,3})", text):
        return DeviceSource(index=int(match[1] or 0))
    if re.fullmatch(r"/dev/video\d+", text):
        return DeviceSource(path=text)
    scheme = match[1].lower() if (match := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)) else ""
    if scheme in RTSP_SCHEMES:
        return RtspSource(*_split_url(text, {"rtsp": 554, "rtsps": 322}))
    if scheme in HTTP_SCHEMES:
        return HttpSource(*_split_url(text, {"http": 80, "https": 443}))
    if scheme == "srt":
        return _parse_srt(text)
    if match := re.fullmatch(r"csi://(\d{0,2})", text):
        return CsiSource(int(match[1] or 0))
    if scheme == "file":
        return _parse_file_url(text)
    if scheme and not os.path.exists(text):
        raise SourceError(
            f"{_shown(text)}: {scheme}:// sources are not supported; give {ACCEPTED}", permanent=True
        )
    if re.match(r"[^/@]*:.*@", text, re.S) and not os.path.exists(text):
        secrets.register_url(text)
        raise SourceError(
            "the source is no file and looks like an address without its scheme; "
            "write rtsp:// or http:// in front of it",
            permanent=True,
        )
    return _parse_path(text)


def _parse_path(path: str) -> FileSource | ImagesSource:
    return ImagesSource(path) if means_pictures(path) else FileSource(path)


def _parse_test(text: str) -> TestSource:
    pattern = text.partition(":")[2] or "ball"
    if pattern not in TEST_PATTERNS:
        raise SourceError(
            f"test:{pattern}: no such pattern; use one of {', '.join(TEST_PATTERNS)}", permanent=True
        )
    return TestSource(pattern)


def _parse_file_url(text: str) -> FileSource | ImagesSource:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise SourceError(f"{_shown(text)}: it cannot be read; write file:///path", permanent=True) from None
    if parts.netloc not in ("", "localhost"):
        raise SourceError(
            f"{_shown(text)}: a file URL names a file on this machine; write file:///path", permanent=True
        )
    return _parse_path(url2pathname(parts.path))


def _parse_srt(text: str) -> SrtSource:
    """The passphrase and the rest of the query become properties: a location is shown, they are not."""
    secrets.register_url(text)
    head, _, query = text.partition("?")
    # Not parse_qsl: it takes "+" for a space, and people do not encode a passphrase.
    settings = tuple(
        (key, decode(value)) for key, _, value in (part.partition("=") for part in query.split("&") if part)
    )
    for key, value in settings:
        if key in ("passphrase", "streamid"):
            secrets.register(value)
    form = "write srt://host:port?passphrase=..."
    unknown = next((n for n, (key, _value) in enumerate(settings) if key not in _SRT_KEYS), None)
    if "@" in head or (unknown is not None and "@" in query):
        raise SourceError(f"{_shown(text)}: srt:// has no user; {form}", permanent=True)
    shown = secrets.scrub(head)
    if unknown is not None:
        known = ", ".join(_SRT_KEYS)
        if any(key == "passphrase" for key, _value in settings[:unknown]):  # this may be the rest of it
            what = f"what follows the passphrase is no setting of srt:// ({known}); write & in it as %26"
        else:
            what = f"{settings[unknown][0]} is no setting of srt://; known here: {known}"
        raise SourceError(f"{shown}: {what}", permanent=True)
    mode = dict(settings).get("mode", "caller")
    if mode not in ("caller", "listener"):
        raise SourceError(f"{shown}: mode={mode}: choose caller or listener", permanent=True)
    try:
        url = read_url(head, needs_host=mode == "caller")
    except UnreadableUrlError:
        raise SourceError(f"{shown}: host or port is missing; {form}", permanent=True) from None
    if url.port is None:
        raise SourceError(f"{shown}: host or port is missing; {form}", permanent=True)
    return SrtSource(f"srt://{url.authority}", url.host, url.port, settings)


class _Url(NamedTuple):
    location: str
    host: str
    port: int
    user: str | None
    password: str | None


def _split_url(text: str, default_ports: dict[str, int]) -> _Url:
    secrets.register_url(text)
    try:
        url = read_url(text)
    except UnreadableUrlError as error:
        scheme = text.partition("://")[0].lower()
        how = f"write {scheme}://host:port/path"
        if isinstance(error, AmbiguousUrlError):
            how = HOW_TO_WRITE.format(scheme=scheme)
        raise SourceError(f"{_shown(text)}: {error}; {how}", permanent=True) from None
    return _Url(url.location, url.host, url.port or default_ports[url.scheme], url.user, url.password)


def _shown(text: str) -> str:
    """A source that cannot be used, without what may be a secret in it."""
    secrets.register_url(text)
    shown = masked(text)
    # "rtsp://admin:word" may be the beginning of an address, if "word" is no port.
    word = re.match(r"[^/]*://[^/?#@\[\]:]*:(?![0-9]+(?:[/?#]|$))([^@]+)$", shown, re.S)
    if word is not None:
        secrets.register(word[1])
        shown = f"{shown[: word.start(1)]}{MASK}"
    return secrets.scrub(shown)


def printable(name: str) -> str:
    """``name`` with what is not UTF-8 spelled out: nothing can write out what Python makes of such bytes."""
    return name.encode("utf-8", "backslashreplace").decode()
