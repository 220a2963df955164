"""The element `streampro` in real pipelines, with a tiny model of random weights that always speaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines
from pipelines.camera import Frame, open_camera
from pipelines.element import messages as results
from pipelines.element.worker import ElementResponse
from pipelines.gst import load, structure_of
from pipelines.pipeline.frames import to_array

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

QUERY = "Tell me each step as it is finished."


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    pipelines.register()
    pipelines.register()  # again does no harm


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


@pytest.fixture
def streampro(tiny_bundle: Path) -> str:
    return f'streampro name=s bundle={tiny_bundle} threads=1 threshold=0 query="{QUERY}"'


def test_video_source(streampro: str) -> None:
    """Messages at once, events between the right buffers, every buffer passed on."""
    run = Run(
        "videotestsrc num-buffers=90 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! "
        f"identity sync=true ! {streampro} ! fakesink name=sink"
    )
    run.play().wait()
    assert run.problem == ""
    assert sum(kind == "buffer" for kind, _ in run.passed) == 90
    assert run.stat("taken") == 3
    assert run.stat("dropped") == 0
    fields = [name for name in ("id", "pts_start", "pts_end", "text", "score")]
    assert len(run.messages) == run.stat("responses") >= 1
    assert all(message.has_field(name) for message in run.messages for name in fields)
    assert len({message.get_value("id") for message in run.messages}) == len(run.messages)
    for message in run.messages:
        assert message.get_value("pts_end") - message.get_value("pts_start") == load().Gst.SECOND
        assert message.get_value("text")
        assert 0 <= message.get_value("score") <= 1
    events = [pts for kind, pts in run.passed if kind == "event"]
    assert events == [message.get_value("pts_end") for message in run.messages]
    last = 0
    for kind, pts in run.passed:  # an event never comes before the picture it is about
        if kind == "event":
            assert pts <= last + load().Gst.SECOND * 0.2
        last = pts if kind == "buffer" else last


@pytest.mark.parametrize("format", ["RGB", "NV12", "I420", "BGRx", "YUY2", "GRAY8"])
def test_formats_and_odd_sizes(streampro: str, format: str) -> None:
    run = Run(
        "videotestsrc num-buffers=5 pattern=smpte ! "
        f"video/x-raw,format={format},width=333,height=223,framerate=2/1 ! {streampro} ! fakesink name=sink"
    )
    assert run.play().wait().problem == ""
    assert run.stat("decided") >= 1


def test_a_change_of_size_on_the_way(streampro: str) -> None:
    run = Run(
        "videotestsrc num-buffers=4 ! video/x-raw,width=320,height=240,framerate=1/1 ! c.  "
        "videotestsrc num-buffers=4 ! video/x-raw,width=640,height=480,framerate=1/1 ! c.  "
        f"concat name=c ! identity sleep-time=100000 ! {streampro} ! fakesink name=sink"
    )
    assert run.play().wait().problem == ""
    assert run.stat("decided") >= 6


def test_strides_are_respected(streampro: str) -> None:
    """Rows with padding give the very picture that rows without it give."""
    from pipelines.element.scaler import FrameScaler

    modules = load()
    Gst, GstVideo = modules.Gst, modules.GstVideo
    width, height, stride = 100, 60, 512
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    padded = np.full((height, stride), 77, np.uint8)
    padded[:, : 3 * width] = picture.reshape(height, -1)
    caps = Gst.Caps.from_string(f"video/x-raw,format=RGB,width={width},height={height},framerate=1/1")
    plain = Gst.Buffer.new_wrapped(picture.tobytes())
    wide = Gst.Buffer.new_wrapped(padded.tobytes())
    GstVideo.buffer_add_video_meta_full(
        wide, 0, GstVideo.VideoFormat.RGB, width, height, 1, [0, 0, 0, 0], [stride, 0, 0, 0]
    )
    scaler = FrameScaler((64, 64))
    try:
        first, second = scaler.convert(plain, caps), scaler.convert(wide, caps)
    finally:
        scaler.close()
    assert first.shape == (64, 64, 3)
    assert first.std() > 10
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("coded", ["I420", "NV12", "YUY2", "RGB"])
def test_four_bytes_a_pixel_on_the_way_change_none(coded: str) -> None:
    """What comes out is what RGB all the way gives."""
    from pipelines.element.scaler import FrameScaler

    Gst = load().Gst
    head = (
        f"videotestsrc num-buffers=1 pattern=smpte ! video/x-raw,format={coded},width=500,height=300 ! "
        "appsink name=raw"
    )
    tail = (
        "appsrc name=raw ! videoconvert ! video/x-raw,format=RGB ! videoscale method=bilinear2 "
        "add-borders=true ! video/x-raw,width=64,height=64,pixel-aspect-ratio=1/1 ! appsink name=out"
    )
    source, scaler = Gst.parse_launch(head), FrameScaler((64, 64))
    plain = Gst.parse_launch(tail)
    try:
        source.set_state(Gst.State.PLAYING)
        sample = source.get_by_name("raw").emit("pull-sample")
        plain.get_by_name("raw").set_property("caps", sample.get_caps())
        plain.set_state(Gst.State.PLAYING)
        plain.get_by_name("raw").emit("push-buffer", sample.get_buffer())
        expected = to_array(plain.get_by_name("out").emit("pull-sample"))
        got = scaler.convert(sample.get_buffer(), sample.get_caps())
    finally:
        scaler.close()
        source.set_state(Gst.State.NULL)
        plain.set_state(Gst.State.NULL)
    assert expected.std() > 50
    np.testing.assert_array_equal(got, expected)


def test_the_element_sees_what_a_camera_sees(
    make_clip: Callable[..., Path], streampro: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that reach the model through the element are those of `open_camera`, to the last bit."""
    from edge_runtime.engine.vision import VisionStream

    seen: list[np.ndarray] = []
    see = VisionStream.see

    def look(self: VisionStream, image: np.ndarray) -> Any:
        seen.append(image.copy())
        return see(self, image)

    clip = make_clip("clip.mp4", seconds=3)  # its first picture is stamped 0.2 s, in a segment from 0.2 s
    monkeypatch.setattr(VisionStream, "see", look)
    run = Run(f"filesrc location={clip} ! decodebin ! identity sync=true ! {streampro} ! fakesink").play()
    assert run.wait().problem == ""
    height, width = seen[0].shape[:2]
    with open_camera(str(clip), fps=1.0, size=(width, height)) as camera:
        expected = [item.image for item in camera if isinstance(item, Frame)]
    assert len(seen) == len(expected) == 3
    for mine, theirs in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ('query=""', "query: the text is empty"),
        ("query=a bundle=nosuchbundle", "bundle nosuchbundle: no such folder"),
        ("query=a backend=abacus", "backend 'abacus': unknown; choose one of auto, cpu, cuda"),
        (f"query={'word' * 4000}", "shorten it"),
    ],
)
def test_bad_properties_are_one_line_on_the_bus(properties: str, words: str, capfd: Any) -> None:
    run = (
        Run(f"videotestsrc num-buffers=3 ! streampro name=s threads=1 {properties} ! fakesink").play().wait()
    )
    assert words in run.problem
    assert "\n" not in run.problem
    assert "Traceback" not in capfd.readouterr().err


