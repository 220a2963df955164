"""The bus of one pipeline: its messages, and what was found outside it, become problems in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.gst import load, structure_of
from pipelines.pipeline.decoding.decodebin import Decoding
from pipelines.pipeline.progress import Progress
from pipelines.sources.base import Source
from pipelines.sources.errors import NO_VIDEO, Problem, StreamError, codec_name, explain, missing_plugin


@dataclass(frozen=True)
class EndOfStream:
    """The source says it is over."""


class Bus:
    """``fail`` may be called from any thread, the other methods from one."""

    def __init__(self, pipeline: Any, source: Source, decoder: str, progress: Progress) -> None:
        """``decoder``: as of ConnectionOptions."""
        self._Gst = load().Gst
        self._pipeline = pipeline
        self._bus = pipeline.get_bus()
        self._source = source
        self._decoder = decoder
        self._progress = progress
        self._problem: Problem | None = None
        self._certain = False
        self.decoding: Decoding | None = None

    def fail(self, problem: Problem, *, certain: bool = False) -> None:
        """Remember the first problem found outside the bus and wake :meth:`poll`.

        ``certain``: it is more precise than what is on the bus.
        """
        if self._problem is None:
            self._problem, self._certain = problem, certain
        self.wake()

    def fail_for_certain(self, problem: Problem) -> None:
        self.fail(problem, certain=True)

    def wake(self) -> None:
        """Make a waiting :meth:`poll` return at once (any thread)."""
        Gst = self._Gst
        self._bus.post(Gst.Message.new_application(self._pipeline, Gst.Structure.new_empty("wake")))

    def poll(self, timeout_s: float) -> Problem | EndOfStream | None:
        """Wait for news. A Problem or EndOfStream comes once and is final."""
        if self._problem is not None:
            return self.problem()
        types = self._Gst.MessageType
        kinds = types.ERROR | types.EOS | types.ELEMENT | types.APPLICATION
        message = self._bus.timed_pop_filtered(int(timeout_s * self._Gst.SECOND), kinds)
        if message is None:
            return None
        if message.type == types.EOS:
            return self._problem or EndOfStream()
        found = self._read(message)
        return self.problem() if self._certain else found or self.problem()

    def problem(self) -> Problem | None:
        """What was found outside the bus, or what the bus says about it."""
        if self._problem is None or self._certain:
            return self._problem
        return self._drain() or self._problem

    def refused(self) -> None:
        """The pipeline did not start: the reason is on the bus."""
        self._problem = self._problem or self._drain() or Problem("cannot be opened", "see `edge-run doctor`")

    def close(self) -> None:
        self._bus.set_flushing(True)

    def _drain(self) -> Problem | None:
        """The first problem among the messages waiting on the bus."""
        found = None
        while (message := self._bus.pop()) is not None:
            found = found or self._read(message)
        return found

    def _read(self, message: Any) -> Problem | None:
        """The problem behind ``message``; None when there is none."""
        GstPbutils = load().GstPbutils
        if message.type == self._Gst.MessageType.ELEMENT and GstPbutils.is_missing_plugin_message(message):
            return self._missing(message)
        if message.type != self._Gst.MessageType.ERROR:
            return None
        error, debug = message.parse_error()
        domain = error.domain.removeprefix("gst-").removesuffix("-error-quark")
        decoding = self.decoding
        nothing_linked = (domain, error.code) == ("stream", 1)
        if nothing_linked and decoding is not None and decoding.other_streams and not decoding.exposed:
            return NO_VIDEO
        delivered = bool(self._progress.decoded)
        return explain(self._source, StreamError(domain, error.code, error.message, debug or "", delivered))

    def _missing(self, message: Any) -> Problem:
        detail = structure_of(message).get_value("detail")
        is_caps = isinstance(detail, self._Gst.Caps)
        media_type = structure_of(detail, 0).get_name() if is_caps else str(detail or "")
        if self._decoder not in ("auto", "software"):
            cause = f"decoder {self._decoder} cannot decode {codec_name(media_type)}"
            return Problem(cause, "use auto", "permanent")
        return missing_plugin(media_type, load().GstPbutils.missing_plugin_message_get_description(message))
