"""A video file: ``clip.mp4`` or ``file:///data/clip.mp4``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from edge_runtime.errors import SourceError
from edge_runtime.events.numbering import file_identity
from pipelines.gst import make
from pipelines.sources import container
from pipelines.sources.address import shown
from pipelines.sources.base import ElementContext, Source
from pipelines.sources.errors import NOT_A_VIDEO, UNREADABLE, Problem, StreamError


@dataclass(frozen=True)
class FileSource(Source):
    """A video file, read as fast as frames are taken; none is dropped."""

    path: str
    kind = "file"

    @property
    def label(self) -> str:
        return self.path

    def check(self) -> Problem | None:
        return check_file(self.path)

    def event_identity(self, *more: str) -> str:
        return file_identity(self.path, *more)

    def structure(self) -> container.Structure:
        return container.inspect(self.path)

    def make_elements(self, context: ElementContext) -> list[Any]:
        return [make("filesrc", location=self.path)]

    def explain(self, error: StreamError) -> Problem | None:
        return explain_file(error)


def path_of(text: str) -> str:
    """The path behind a file URL. Raises SourceError for one that names no file of this machine."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise SourceError(f"{shown(text)}: it cannot be read; write file:///path", permanent=True) from None
    if parts.netloc not in ("", "localhost"):
        raise SourceError(
            f"{shown(text)}: a file URL names a file on this machine; write file:///path", permanent=True
        )
    return url2pathname(parts.path)


def explain_file(error: StreamError) -> Problem | None:
    """Explain an error of an element that reads files."""
    match error.domain, error.code:
        case "stream", 4 | 5 | 6:
            return NOT_A_VIDEO
        case "stream", 1 | 9:
            return UNREADABLE
        case "stream", 7:
            return Problem("the frames in the file cannot be decoded", "record or copy it again", "permanent")
        case "stream", 12 | 13:
            return Problem("the file is encrypted", "give a file without copy protection", "permanent")
        case "resource", 9:
            return Problem("the file cannot be read (disk error?)", "copy it to another disk", "permanent")
    return None


def check_file(path: str) -> Problem | None:
    """Say what is wrong with a file before it is opened; None when it is worth trying."""
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
