"""One colour through real encoders, in every range and matrix; the model sees what was recorded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.camera import Frame, open_camera
from pipelines.element.scaler import FrameScaler
from pipelines.gst import load

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

RED = (219, 31, 30)
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
CODES = {"bt601": 6, "bt709": 1, "bt2020": 9, "": 2}
"""ITU-T H.273 matrix coefficients; 2: unspecified."""


def yuv(matrix: str, full: bool) -> tuple[int, int, int]:
    """RED as Y, Cb, Cr of 8 bits, after ITU-R BT.601, BT.709 and BT.2020."""
    kr, kb = WEIGHTS[matrix]
    red, green, blue = (value / 255 for value in RED)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))
    if full:
        return round(255 * y), round(128 + 255 * cb), round(128 + 255 * cr)
    return round(16 + 219 * y), round(128 + 224 * cb), round(128 + 224 * cr)


def write(path: Path, codec: str, height: int, matrix: str, full: bool) -> None:
    """1.2 s of RED. Without a ``matrix`` none is named, and that of the size is used."""
    import av

    used = matrix or ("bt709" if height > 576 else "bt601")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = height * 4 // 3, height, "yuv420p"
        stream.codec_context.color_range = 2 if full else 1
        stream.codec_context.colorspace = CODES[matrix]
        stream.options = {
            "libx264": {"preset": "ultrafast"},
            "libx265": {"x265-params": "log-level=none"},
        }.get(codec, {"deadline": "realtime", "cpu-used": "8"})
        for index in range(6):
            frame = av.VideoFrame(stream.width, height, "yuv420p")
            for plane, value in zip(frame.planes, yuv(used, full), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts, frame.time_base = index, Fraction(1, 5)
            frame.color_range, frame.colorspace = stream.codec_context.color_range, CODES[matrix]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", CODES)
@pytest.mark.parametrize(
    ("codec", "name", "height"),
    [
        ("libx264", "clip.mp4", 240),
        ("libx264", "clip.ts", 720),
        ("libx265", "clip.mkv", 240),
        ("libvpx-vp9", "clip.webm", 240),
    ],
)
def test_the_model_sees_the_colour_that_was_recorded(
    tmp_path: Path, codec: str, name: str, height: int, matrix: str, full: bool
) -> None:
    write(tmp_path / name, codec, height, matrix, full)
    with open_camera(str(tmp_path / name), fps=1.0) as camera:
        frame = next(item for item in camera if isinstance(item, Frame))
    assert frame.image[112, 112].tolist() == pytest.approx(RED, abs=5)


@pytest.mark.parametrize("colorimetry", ["1:0:0:0", "1:4:0:0", "2:0:0:0", "bt601"])
def test_so_does_the_element(colorimetry: str) -> None:
    Gst = load().Gst
    full = colorimetry.startswith("1")
    planes = [
        np.full(64 * 64 // part, value, np.uint8)
        for part, value in zip((1, 4, 4), yuv("bt601", full), strict=True)
    ]
    caps = Gst.Caps.from_string(
        "video/x-raw, format=(string)I420, width=(int)64, height=(int)64, framerate=(fraction)1/1, "
        f"colorimetry=(string){colorimetry}"
    )
    scaler = FrameScaler((32, 32))
    try:
        image = scaler.convert(Gst.Buffer.new_wrapped(np.concatenate(planes).tobytes()), caps)
    finally:
        scaler.close()
    assert image[16, 16].tolist() == pytest.approx(RED, abs=5)
