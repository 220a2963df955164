"""What went wrong, in words a person can act on: GStreamer's error codes become one cause and one next step.

Pure functions over (domain, code, text), so that every line of the table can be tested without a camera.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import Literal

from edge_runtime.redaction import scrub
from pipelines.sources import container
from pipelines.sources.images.paths import PICTURE_ENDINGS
from pipelines.sources.registry import (
    CsiSource,
    DeviceSource,
    FileSource,
    HttpSource,
    ImagesSource,
    RtspSource,
    Source,
    SrtSource,
)

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
NO_VIDEO = Problem("there is no video in it", "give a source with a picture", "permanent")
ENDED_BY_SOURCE = Problem("the stream was closed from the other side", "check the camera and the network")
FORBIDDEN = Problem(
    "the server forbids access (403)",
    "check the path, and at the server what this user and this machine may see",
    "auth",
)
REDIRECTS = Problem("the server redirects in a circle", "check the path in the URL")
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


def explain(
    source: Source, domain: str, code: int, text: str, debug: str = "", *, delivered: bool = False
) -> Problem:
    """The problem behind a GStreamer error. ``domain``: ``resource``, ``stream``, ``core`` or ``library``.

    ``delivered``: there have been pictures before.
    """
    detail = first_line(text)
    if isinstance(source, RtspSource):
        found = _explain_rtsp(domain, code, detail, debug, delivered)
    elif isinstance(source, DeviceSource):
        found = _explain_device(source, domain, code, detail, debug)
    elif isinstance(source, HttpSource):
        found = _explain_http(domain, code, detail, debug, delivered)
    elif isinstance(source, SrtSource):
        found = _explain_srt(domain, detail, debug)
    elif isinstance(source, CsiSource):
        found = Problem(f"the camera stopped ({detail})", "check its cable and `nvargus-daemon`")
    elif isinstance(source, (FileSource, ImagesSource)):
        found = _explain_file(domain, code)
    else:
        found = None
    if "privacy mask" in detail:
        found = Problem(detail, "check the mask's corners; nothing is shown without it", "permanent")
    if found is None and domain == "resource" and code == 14:
        found = Problem("no space left on the device", "free some disk space")
    return found or Problem(f"GStreamer stopped: {detail}", "see `edge-run doctor`")


def _explain_rtsp(domain: str, code: int, detail: str, debug: str, delivered: bool) -> Problem | None:
    if domain == "resource" and code == 15:
        return Problem(
            "the server refuses the user name or password (401)",
            "write them as rtsp://USER:PASSWORD@host/path, special characters percent-encoded",
            "auth",
        )
    if "(403)" in debug:
        return FORBIDDEN
    if domain == "resource" and code == 3:
        return Problem("the server knows no such stream (404)", "check the path in the URL")
    if "TLS" in debug or "certificate" in debug.lower():
        return Problem(
            "the server's TLS certificate is not accepted", "trust its certificate or turn verification off"
        )
    if domain == "resource" and code in (5, 7):
        return Problem(
            f"cannot open the stream ({server_words(debug) or detail})",
            "check that the camera is on and the URL right",
        )
    if domain == "resource" and code in (9, 10, 12):
        if delivered:
            return Problem("the connection was lost", "check the network and the camera")
        return Problem("the server broke off before any picture", "check that it serves RTSP on this port")
    if domain == "stream" and code in (1, 6, 11):
        return Problem(f"the stream cannot be decoded ({detail})", "set the camera to H.264")
    return None


def _explain_http(domain: str, code: int, detail: str, debug: str, delivered: bool) -> Problem | None:
    if domain == "resource" and (status := _status(debug)):
        return refused_by_server(*status)
    if domain == "resource" and code == 15:
        return refused_by_server(401)
    if domain == "resource" and code == 3:
        return refused_by_server(404)
    if "certificate" in (detail + debug).lower():
        return Problem(
            "the server's TLS certificate is not accepted", "trust its certificate or turn verification off"
        )
    if domain == "resource":
        if delivered:
            return Problem("the connection was lost", "check the network and the server")
        return Problem(f"cannot open the stream ({detail})", "check that the server is on and the URL right")
    if domain == "stream" and code in (1, 4, 5, 6, 9):
        return Problem(f"what the server sends is no video GStreamer can read ({detail})", "check the URL")
    return None


def refused_by_server(status: int, reason: str = "") -> Problem:
    """An HTTP status that is not a success."""
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


def _explain_srt(domain: str, detail: str, debug: str) -> Problem | None:
    words = (detail + " " + debug).lower()
    if any(word in words for word in ("passphrase", "password", "badsecret", "unsecure")):
        return Problem("the sender refuses the passphrase", "check passphrase and pbkeylen", "auth")
    if domain == "resource":
        return Problem(
            f"cannot open the stream ({detail})", "check host, port and mode; one side calls, one listens"
        )
    return None


def _explain_device(source: DeviceSource, domain: str, code: int, detail: str, debug: str) -> Problem | None:
    if domain != "resource":
        return Problem(f"the camera gives no usable picture ({detail})", "see `edge-run doctor`")
    if code == 4 or "busy" in (detail + debug).lower():
        owner = f"`fuser -v {source.path}` shows which program" if source.path else "close the other program"
        return Problem("the camera is busy: another program is using it", owner)
    if "permission denied" in debug.lower():
        return no_permission_device()
    if any(words in (detail + debug).lower() for words in ("not a capture device", "isn't a v4l2 driver")):
        return Problem(
            "the device gives no video", "use another /dev/video number; `edge-run doctor` lists cameras"
        )
    if code in (3, 5, 7):
        return Problem(
            f"the camera cannot be opened ({detail})", "check the cable; `edge-run doctor` lists cameras"
        )
    return Problem(f"the camera stopped ({detail})", "check the cable")


def no_permission_device() -> Problem:
    return Problem(
        "no permission to use the camera", "run `sudo usermod -aG video $USER` and log in again", "permanent"
    )


def _explain_file(domain: str, code: int) -> Problem | None:
    if domain == "stream" and code in (4, 5, 6):
        return NOT_A_VIDEO
    if domain == "stream" and code in (1, 9):
        return UNREADABLE
    if domain == "stream" and code == 7:
        return Problem("the pictures in the file cannot be decoded", "record or copy it again", "permanent")
    if domain == "stream" and code in (12, 13):
        return Problem("the file is encrypted", "give a file without copy protection", "permanent")
    if domain == "resource" and code == 9:
        return Problem("the file cannot be read (disk error?)", "copy it to another disk", "permanent")
    return None


def _status(debug: str) -> tuple[int, str] | None:
    """Status and reason in souphttpsrc's debug text: ``Forbidden (403), URL: ...``."""
    match = re.search(r"^(.*) \(([45]\d\d)\), URL:", debug, re.MULTILINE)
    return (int(match[2]), match[1]) if match else None


