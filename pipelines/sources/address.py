"""Read the addresses of sources, and show them without their secrets."""

from __future__ import annotations

import re
from typing import NamedTuple

from edge_runtime import redaction
from edge_runtime.errors import SourceError
from edge_runtime.video.network_url import (
    HOW_TO_WRITE,
    MASK,
    AmbiguousUrlError,
    UnreadableUrlError,
    masked,
    read_url,
)


class Url(NamedTuple):
    """A network address; ``location`` holds neither user nor password."""

    location: str
    host: str
    port: int
    user: str | None
    password: str | None


def scheme_of(text: str) -> str:
    """The scheme of ``scheme://...`` in lower case; empty when there is none."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return match[1].lower() if match else ""


def split_url(text: str, default_port: int) -> Url:
    """Split user and password off, decode them and hide them from now on. Raises SourceError."""
    redaction.register_url(text)
    try:
        url = read_url(text)
    except UnreadableUrlError as error:
        scheme = text.partition("://")[0].lower()
        how = f"write {scheme}://host:port/path"
        if isinstance(error, AmbiguousUrlError):
            how = HOW_TO_WRITE.format(scheme=scheme)
        raise SourceError(f"{shown(text)}: {error}; {how}", permanent=True) from None
    return Url(url.location, url.host, url.port or default_port, url.user, url.password)


def shown(text: str) -> str:
    """A source that cannot be used, without what may be a secret in it."""
    redaction.register_url(text)
    visible = masked(text)
    # "rtsp://admin:word" may be the beginning of an address, if "word" is no port.
    word = re.match(r"[^/]*://[^/?#@\[\]:]*:(?![0-9]+(?:[/?#]|$))([^@]+)$", visible, re.S)
    if word is not None:
        redaction.register(word[1])
        visible = f"{visible[: word.start(1)]}{MASK}"
    return redaction.scrub(visible)


def printable(name: str) -> str:
    """``name`` with what is not UTF-8 spelled out: nothing can write out what Python makes of such bytes."""
    return name.encode("utf-8", "backslashreplace").decode()
