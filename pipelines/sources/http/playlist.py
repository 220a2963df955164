"""HLS playlists (RFC 8216), as far as they decide how a stream is read: recorded or live, video or sound."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

BOM = b"\xef\xbb\xbf"
_VIDEO_CODECS = ("avc", "hvc", "hev", "dvh", "av01", "vp", "mp4v")
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
_ENOUGH_PIXELS = 640 * 480


def is_playlist(head: bytes) -> bool:
    """True for the first bytes of an HLS playlist."""
    return head.removeprefix(BOM).lstrip().startswith(b"#EXTM3U")


def is_link_list(text: str) -> bool:
    """True for an M3U that is not HLS: links for a player to choose from."""
    return "#EXT-X-" not in text


def is_recorded(text: str) -> bool:
    """True for a media playlist that will not grow."""
    return "#EXT-X-ENDLIST" in text or re.search(r"#EXT-X-PLAYLIST-TYPE:\s*VOD", text) is not None


@dataclass(frozen=True)
class Variant:
    """One entry of a master playlist."""

    url: str
    pixels: int
    """Width times height; 0 when the playlist does not say."""
    has_video: bool
    """False when the playlist says that it is sound alone."""


def variants(text: str, base: str) -> list[Variant]:
    """The entries of a master playlist, in its order; empty for a media playlist. ``base``: its own URL."""
    found = []
    attributes: dict[str, str] | None = None
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("#EXT-X-STREAM-INF:"):
            attributes = {key: value.strip('"') for key, value in _ATTRIBUTE.findall(line)}
        elif line and not line.startswith("#") and attributes is not None:
            url = urljoin(base, line)
            if urlsplit(url).scheme in ("http", "https"):
                found.append(_variant(url, attributes))
            attributes = None
    return found


def may_be_sound(found: list[Variant]) -> bool:
    """True when an entry is, or may be, sound alone: it has no size and others have one."""
    return any(not one.has_video for one in found) or len({one.pixels > 0 for one in found}) > 1


def choose(found: list[Variant]) -> Variant | None:
    """Of the entries with video the smallest of about 640x480 and above; None when all are sound alone."""
    return min((one for one in found if one.has_video), key=_cost, default=None)


def _variant(url: str, attributes: dict[str, str]) -> Variant:
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", attributes.get("RESOLUTION", ""))
    pixels = int(size[1]) * int(size[2]) if size else 0
    codecs = [codec.strip().lower() for codec in attributes.get("CODECS", "").split(",") if codec.strip()]
    unknown = not codecs and not pixels
    return Variant(url, pixels, unknown or bool(pixels) or any(c.startswith(_VIDEO_CODECS) for c in codecs))


def _cost(variant: Variant) -> tuple[bool, int]:
    enough = variant.pixels >= _ENOUGH_PIXELS
    return not enough, variant.pixels if enough else -variant.pixels
