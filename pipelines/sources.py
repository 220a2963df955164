"""Where frames come from: a source string becomes a small frozen record. Nothing is opened here.

=====================  ==============================================================================
``clip.mp4``           a file (also ``file:///...``)
``rtsp://host/path``   a network camera; user and password in the URL are split off and never shown
``/dev/video0``        a camera by its device file
``camera0``            the first camera of this machine
``test:``              a moving test pattern; ``test:ball`` names one of :data:`TEST_PATTERNS`
=====================  ==============================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit
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
ACCEPTED = "a video file, rtsp://..., /dev/videoN, cameraN or test:"


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


Source = FileSource | RtspSource | DeviceSource | TestSource


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
        return _parse_rtsp(text)
    if scheme == "file":
        return _parse_file_url(text)
    if scheme:
        raise SourceError(
            f"{secrets.scrub(text)}: {scheme}:// sources are not supported; give {ACCEPTED}", permanent=True
        )
    return FileSource(text)


def _parse_test(text: str) -> TestSource:
    pattern = text.partition(":")[2] or "ball"
    if pattern not in TEST_PATTERNS:
        raise SourceError(
            f"test:{pattern}: no such pattern; use one of {', '.join(TEST_PATTERNS)}", permanent=True
        )
    return TestSource(pattern)


def _parse_file_url(text: str) -> FileSource:
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(
            f"{text}: a file URL names a file on this machine; write file:///path", permanent=True
        )
    return FileSource(url2pathname(parts.path))


def _parse_rtsp(text: str) -> RtspSource:
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
    parts = urlsplit(f"{scheme.lower()}://{rest}")
    secrets.register_url_values(text)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SourceError(
            f"{secrets.scrub(text)}: {error}; write rtsp://host:port/path", permanent=True
        ) from None
    if not host:
        raise SourceError(
            f"{secrets.scrub(text)}: no host in the URL; write rtsp://host:port/path", permanent=True
        )
    default_port = 322 if parts.scheme == "rtsps" else 554
    return RtspSource(urlunsplit(parts), host, port or default_port, user, password)
