"""The shipped model on the shipped clip, by every way in: file, pushed frames, RTSP in real time."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_runtime
from edge_runtime.video.samples import SAMPLES
from edge_runtime.video.sampling import TimestepSampler
from train.synthetic.sprites.generate import make_story

HERE = Path(__file__).parent
CLIP = SAMPLES / "sample.mp4"
QUERY = json.loads((SAMPLES / "sample.json").read_text())["query"]
Said = list[tuple[float, str]]


def edge_run(*arguments: str, timeout: float = 120) -> tuple[bytes, str]:
    command = [sys.executable, "-m", "edge_runtime.app.cli", *arguments, "--bundle", "nano", "--json"]
    done = subprocess.run(command, capture_output=True, timeout=timeout)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout, done.stderr.decode()


def responses(events: bytes) -> Said:
    lines = [json.loads(line) for line in events.splitlines()]
    return [(e["time"], e["text"]) for e in lines if e["type"] == "response"]


def pushed(clip: Path, text: str, at: float) -> Said:
    """What `session.push` says to frames that PyAV decoded."""
    av = pytest.importorskip("av")
    model = edge_runtime.load("nano", threads=1)
    sampler = TimestepSampler(model.stream_format.fps)
    said: Said = []
    with model.session() as session, av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            index = sampler.take(frame.time)
            if index is not None and not session.queries and model.stream_format.interval(index)[1] >= at:
                session.ask(text)
            decision = session.push(frame.to_ndarray(format="rgb24"), frame.time)
            assert (decision is None) == (index is None)
            if decision and decision.response:
                said.append((decision.time, decision.text or ""))
    return said


@pytest.fixture(scope="module")
def sample_events() -> bytes:
    pytest.importorskip("gi")
    return edge_run("sample")[0]


@pytest.mark.gst
def test_the_sample_is_answered(sample_events):
    """The world knows what happens in the sample; the model says it, in time."""
    _, story = make_story(1, 5, "test")
    said = responses(sample_events)
    happened = [event for event in story.events if event.start >= QUERY["time"]]
    assert [text for _, text in said] == [event.text for event in happened]
    for (time, _), event in zip(said, happened, strict=True):
        assert event.start <= time <= event.end + 3


@pytest.mark.gst
def test_a_file_gives_the_same_bytes_twice(sample_events):
    assert edge_run("sample")[0] == sample_events


@pytest.mark.gst
def test_gstreamer_and_pyav_give_the_same_responses(sample_events):
    assert pushed(CLIP, QUERY["text"], QUERY["time"]) == responses(sample_events)


@pytest.mark.gst
@pytest.mark.parametrize(
    ("name", "offset_s", "duration"), [("sample.ts", 0, "60"), ("sample.flv", 1000, "20")]
)
def test_another_container_changes_nothing(sample_events, tmp_path, name, offset_s, duration):
    """Neither one that starts elsewhere than at 0."""
    av = pytest.importorskip("av")
    path = tmp_path / name
    with av.open(str(CLIP)) as clip, av.open(str(path), "w") as copy:
        stream = clip.streams.video[0]
        add = getattr(copy, "add_stream_from_template", None)
        output = add(stream) if add is not None else copy.add_stream(template=stream)
        for packet in clip.demux(stream):
            if packet.size:
                packet.pts += round(offset_s / stream.time_base)
                packet.dts += round(offset_s / stream.time_base)
                packet.stream = output
                copy.mux(packet)
    asked = ["--ask", QUERY["text"], "--ask-at", str(QUERY["time"])]
    events, summary = edge_run(str(path), *asked, "--duration", duration)
    expected = [(time, text) for time, text in responses(sample_events) if time <= float(duration)]
    assert len(expected) >= 2
    assert responses(events) == expected
    told = json.loads(summary.strip().splitlines()[-1])
    assert (told["timesteps"], told["skipped"]) == (min(33, int(duration)), 0)


@pytest.mark.gst
def test_a_question_whose_time_never_comes_is_said(tmp_path):
    events, summary = edge_run(str(CLIP), "--ask", "Who?", "--ask-at", "20", "--duration", "3")
    never = [event for event in map(json.loads, events.splitlines()) if event["type"] == "query"]
    assert [(e["query"], e["action"], e["time"]) for e in never] == [("q1", "never_asked", 20.0)]
    assert json.loads(summary.strip().splitlines()[-1])["never_asked"] == ["q1"]


@pytest.fixture
def rtsp_url() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, str(HERE / "serve_clip.py"), str(port), str(CLIP)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None and server.stdout.readline().strip() == "ready"
        yield f"rtsp://127.0.0.1:{port}/clip"
    finally:
        server.kill()
        server.wait()


@pytest.mark.gst
@pytest.mark.slow
def test_rtsp_in_real_time_says_the_same_within_a_timestep(rtsp_url, sample_events):
    events, summary = edge_run(
        rtsp_url, "--ask", QUERY["text"], "--ask-at", str(QUERY["time"]), "--duration", "34"
    )
    live, file = responses(events), responses(sample_events)
    assert [text for _, text in live] == [text for _, text in file]
    assert all(abs(a - b) <= 1.0 for (a, _), (b, _) in zip(live, file, strict=True))
    assert json.loads(summary.strip().splitlines()[-1])["dropped"] == 0
