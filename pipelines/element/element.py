"""`streampro`: an element that watches the video passing through it and says when there is something to say.

::

    gst-launch-1.0 -m filesrc location=clip.mp4 ! decodebin ! videoconvert ! \\
        streampro query="Tell me each step as it is finished." ! videoconvert ! autovideosink

The video passes untouched and undelayed; a worker thread looks at the few frames a timestep takes
(:mod:`pipelines.element.worker`). Each response is posted as an element message and sent downstream as a
custom event (:mod:`pipelines.element.messages`), in front of the next buffer.

This is the one module of the package that needs GStreamer to be imported: a class cannot wait for its base.
Exceptions must not leave a virtual method: GStreamer would print them and run on. So each one is guarded.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import Any

import gi

from pipelines.gst import load

load()  # caps are made while the class is: GStreamer must be initialised before
gi.require_version("GstBase", "1.0")
from gi.repository import GLib, GObject, Gst, GstBase  # noqa: E402

from edge_runtime.errors import BundleError, ConfigError  # noqa: E402
from edge_runtime.redaction import scrub  # noqa: E402
from pipelines.element import messages as results  # noqa: E402
from pipelines.element.worker import ElementResponse, InferenceSettings, InferenceWorker  # noqa: E402

NAME = "streampro"
FORMATS = "{ I420, NV12, RGB, BGR, RGBA, BGRA, RGBx, BGRx, YV12, YUY2, UYVY, NV21, GRAY8 }"
END_WAIT_S = 2.0
"""At the end of the stream: how long to wait for the decision on the last frame."""
_CAPS = f"video/x-raw, format=(string){FORMATS}, width=(int)[1, max], height=(int)[1, max]"

_NO_TIME = int(Gst.CLOCK_TIME_NONE)
_READ = int(GObject.ParamFlags.READABLE)
_READY = int(GObject.ParamFlags.READWRITE) | int(Gst.PARAM_MUTABLE_READY)
_PLAYING = int(GObject.ParamFlags.READWRITE) | int(Gst.PARAM_MUTABLE_PLAYING)


# Name: type, nick, blurb, then range and default where the type has them, flags.
_PROPERTIES: dict[str, Any] = {
    "bundle": (str, "Bundle", "The model: a shipped bundle's name, or a bundle folder", "nano", _READY),
    "query": (str, "Query", "What to watch for; must not be empty", "", _PLAYING),
    "threshold": (
        float,
        "Threshold",
        "Score from which the model speaks; -1: the bundle's own",
        -1.0,
        1.0,
        -1.0,
        _PLAYING,
    ),
    "fps": (
        float,
        "Timesteps per second",
        "How often the model looks; 0: as often as it was trained to",
        0.0,
        60.0,
        0.0,
        _READY,
    ),
    "min-gap": (
        float,
        "Minimum gap",
        "Seconds of stream that must lie between two responses",
        0.0,
        86_400.0,
        0.0,
        _PLAYING,
    ),
    "ask-anyway": (bool, "Ask anyway", "Ask also what the model was not trained for", False, _READY),
    "backend": (
        str,
        "Backend",
        "What runs the model: auto, cpu, cuda, tensorrt or tensorrt-rtx",
        "auto",
        _READY,
    ),
    "threads": (int, "Threads", "CPU threads of the model; 0: chosen from the machine", 0, 64, 0, _READY),
    "paused": (bool, "Paused", "Let the video pass without looking at it", False, _PLAYING),
    "stats": (
        Gst.Structure,
        "Statistics",
        "taken, dropped, decided, responses, suppressed, decision-ms",
        _READ,
    ),
}


def _guarded(failed: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turns an exception in a virtual method into an ERROR message; the method then returns ``failed``."""

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, *arguments: Any) -> Any:
            try:
                return method(self, *arguments)
            except Exception as error:
                self.report(error)
                return failed

        return call

    return decorate


