"""Where frames come from: a source string becomes a small frozen record. Nothing is opened here.

=====================  ==============================================================================
``clip.mp4``           a file (also ``file:///...``)
``shots/``             pictures in a folder, one after another; ``shots/%04d.jpg`` by number
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
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from edge_runtime.errors import SourceError

from . import secrets

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
PICTURE_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
"""Pictures that can be played in sequence, by ending."""
ACCEPTED = "a video file, rtsp://..., http://..., srt://..., /dev/videoN, cameraN, csi://N or test:"
_RECORDED = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".flv", ".ogv", ".wmv", ".3gp")
_FIRST_NUMBERS = 10_000
"""Where the numbers of a pattern may begin."""
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
    """Pictures in sequence: a folder, or a pattern such as ``shot%04d.jpg``."""

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
        """In order: of a pattern from its first number to the first gap, of a folder by name."""
        if "%" not in os.path.basename(self.path):
            names = sorted(os.listdir(self.path), key=lambda name: [_number(p) for p in _DIGITS.split(name)])
            wanted = [name for name in names if os.path.splitext(name)[1].lower() in PICTURE_TYPES]
            return [os.path.join(self.path, name) for name in wanted]
        try:
            _ = self.path % 0
        except (TypeError, ValueError):
            raise SourceError(
                f"{self.path}: not a pattern of numbered pictures; write one %d or %04d", permanent=True
            ) from None
        number = next((n for n in range(_FIRST_NUMBERS) if os.path.exists(self.path % n)), 0)
        found: list[str] = []
        while os.path.exists(path := self.path % (number + len(found))):
            found.append(path)
        return found


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
    """What a server turned out to have (:mod:`pipelines.http_probe`)."""

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
    if text == "test" or text.startswith("test:"):
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
    if scheme:
        raise SourceError(
            f"{secrets.scrub(text)}: {scheme}:// sources are not supported; give {ACCEPTED}", permanent=True
        )
    if re.search(r"%0?\d*d", os.path.basename(text)) or os.path.isdir(text):
        return ImagesSource(text)
    return FileSource(text)


def _parse_test(text: str) -> TestSource:
    pattern = text.partition(":")[2] or "ball"
    if pattern not in TEST_PATTERNS:
        raise SourceError(
            f"test:{pattern}: no such pattern; use one of {', '.join(TEST_PATTERNS)}", permanent=True
        )
    return TestSource(pattern)


def _parse_file_url(text: str) -> FileSource:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise SourceError(f"{text}: {error}; write file:///path", permanent=True) from None
    if parts.netloc not in ("", "localhost"):
        raise SourceError(
            f"{text}: a file URL names a file on this machine; write file:///path", permanent=True
        )
    return FileSource(url2pathname(parts.path))


def _parse_srt(text: str) -> SrtSource:
    """The passphrase and the rest of the query become properties: a location is shown, they are not."""
    head, _, query = text.partition("?")
    for key, value in parse_qsl(query):
        if key in ("passphrase", "streamid"):
            secrets.register(value)
    settings = tuple(parse_qsl(query))
    for key, _value in settings:
        if key not in _SRT_KEYS:
            raise SourceError(
                f"{head}: {key} is no setting of srt://; known here: {', '.join(_SRT_KEYS)}", permanent=True
            )
    mode = dict(settings).get("mode", "caller")
    if mode not in ("caller", "listener"):
        raise SourceError(f"{head}: mode={mode}: choose caller or listener", permanent=True)
    try:
        parts = urlsplit(head)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise SourceError(f"{head}: {error}; write srt://host:port", permanent=True) from None
    if not port or (not host and mode == "caller"):
        raise SourceError(f"{head}: host or port is missing; write srt://host:port", permanent=True)
    return SrtSource(f"srt://{parts.netloc}", host, port, settings)


class _Url(NamedTuple):
    location: str
    host: str
    port: int
    user: str | None
    password: str | None


def _split_url(text: str, default_ports: dict[str, int]) -> _Url:
    """Split by hand at the last ``@``: cameras' passwords hold ``#``, ``?``, ``/`` and ``@`` unescaped."""
    scheme, rest = text.split("://", 1)
    user = password = None
    plain = re.match(r"[^:/@?]*(:\d+)?[/?]", rest)  # host[:port]/..., so a later @ belongs to the path
    head = None if plain else re.match(r"(?P<userinfo>.*)@(?P<after>[^@]*)$", rest)
    if head:
        name, _, word = head["userinfo"].partition(":")
        user, password = unquote(name), unquote(word)
        secrets.register(word)
        rest = head["after"]
    secrets.register_url_values(text)
    scheme = scheme.lower()
    form = f"write {scheme}://host:port/path"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SourceError(f"{secrets.scrub(text)}: {error}; {form}", permanent=True) from None
    if not host:
        raise SourceError(f"{secrets.scrub(text)}: no host in the URL; {form}", permanent=True)
    return _Url(urlunsplit(parts), host, port or default_ports[scheme], user, password)


_DIGITS = re.compile(r"(\d+)")


def _number(part: str) -> tuple[int, str]:
    """Sorts shot9 before shot10."""
    return (int(part), "") if part.isdigit() else (-1, part)
