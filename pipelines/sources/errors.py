"""Problems in words a person can act on: GStreamer's error codes become one cause and one next step.

Each kind of source explains the errors of its own elements; here is what they share. All of it is pure, so
that every line can be tested without a camera.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edge_runtime.redaction import scrub

if TYPE_CHECKING:
    from pipelines.sources.base import Source

Kind = Literal["transient", "permanent", "auth"]

CODEC_PACKAGES = {
    "video/x-h264": ("H.264", "gstreamer1.0-libav"),
    "video/x-h265": ("H.265 (HEVC)", "gstreamer1.0-libav"),
    "video/x-av1": ("AV1", "gstreamer1.0-plugins-bad"),
    "video/x-vp8": ("VP8", "gstreamer1.0-plugins-good"),
    "video/x-vp9": ("VP9", "gstreamer1.0-plugins-good"),
    "video/x-theora": ("Theora", "gstreamer1.0-plugins-base"),
    "video/mpeg": ("MPEG video", "gstreamer1.0-libav"),
    "video/x-divx": ("DivX", "gstreamer1.0-libav"),
    "video/x-wmv": ("Windows Media Video", "gstreamer1.0-libav"),
    "video/x-prores": ("ProRes", "gstreamer1.0-libav"),
    "image/jpeg": ("JPEG", "gstreamer1.0-plugins-good"),
    "image/png": ("PNG", "gstreamer1.0-plugins-good"),
    "video/quicktime": ("MP4/QuickTime", "gstreamer1.0-plugins-good"),
    "video/x-matroska": ("Matroska", "gstreamer1.0-plugins-good"),
    "video/webm": ("WebM", "gstreamer1.0-plugins-good"),
    "video/x-msvideo": ("AVI", "gstreamer1.0-plugins-good"),
    "video/x-flv": ("Flash video", "gstreamer1.0-plugins-good"),
    "video/mpegts": ("MPEG transport stream", "gstreamer1.0-plugins-bad"),
    "video/x-ms-asf": ("ASF", "gstreamer1.0-plugins-ugly"),
    "application/x-rtp": ("RTP", "gstreamer1.0-plugins-good"),
}

_LINKS = (
    "application/x-hls",
    "application/dash+xml",
    "application/vnd.ms-sstr+xml",
    "application/sdp",
    "text/uri-list",
)
"""Files that would make this machine open network connections."""


@dataclass(frozen=True)
class StreamError:
    """An error message of a GStreamer element."""

    domain: str
    """``resource``, ``stream``, ``core`` or ``library``."""
    code: int
    text: str
    debug: str = ""
    delivered: bool = False
    """There were frames before."""

    @property
    def detail(self) -> str:
        """Its first line, without secrets."""
        return first_line(self.text)

    @property
    def words(self) -> str:
        """All of it in lower case, to look for a word."""
        return f"{self.detail} {self.debug}".lower()


@dataclass(frozen=True)
class Problem:
    """A cause and what to do about it; ``kind`` decides whether, and how soon, trying again makes sense."""

    cause: str
    hint: str
    kind: Kind = "transient"
    unreachable: bool = False
    """Nothing answered at all: asking again soon costs nobody anything."""

    def line(self, label: str) -> str:
        """The whole message: which input, what happened, what to do next."""
        text = f"{label}: {self.cause}"
        return scrub(f"{text}; {self.hint}" if self.hint else text)


NOT_A_VIDEO = Problem(
    "not a video file GStreamer can read", "give an mp4, mkv, avi, mov or ts file", "permanent"
)
NO_VIDEO = Problem("there is no video in it", "give a source with video", "permanent")
ENDED_BY_SOURCE = Problem("the stream was closed from the other side", "check the camera and the network")
FORBIDDEN = Problem(
    "the server forbids access (403)",
    "check the path, and at the server what this user and this machine may see",
    "auth",
)
REDIRECTS = Problem("the server redirects in a circle", "check the path in the URL")
UNTRUSTED = Problem(
    "the server's TLS certificate is not accepted", "trust its certificate or turn verification off"
)
LINKS = Problem("it is a list of links, not a video", "give the video itself", "permanent")
UNREADABLE = Problem(
    "GStreamer cannot read the file's structure",
    "copy it again, or rewrite it with `ffmpeg -i FILE -c copy NEW.mp4`",
    "permanent",
)


def codec_name(caps_name: str) -> str:
    """A short name for a media type: ``h264`` for ``video/x-h264``."""
    return re.sub(r"^(video|image|audio|application)/(x-)?", "", caps_name)


def missing_plugin(media_type: str, description: str) -> Problem:
    """Nothing installed can read ``media_type`` (a caps name); ``description`` is GStreamer's own wording."""
    if media_type in _LINKS:
        return LINKS
    if media_type not in CODEC_PACKAGES and not media_type.startswith(("video/", "image/")):
        return NOT_A_VIDEO
    name, package = CODEC_PACKAGES.get(
        media_type, (description or codec_name(media_type), "gstreamer1.0-libav")
    )
    return Problem(
        f"no decoder for {name} ({media_type or 'unknown type'}) is installed",
        f"install it with `sudo apt-get install -y {package}`",
        "permanent",
    )


def explain(source: Source, error: StreamError) -> Problem:
    """The problem behind ``error``: in the words of its source, else in general ones."""
    if "privacy mask" in error.detail:
        return Problem(error.detail, "check the mask's corners; nothing is shown without it", "permanent")
    found = source.explain(error)
    if found is None and (error.domain, error.code) == ("resource", 14):
        found = Problem("no space left on the device", "free some disk space")
    return found or Problem(f"GStreamer stopped: {error.detail}", "see `edge-run doctor`")


def first_line(text: str) -> str:
    line = scrub(text.strip().splitlines()[0]) if text.strip() else "no reason given"
    return line.rstrip(".")