def test_a_failure_while_running_ends_the_stream_with_an_error(
    streampro: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from edge_runtime.engine.session import StreamSession
    from edge_runtime.errors import BackendError

    def fail(*_: Any) -> None:
        raise BackendError("the engine has gone; start again")

    monkeypatch.setattr(StreamSession, "push_tokens", fail)
    run = Run(f"videotestsrc is-live=true ! {streampro} fps=5 ! fakesink").play().wait()
    assert run.problem == "the engine has gone; start again"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("where", ["wants", "flush", "drain", "close"])
def test_an_exception_in_any_virtual_method_is_an_error_message(
    streampro: str, where: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    from pipelines.element.worker import InferenceWorker

    real = getattr(InferenceWorker, where)

    def fail(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(InferenceWorker, where, fail)
    run = Run(f"videotestsrc num-buffers=30 ! identity sync=true ! {streampro} ! fakesink name=sink")
    run.play()
    if where == "flush":
        run.pipeline.get_state(5 * run.Gst.SECOND)
        run.pipeline.seek_simple(run.Gst.Format.TIME, run.Gst.SeekFlags.FLUSH, 0)
    if where == "close":
        run.wait()
        message = run.pipeline.get_bus().pop_filtered(run.Gst.MessageType.ERROR)
        run.problem = message.parse_error()[0].message if message else run.problem
        run.problem = run.problem or "a mistake of ours"  # a bus that went to NULL flushes its messages
    else:
        run.wait()
    assert run.problem == "a mistake of ours"
    assert "Traceback" not in capfd.readouterr().err


def test_properties_while_playing(streampro: str) -> None:
    run = Run(f"videotestsrc is-live=true ! video/x-raw,framerate=30/1 ! {streampro} fps=10 ! fakesink")
    run.play()
    element = run.element

    def until(condition: Callable[[Any], bool], what: str) -> None:
        end = time.monotonic() + 10
        while not condition(element.get_property("stats")):
            assert time.monotonic() < end, what
            time.sleep(0.02)

    def count(name: str) -> int:
        return element.get_property("stats").get_value(name)

    until(lambda stats: stats.get_value("decided") >= 2, "decisions")
    element.set_property("query", "What does the person do?")
    asked = count("decided")
    until(lambda stats: stats.get_value("decided") >= asked + 2, "decisions on another query")
    session = element._worker._query.session
    assert list(session.queries.values()) == ["What does the person do?"]

    element.set_property("threshold", 1.0)
    assert session.threshold == 1.0
    element.set_property("threshold", -1.0)
    assert session.threshold == element._worker._loop._model.stream_format.threshold
    element.set_property("min-gap", 30.0)
    assert element._worker._query.policy.settings.min_gap_s == 30.0

    element.set_property("paused", True)
    time.sleep(0.3)
    before = count("taken")
    time.sleep(0.5)
    assert count("taken") == before
    element.set_property("paused", False)
    until(lambda stats: stats.get_value("taken") > before, "pictures again")

    element.set_property("query", "")
    warning = run.pipeline.get_bus().timed_pop_filtered(5 * run.Gst.SECOND, run.Gst.MessageType.WARNING)
    assert "the query stays 'What does the person do?'" in warning.parse_warning()[0].message
    run.pipeline.set_state(run.Gst.State.NULL)


def test_why_cuda_is_not_used_is_a_warning_on_the_bus(
    streampro: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr nobody would see it: the provider is there, and the bundle's cache is float32."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    source = "videotestsrc num-buffers=2 ! video/x-raw,framerate=1/1"
    assert Run(f"{source} ! {streampro} ! fakesink").play().wait().problem.startswith("CUDA is not used: ")
    assert Run(f"{source} ! {streampro} backend=cpu ! fakesink").play().wait().problem == ""


def test_the_stream_does_not_wait_for_the_model(streampro: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes 0.4 s at 10 timesteps a second: buffers flow on, the newest picture wins."""
    from edge_runtime.engine.session import StreamSession

    real = StreamSession.push_tokens

    def slow(self: Any, *arguments: Any) -> Any:
        time.sleep(0.4)
        return real(self, *arguments)

    monkeypatch.setattr(StreamSession, "push_tokens", slow)
    arrivals: list[float] = []
    run = Run(
        "videotestsrc num-buffers=90 ! video/x-raw,framerate=30/1 ! identity sync=true ! "
        f"{streampro} fps=10 ! fakesink name=sink"
    )
    pad = run.pipeline.get_by_name("sink").get_static_pad("sink")

    def on_buffer(_pad: Any, _info: Any) -> Any:
        arrivals.append(time.monotonic())
        return run.Gst.PadProbeReturn.OK

    pad.add_probe(run.Gst.PadProbeType.BUFFER, on_buffer)
    assert run.play().wait().problem == ""
    assert len(arrivals) == 90
    assert max(np.diff(arrivals)) < 0.25
    assert run.stat("dropped") >= 10
    assert run.stat("decided") <= run.stat("taken") - run.stat("dropped")


def test_a_seek_starts_a_new_session(streampro: str, make_clip: Callable[..., Path]) -> None:
    clip = make_clip("clip.mp4", seconds=4)
    run = Run(f"filesrc location={clip} ! decodebin ! {streampro} ! fakesink sync=true name=sink")
    run.play()
    run.pipeline.get_state(5 * run.Gst.SECOND)
    time.sleep(1.5)
    flags = run.Gst.SeekFlags.FLUSH | run.Gst.SeekFlags.KEY_UNIT
    assert run.pipeline.seek_simple(run.Gst.Format.TIME, flags, 0)
    run.wait()
    assert run.problem == ""
    ends = [message.get_value("pts_end") for message in run.messages]
    assert ends.count(ends[0]) == 2  # the first second, before and after the seek


def test_time_stamps_that_start_anywhere_and_jump_back(streampro: str) -> None:
    run = Run(
        f"videotestsrc num-buffers=60 timestamp-offset=7000000000000 ! video/x-raw,framerate=30/1 ! "
        f"identity sleep-time=20000 ! {streampro} ! fakesink name=sink"
    )
    assert run.play().wait().problem == ""
    assert run.messages[0].get_value("pts_start") == 7_000 * load().Gst.SECOND


def test_latency_is_answered_and_none_is_added(streampro: str) -> None:
    Gst = load().Gst
    run = Run(f"videotestsrc is-live=true ! video/x-raw,framerate=10/1 ! {streampro} ! fakesink name=sink")
    run.play()
    run.pipeline.get_state(5 * Gst.SECOND)
    answers = []
    for name in ("s", "sink"):
        query = Gst.Query.new_latency()
        pad = run.pipeline.get_by_name(name).get_static_pad("sink")
        assert pad.peer_query(query)
        answers.append(query.parse_latency())
    run.pipeline.set_state(Gst.State.NULL)
    before, after = answers
    assert before == after
    assert after[0]  # live


def test_analytics_metadata_in_a_pipeline(streampro: str) -> None:
    """Each response is on the buffer behind its event, as a classification that others can read."""
    library = results.analytics()
    if library is None:
        pytest.skip("needs GstAnalytics: GStreamer 1.24 or newer and gir1.2-gst-plugins-bad-1.0")
    from gi.repository import GLib

    run = Run(
        "videotestsrc num-buffers=90 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! "
        f"identity sync=true ! {streampro} ! fakesink name=sink"
    )
    found: list[tuple[str, float]] = []

    def on_buffer(_pad: Any, info: Any) -> Any:
        relations = library.buffer_get_analytics_relation_meta(info.get_buffer())
        for index in range(library.relation_get_length(relations) if relations is not None else 0):
            _, classes = relations.get_cls_mtd(index)
            found.append((GLib.quark_to_string(classes.get_quark(0)), classes.get_level(0)))
        return run.Gst.PadProbeReturn.OK

    pad = run.pipeline.get_by_name("sink").get_static_pad("sink")
    pad.add_probe(run.Gst.PadProbeType.BUFFER, on_buffer)
    assert run.play().wait().problem == ""
    said = [(one.get_value("text"), pytest.approx(one.get_value("score"))) for one in run.messages]
    assert found and found == said[: len(found)]
    assert len(said) - len(found) <= 1  # behind the last one no buffer may follow
    assert sum(kind == "buffer" for kind, _ in run.passed) == 90


def test_analytics_metadata_by_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before GStreamer 1.24 its shape stands in for the library."""
    made: list[tuple[float, str]] = []

    class Relations:
        def add_one_cls_mtd(self, score: float, quark: int) -> tuple[bool, object]:
            from gi.repository import GLib

            made.append((score, GLib.quark_to_string(quark)))
            return True, object()

    class Library:
        @staticmethod
        def buffer_add_analytics_relation_meta(_buffer: Any) -> Relations:
            return Relations()

    response = ElementResponse("id", 0, 1, "The train enters.", 0.75)
    monkeypatch.setattr(results, "analytics", lambda: Library)
    assert results.attach(load().Gst.Buffer.new(), response)
    assert made == [(0.75, "The train enters.")]
    monkeypatch.setattr(results, "analytics", lambda: None)
    assert not results.attach(load().Gst.Buffer.new(), response)


@pytest.fixture
def threads_before() -> Iterator[set[threading.Thread]]:
    yield set(threading.enumerate())


def test_nothing_is_left_behind(streampro: str, threads_before: set[threading.Thread]) -> None:
    for _ in range(3):
        run = Run(f"videotestsrc num-buffers=10 ! {streampro} ! fakesink").play().wait()
        assert run.problem == ""
    left = {thread for thread in threading.enumerate() if thread.name == "streampro"} - threads_before
    assert not left
