"""Pipelines with the element `streampro`, written as for gst-launch."""

from __future__ import annotations

import time
from typing import Any

from pipelines.gst import load, structure_of


class Run:
    """A pipeline written as for gst-launch, run to its end; what came over its bus and to its sink."""

    def __init__(self, launch: str, *, watch: str = "sink", limit_s: float = 30) -> None:
        self.Gst = load().Gst
        self.pipeline = self.Gst.parse_launch(launch)
        self.element = self.pipeline.get_by_name("s")
        self.messages: list[Any] = []
        self.passed: list[tuple[str, Any]] = []
        self.problem = ""
        self.limit_s = limit_s
        if (sink := self.pipeline.get_by_name(watch)) is not None:
            kinds = self.Gst.PadProbeType.BUFFER | self.Gst.PadProbeType.EVENT_DOWNSTREAM
            sink.get_static_pad("sink").add_probe(kinds, self._on_passing)

    def _on_passing(self, _pad: Any, info: Any) -> Any:
        if info.type & self.Gst.PadProbeType.BUFFER:
            self.passed.append(("buffer", info.get_buffer().pts))
        elif info.get_event().has_name("streampro"):
            self.passed.append(("event", structure_of(info.get_event()).get_value("pts_end")))
        return self.Gst.PadProbeReturn.OK

    def play(self) -> Run:
        self.pipeline.set_state(self.Gst.State.PLAYING)
        return self

    def wait(self) -> Run:
        kinds = self.Gst.MessageType
        end = time.monotonic() + self.limit_s
        while time.monotonic() < end:
            message = self.pipeline.get_bus().timed_pop(self.Gst.SECOND // 5)
            if message is None:
                continue
            if message.type == kinds.ELEMENT and structure_of(message).get_name() == "streampro":
                self.messages.append(structure_of(message))
            elif message.type == kinds.WARNING:
                self.problem = message.parse_warning()[0].message
            elif message.type == kinds.ERROR:
                self.problem = message.parse_error()[0].message
                break
            elif message.type == kinds.EOS:
                break
        else:
            raise AssertionError("the pipeline does not end")
        self.stats = self.element.get_property("stats") if self.element else None
        self.pipeline.set_state(self.Gst.State.NULL)
        return self

    def stat(self, name: str) -> Any:
        return self.stats.get_value(name)