class StreamPro(GstBase.BaseTransform):  # type: ignore[misc]
    """See the module's text, and ``gst-inspect-1.0 streampro`` for the properties."""

    __gtype_name__ = "GstStreamPro"  # GStreamer names instances after it: streampro0, streampro1, ...
    __gstmetadata__ = (
        "Proactive video model",
        "Filter/Analyzer/Video",
        "Watches the video and says when there is something to say about a query; the video is not changed",
        "StreamPro Edge",
    )
    __gsttemplates__ = (
        Gst.PadTemplate.new(
            "sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, Gst.Caps.from_string(_CAPS)
        ),
        Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, Gst.Caps.from_string(_CAPS)),
    )
    __gproperties__ = _PROPERTIES

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, Any] = {  # the defaults
            name: spec[-2] for name, spec in _PROPERTIES.items() if name != "stats"
        }
        self._worker: InferenceWorker | None = None
        self._caps: Any = None
        self._said: deque[ElementResponse] = deque()
        self._failed = False
        self._marks = False
        self.set_in_place(True)
        self.set_passthrough(True)

    # ------------------------------------------------------------------ properties

    def do_get_property(self, prop: Any) -> Any:
        return self._stats() if prop.name == "stats" else self._values[prop.name]

    def do_set_property(self, prop: Any, value: Any) -> None:
        self._values[prop.name] = "" if value is None else value
        worker = self._worker
        if worker is None:
            return
        if prop.name == "query":
            worker.set_query(self._values["query"])
        elif prop.name in ("threshold", "min-gap"):
            settings = self._settings()
            worker.set_policy(settings.threshold, settings.min_gap_s)
        elif prop.name == "paused":
            worker.paused = value

    def _settings(self) -> InferenceSettings:
        values = self._values
        return InferenceSettings(
            bundle=values["bundle"],
            query=values["query"],
            ask_anyway=values["ask-anyway"],
            threshold=None if values["threshold"] < 0 else values["threshold"],
            fps=values["fps"] or None,
            min_gap_s=values["min-gap"],
            backend=values["backend"],
            threads=values["threads"] or None,
        )

    def _stats(self) -> Any:
        made = Gst.Structure.new_empty("streampro-stats")
        counts = self._worker.counts if self._worker is not None else None
        for name in ("taken", "dropped", "decided", "responses", "suppressed", "decision_ms"):
            made.set_value(name.replace("_", "-"), getattr(counts, name, 0))
        return made

    # ------------------------------------------------------------------ virtual methods

    @_guarded(False)
    def do_start(self) -> bool:
        """NULL to PAUSED: load the model."""
        self._failed = False
        self._said.clear()
        self._worker = InferenceWorker(
            self._settings(),
            on_response=self._on_response,
            on_warning=self._warn,
            on_error=self.report,
        )
        self._worker.paused = self._values["paused"]
        self._worker.start()
        # Metadata needs a buffer of its own: then the base class copies its head (never the pixels).
        self._marks = results.analytics() is not None
        self.set_passthrough(not self._marks)
        return True

    @_guarded(False)
    def do_stop(self) -> bool:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
        return True

    @_guarded(False)
    def do_set_caps(self, caps: Any, _out: Any) -> bool:
        self._caps = caps
        return True

    def do_transform_ip(self, buffer: Any) -> Any:
        """Once per buffer, on the streaming thread; guarded by hand, because this one must be quick."""
        try:
            if self._failed:
                return Gst.FlowReturn.ERROR
            if self._said:
                self._send_on(buffer)
            worker, pts = self._worker, buffer.pts
            if worker is not None and pts != _NO_TIME and (index := worker.wants(pts)) is not None:
                worker.offer(buffer, self._caps, index)
            return Gst.FlowReturn.OK
        except Exception as error:
            self.report(error)
            return Gst.FlowReturn.ERROR

    @_guarded(False)
    def do_sink_event(self, event: Any) -> bool:
        worker = self._worker
        if worker is not None:
            if event.type == Gst.EventType.EOS:
                worker.drain(END_WAIT_S)
                self._send_on(None)
            elif event.type == Gst.EventType.SEGMENT:
                worker.new_segment(event.parse_segment().start)
            elif event.type == Gst.EventType.FLUSH_STOP:
                self._said.clear()
                worker.flush()
        return bool(GstBase.BaseTransform.do_sink_event(self, event))

    # ------------------------------------------------------------------ what comes out

    def _on_response(self, response: ElementResponse) -> None:
        """Runs on the worker's thread: post to the application now, send downstream with the next buffer."""
        self.post_message(results.message(self, response))
        self._said.append(response)

    def _send_on(self, buffer: Any | None) -> None:
        while self._said:
            response = self._said.popleft()
            self.srcpad.push_event(results.event(response))
            if self._marks and buffer is not None:
                results.attach(buffer, response)

    def _warn(self, text: str) -> None:
        error = GLib.Error.new_literal(Gst.LibraryError.quark(), scrub(text), Gst.LibraryError.SETTINGS)
        self.post_message(Gst.Message.new_warning(self, error, ""))

    def report(self, error: Exception) -> None:
        """Post ``error`` on the bus, once, as one line; the stream ends with it."""
        if self._failed:
            return
        self._failed = True
        text = next(iter(str(error).splitlines()), "") or type(error).__name__
        if isinstance(error, (ConfigError, BundleError)):
            quark, code = Gst.LibraryError.quark(), Gst.LibraryError.SETTINGS
        else:
            quark, code = Gst.StreamError.quark(), Gst.StreamError.FAILED
        made = GLib.Error.new_literal(quark, scrub(text), code)
        self.post_message(Gst.Message.new_error(self, made, type(error).__name__))


def register() -> None:
    """Make `streampro` known to this process. May be called again. Raises SourceError when refused."""
    if not Gst.is_initialized():
        Gst.init(None)
    if Gst.ElementFactory.find(NAME) is None and not Gst.Element.register(
        None, NAME, int(Gst.Rank.NONE), StreamPro
    ):
        raise RuntimeError("GStreamer refuses to register the element streampro")