def server_words(debug: str) -> str:
    """The server's own reason inside rtspsrc's debug text, e.g. ``Service Unavailable (503)``."""
    match = re.search(r"\b([A-Z][A-Za-z ]+ \([345]\d\d\))", debug)
    return match[1] if match else ""


def first_line(text: str) -> str:
    line = scrub(text.strip().splitlines()[0]) if text.strip() else "no reason given"
    return line.rstrip(".")


def no_pictures() -> Problem:
    return Problem(
        f"there are no pictures ({', '.join(PICTURE_ENDINGS)}) in it",
        "give a video file, or a folder or pattern of pictures",
        "permanent",
    )


def check_source(source: Source) -> Problem | None:
    """What can be said about files and folders before they are opened; None when it is worth trying."""
    if isinstance(source, FileSource):
        return check_file(source.path)
    if isinstance(source, ImagesSource):
        try:
            files = source.files
            if files == [source.path]:
                return check_file(source.path)
            return None if files else no_pictures()
        except OSError as error:
            return Problem(f"cannot be read ({error.strerror})", "check its permissions", "permanent")
    return None


def check_file(path: str) -> Problem | None:
    """What can be said about a file before it is opened; None when it is worth trying."""
    if not os.path.exists(path):
        parent = os.path.dirname(path) or "."
        if not os.path.isdir(parent):
            return Problem(f"no such folder: {parent}", "check the path", "permanent")
        return Problem("no such file", "check the path", "permanent")
    if os.path.isdir(path):
        return Problem("is a folder, not a video file", "give one file inside it", "permanent")
    if not os.path.isfile(path):
        return Problem("is not a regular file", "give a video file, or /dev/videoN for a camera", "permanent")
    if not os.access(path, os.R_OK):
        return Problem("no permission to read it", f"run `chmod +r {path}` or ask its owner", "permanent")
    if os.path.getsize(path) == 0:
        return Problem("the file is empty (0 bytes)", "record or copy it again", "permanent")
    structure = container.inspect(path)
    if structure.animation:
        return Problem(f"{structure.animation}, which is not supported", "convert it to MP4", "permanent")
    if structure.no_index and structure.fragmented:
        return Problem(
            "a segment of a longer MP4, without the first part that describes it (moov)",
            "put the initialisation segment in front: `cat init.mp4 segment.m4s > clip.mp4`",
            "permanent",
        )
    if structure.no_index:
        return Problem(
            "an MP4 without its index (moov): the recording was cut off before it was finished",
            "record it again",
            "permanent",
        )
    return None


def check_device(path: str) -> Problem | None:
    """What can be said about a camera's device file before it is opened."""
    if not os.path.exists(path):
        return Problem("no such camera", "plug it in; `edge-run doctor` lists the cameras of this machine")
    if not stat.S_ISCHR(os.stat(path).st_mode):
        return Problem("is not a camera device", "give /dev/videoN", "permanent")
    if not os.access(path, os.R_OK | os.W_OK):
        return no_permission_device()
    return None
