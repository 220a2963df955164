from __future__ import annotations

import numpy as np
import pytest

from pipelines.pipeline.frames import rows_to_array


def test_padding_between_rows_is_left_out() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    padded = np.full((5, 24), 99, np.uint8)
    padded[:, :21] = image.reshape(5, 21)
    data = b"\0\0\0\0" + padded.tobytes()[: 24 * 4 + 21]  # an offset, and a last row without padding
    copied = rows_to_array(data, 7, 5, 24, offset=4)
    assert np.array_equal(copied, image)
    assert copied.flags.c_contiguous and copied.flags.writeable


@pytest.mark.parametrize(("size", "stride"), [(100, 21), (104, 20)])
def test_memory_that_is_too_short_is_refused(size: int, stride: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        rows_to_array(bytes(size), 7, 5, stride)


@pytest.mark.gst
@pytest.mark.parametrize("with_meta", [False, True])
def test_a_sample_of_odd_width(with_meta: bool) -> None:
    """223 pixels a row: 672 bytes by default, or whatever the video meta says."""
    pytest.importorskip("gi")
    from pipelines.gst import load
    from pipelines.pipeline.frames import to_array

    Gst, GstVideo, *_ = load()
    width, height, stride = 223, 9, 704 if with_meta else 672
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    rows = np.zeros((height, stride), np.uint8)
    rows[:, : 3 * width] = image.reshape(height, -1)
    buffer = Gst.Buffer.new_wrapped(rows.tobytes())
    if with_meta:
        GstVideo.buffer_add_video_meta_full(
            buffer,
            GstVideo.VideoFrameFlags.NONE,
            GstVideo.VideoFormat.RGB,
            width,
            height,
            1,
            [0] * 4,
            [stride, 0, 0, 0],
        )
    caps = Gst.Caps.from_string(f"video/x-raw, format=RGB, width={width}, height={height}, framerate=10/1")
    array = to_array(Gst.Sample.new(buffer, caps, None, None))
    assert np.array_equal(array, image)
    del buffer
    array[0, 0] = 7  # the array owns its memory


@pytest.mark.gst
def test_another_format_is_refused() -> None:
    pytest.importorskip("gi")
    from pipelines.gst import load
    from pipelines.pipeline.frames import to_array

    Gst = load().Gst
    caps = Gst.Caps.from_string("video/x-raw, format=I420, width=16, height=16, framerate=10/1")
    with pytest.raises(ValueError, match="expected RGB"):
        to_array(Gst.Sample.new(Gst.Buffer.new_wrapped(bytes(384)), caps, None, None))
