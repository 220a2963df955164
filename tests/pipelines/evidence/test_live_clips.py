"""Clips of a live camera: an RTSP server on loopback whose frames hold the time of their making."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.gst import caps_filter, make
from pipelines.pipeline.frame_queue import StateChange
from pipelines.sources.base import Source
from tests.pipelines.evidence.conftest import play, write

pytestmark = pytest.mark.gst
SIZE = (320, 240)


def number(stamp, image):
    return stamp.read(np.asarray(image), *SIZE)


def picture(seen):
    return Image.open(io.BytesIO(seen.frame.moment.jpeg()))


def test_clips_of_a_camera_start_before_the_moment_and_match_it(recorder, rtsp, stamp, tmp_path):
    recorder.post_s = 0.5
    seen = recorder.watch(
        rtsp.url,
        lambda frame: frame.index in (8, 9),
        fps=4,
        until=lambda seen: len(seen) == 2 and seen[1].done.is_set(),
    )
    for n, one in enumerate(seen):
        played = write(one, tmp_path / f"{n}.mp4")
        assert one.clip.at_s >= 1.0, "less than was asked for comes before"
        assert one.clip.at_s < 1.0 + 0.5 + 0.3, "more than one group of 15 frames comes before"
        decided = number(stamp, picture(one))
        assert decided == number(stamp, one.frame.image)
        assert abs(number(stamp, played.at(one.clip.at_s)) - decided) <= 34  # one frame is 33 ms
        times = [number(stamp, frame) for frame in played.frames]
        assert times == sorted(times) and times[-1] - decided >= 400


def test_a_source_that_dies_within_a_clip_leaves_what_there_is(recorder, start_rtsp, stamp, tmp_path):
    server = start_rtsp()
    recorder.post_s = 30.0

    def kill(_camera, frame):
        if frame.index == 9:
            server.kill()

    seen = _watch_until_lost(recorder, server, kill)
    played = write(seen, tmp_path / "clip.mp4")
    assert number(stamp, played.at(seen.clip.at_s)) - number(stamp, picture(seen)) <= 34
    assert played.times[-1] < 20 and number(stamp, played.frames[-1]) > number(stamp, picture(seen))


def _watch_until_lost(recorder, server, kill):
    from pipelines.camera import Frame, open_camera

    seen = None
    with open_camera(server.url, fps=4, options=recorder.options()) as camera:
        for item in camera:
            if isinstance(item, Frame):
                if item.index == 8:
                    seen = recorder.record(item)
                kill(camera, item)
            elif seen is not None and isinstance(item, StateChange) and item.state != "live":
                assert seen.done.wait(10)
                break
    return seen


@dataclass(frozen=True)
class RawSource(Source):
    """Raw video by way of a decodebin, as from a USB camera."""

    kind = "camera"
    label = "raw camera"
    live = True

    def make_elements(self, context: Any) -> list[Any]:
        source = make("videotestsrc", is_live=True)
        return [source, caps_filter("video/x-raw, format=YUY2, width=320, height=240, framerate=30/1")]


@pytest.mark.parametrize("source", ["test:ball", RawSource()], ids=["test", "raw camera"])
def test_raw_video_has_clips_too(recorder, source, tmp_path):
    from pipelines.camera import Frame, open_camera

    recorder.post_s = 0.5
    seen = None
    with open_camera(source, fps=4, options=recorder.options()) as camera:
        for item in camera:
            if isinstance(item, Frame) and item.index == 7:
                seen = recorder.record(item)
            if seen is not None and seen.done.is_set():
                break
    played = write(seen, tmp_path / "clip.mp4")
    assert played.codec == "h264" and 0.9 < seen.clip.at_s < 1.3
    assert 8 < (len(played.frames) - 1) / played.times[-1] < 11
    assert play(tmp_path / "clip.mp4").frames[0].shape[:2] == picture(seen).size[::-1]
