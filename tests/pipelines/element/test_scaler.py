"""From a buffer of any format to the frame that the model sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.camera import Frame, open_camera
from pipelines.gst import load
from pipelines.pipeline.frames import to_array
from tests.pipelines.element.launch import Run

pytest.importorskip("gi")
pytestmark = pytest.mark.gst


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
    """Rows with padding give the very frame that rows without it give."""
    from pipelines.element.scaler import FrameScaler

    modules = load()
    Gst, GstVideo = modules.Gst, modules.GstVideo
    width, height, stride = 100, 60, 512
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    padded = np.full((height, stride), 77, np.uint8)
    padded[:, : 3 * width] = image.reshape(height, -1)
    caps = Gst.Caps.from_string(f"video/x-raw,format=RGB,width={width},height={height},framerate=1/1")
    plain = Gst.Buffer.new_wrapped(image.tobytes())
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
        f"videotestsrc num-buffers=1 pattern=smpte ! video/x-raw,format={coded},width=250,height=150 ! "
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
    """Frames that reach the model through the element are those of `open_camera`, to the last bit."""
    from edge_runtime.engine.vision import VisionStream

    seen: list[np.ndarray] = []
    see = VisionStream.see

    def look(self: VisionStream, image: np.ndarray) -> Any:
        seen.append(image.copy())
        return see(self, image)

    clip = make_clip("clip.mp4", seconds=3)  # its first frame is stamped 0.2 s, in a segment from 0.2 s
    monkeypatch.setattr(VisionStream, "see", look)
    run = Run(f"filesrc location={clip} ! decodebin ! identity sync=true ! {streampro} ! fakesink").play()
    assert run.wait().problem == ""
    height, width = seen[0].shape[:2]
    with open_camera(str(clip), fps=1.0, size=(width, height)) as camera:
        expected = [item.image for item in camera if isinstance(item, Frame)]
    assert len(seen) == len(expected) == 3
    for mine, theirs in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
