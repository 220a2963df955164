"""An SRT stream: ``srt://host:port``; ``?mode=listener`` waits for a sender to call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edge_runtime import redaction
from edge_runtime.errors import SourceError
from edge_runtime.video.network_url import UnreadableUrlError, decode, read_url
from pipelines.gst import load, make
from pipelines.sources.address import scheme_of, shown
from pipelines.sources.base import ElementContext, Source
from pipelines.sources.errors import Problem, StreamError

_KEYS = ("mode", "passphrase", "pbkeylen", "streamid", "latency")
_FORM = "write srt://host:port?passphrase=..."


@dataclass(frozen=True)
class SrtSource(Source):
    """``settings`` are srtsrc's properties, the passphrase among them."""

    location: str
    host: str
    port: int
    settings: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    kind = "srt"
    live = True

    @property
    def label(self) -> str:
        return self.location

    def exclusive_key(self) -> object:
        """Several may call one sender; one alone listens on a port."""
        return ("srt", self.port) if ("mode", "listener") in self.settings else None

    def make_elements(self, context: ElementContext) -> list[Any]:
        # A lost sender is handled like any lost source: reported, and replaced by a new connection.
        element = make("srtsrc", uri=self.location, auto_reconnect=False)
        for name, value in self.settings:
            load().Gst.util_set_object_arg(element, name, value)
        return [element]

    def explain(self, error: StreamError) -> Problem | None:
        if any(word in error.words for word in ("passphrase", "password", "badsecret", "unsecure")):
            return Problem("the sender refuses the passphrase", "check passphrase and pbkeylen", "auth")
        if error.domain == "resource":
            return Problem(
                f"cannot open the stream ({error.detail})",
                "check host, port and mode; one side calls, one listens",
            )
        return None


def parse(text: str) -> SrtSource | None:
    """Make the query's keys properties: a location is shown, they are not. Raises SourceError."""
    if scheme_of(text) != "srt":
        return None
    redaction.register_url(text)
    head, _, query = text.partition("?")
    # Not parse_qsl: it takes "+" for a space, and people do not encode a passphrase.
    settings = tuple(
        (key, decode(value)) for key, _, value in (part.partition("=") for part in query.split("&") if part)
    )
    for key, value in settings:
        if key in ("passphrase", "streamid"):
            redaction.register(value)
    unknown = next((n for n, (key, _value) in enumerate(settings) if key not in _KEYS), None)
    if "@" in head or (unknown is not None and "@" in query):
        raise SourceError(f"{shown(text)}: srt:// has no user; {_FORM}", permanent=True)
    visible = redaction.scrub(head)
    if unknown is not None:
        known = ", ".join(_KEYS)
        if any(key == "passphrase" for key, _value in settings[:unknown]):  # this may be the rest of it
            what = f"what follows the passphrase is no setting of srt:// ({known}); write & in it as %26"
        else:
            what = f"{settings[unknown][0]} is no setting of srt://; known here: {known}"
        raise SourceError(f"{visible}: {what}", permanent=True)
    mode = dict(settings).get("mode", "caller")
    if mode not in ("caller", "listener"):
        raise SourceError(f"{visible}: mode={mode}: choose caller or listener", permanent=True)
    try:
        url = read_url(head, needs_host=mode == "caller")
    except UnreadableUrlError:
        url = None
    if url is None or url.port is None:
        raise SourceError(f"{visible}: host or port is missing; {_FORM}", permanent=True)
    return SrtSource(f"srt://{url.authority}", url.host, url.port, settings)
