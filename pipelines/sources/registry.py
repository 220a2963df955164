"""Where frames come from: an address becomes a small frozen record. Nothing is opened here.

=====================  ==============================================================================
``clip.mp4``           a file (also ``file:///...``)
``shots/``             images in a folder, one after another; ``shots/%04d.jpg`` by number; ``a.jpg`` alone
``rtsp://host/path``   a network camera; user and password in the URL are split off and never shown
``http://host/path``   HLS, a video file on a server, a camera's MJPEG or snapshot: asked for; ``https``
``srt://host:port``    an SRT sender; ``?mode=listener`` waits for one to call
``/dev/video0``        a camera by its device file
``camera0``            the first camera of this machine
``csi://0``            a CSI camera of a Jetson or Raspberry Pi
``test:``              a moving test pattern; ``test:ball`` names one of the patterns
=====================  ==============================================================================

Other packages add kinds with an entry point of the group ``streampro_edge.sources``. It leads to a function
``parse(text)`` that returns a :class:`pipelines.sources.base.Source`, or None for what it does not know. The
entry point whose name is the address's scheme is asked; all are asked about what has no scheme and is no
file. The kinds above cannot be replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from edge_runtime import redaction
from edge_runtime.errors import SourceError
from pipelines.sources import csi, srt, test_pattern
from pipelines.sources.address import printable, scheme_of, shown
from pipelines.sources.base import Source
from pipelines.sources.errors import first_line
from pipelines.sources.file import FileSource, path_of
from pipelines.sources.http import source as http
from pipelines.sources.images import source as images
from pipelines.sources.rtsp import source as rtsp
from pipelines.sources.v4l2 import source as v4l2

GROUP = "streampro_edge.sources"

Parse = Callable[[str], Source | None]
"""The source that an address means; None when it is of another kind. Raises SourceError for a wrong one."""

_KINDS: dict[str, Parse] = {
    "rtsp://...": rtsp.parse,
    "http://...": http.parse,
    "srt://...": srt.parse,
    "/dev/videoN, cameraN": v4l2.parse,
    "csi://N": csi.parse,
    "test:": test_pattern.parse,
}
"""By what to write. Files are what is left."""


def parse_source(text: str) -> Source:
    """The source that ``text`` means. Raises SourceError (permanent) for one that cannot mean anything."""
    if not text or "\x00" in text:
        raise SourceError(f"the source is empty; give {_accepted()}", permanent=True)
    if (visible := printable(text)) != text:
        raise SourceError(f"{visible}: the name is not UTF-8; rename it", permanent=True)
    if (source := _first(_KINDS.values(), text)) is not None:
        return source
    scheme, exists = scheme_of(text), os.path.exists(text)
    if scheme == "file":
        path = path_of(text)
        return images.parse(path) or FileSource(path)
    plugins = () if exists else [one for one in entry_points(group=GROUP) if scheme in ("", one.name.lower())]
    if (source := _first([partial(_ask, one) for one in plugins], text)) is not None:
        return source
    if scheme and not exists:
        raise SourceError(
            f"{shown(text)}: {scheme}:// sources are not supported; give {_accepted()}", permanent=True
        )
    if re.match(r"[^/@]*:.*@", text, re.S) and not exists:
        redaction.register_url(text)
        raise SourceError(
            "the source is no file and looks like an address without its scheme; "
            "write rtsp:// or http:// in front of it",
            permanent=True,
        )
    return images.parse(text) or FileSource(text)


def _first(parsers: Iterable[Parse], text: str) -> Source | None:
    return next((source for parse in parsers if (source := parse(text)) is not None), None)


def _ask(plugin: EntryPoint, text: str) -> Source | None:
    try:
        parse: Parse = plugin.load()
        return parse(text)
    except SourceError:
        raise
    except Exception as error:
        package = plugin.dist.name if plugin.dist is not None else plugin.value
        raise SourceError(
            f"the source {plugin.name} of the package {package} fails "
            f"({type(error).__name__}: {first_line(str(error))}); update or remove the package",
            permanent=True,
        ) from error


def _accepted() -> str:
    *others, last = ["a video file", *_KINDS, *(f"{one.name}://..." for one in entry_points(group=GROUP))]
    return f"{', '.join(others)} or {last}"
