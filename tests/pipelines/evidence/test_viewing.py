"""Frames at the size of the video for people who watch, on frames whose every pixel is known."""

from __future__ import annotations

import io
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.video.framing import Framing
from pipelines.camera import CameraOptions, Frame, open_camera

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RED, GREEN, BLUE, WHITE = (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250)


@pytest.fixture
def drawn() -> np.ndarray:
    """400x200: red and green above, blue and white below."""
    image = np.zeros((200, 400, 3), np.uint8)
    image[:100, :200], image[:100, 200:], image[100:, :200], image[100:, 200:] = RED, GREEN, BLUE, WHITE
    return image


def last(source: Any, framing: Framing, *, wanted: bool = True, size: tuple[int, int] = (64, 64)) -> Frame:
    """The last frame of a recording; the first ones may be there before pictures are asked for."""
    found = None
    with open_camera(str(source), fps=5.0, size=size, options=CameraOptions(framing=framing)) as camera:
        if wanted:
            camera.want_pictures(60)
        for item in camera:
            found = item if isinstance(item, Frame) else found
    assert found is not None
    return found


def shots(folder: Path, drawn: np.ndarray) -> Path:
    for number in range(8):
        Image.fromarray(drawn).save(folder / f"{number}.png")
    return folder


def pixels(frame: Frame, size: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(frame.picture.jpeg(size)))).astype(int)


def near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel - colour).max() < 12)


def test_it_is_larger_than_what_the_model_sees_and_never_enlarged(tmp_path: Path, drawn: np.ndarray) -> None:
    frame = last(shots(tmp_path, drawn), Framing())
    assert frame.image.shape == (64, 64, 3)
    assert pixels(frame, 300).shape == (150, 300, 3) and pixels(frame, 1000).shape == (200, 400, 3)
    image = pixels(frame, 300)
    assert near(image[20, 20], RED) and near(image[20, -20], GREEN)
    assert near(image[-20, 20], BLUE) and near(image[-20, -20], WHITE)


def test_nothing_of_a_mask_is_seen(tmp_path: Path, drawn: np.ndarray) -> None:
    """The left half is red and blue: masked, no pixel of it has a colour, at any size."""
    folder = shots(tmp_path, drawn)
    assert pixels(last(folder, Framing()), 400)[:, :196].max() > 240
    frame = last(folder, Framing(masks=(LEFT,)))
    for size in (64, 333, 400):
        image = pixels(frame, size)
        assert image[:, : size // 2 - 8].max() < 12
        assert image[:, size // 2 + 8 :].max() > 240


@pytest.mark.parametrize(("degrees", "corner"), [(0, RED), (90, BLUE), (180, WHITE), (270, GREEN)])
def test_it_is_cropped_and_turned_as_the_model_sees_it(
    tmp_path: Path, drawn: np.ndarray, degrees: int, corner: tuple[int, int, int]
) -> None:
    """Its corners are those of the model's frame, which has the shape of what is seen here."""
    framing = Framing(crop=(0.25, 0.0, 0.5, 1.0), rotate=degrees)  # the middle: a square
    frame = last(shots(tmp_path, drawn), framing)
    image = pixels(frame, 100)
    assert image.shape == (100, 100, 3) and near(image[10, 10], corner)
    for across in (10, -10):
        for down in (10, -10):
            assert np.abs(image[down, across] - frame.image[down * 64 // 100, across * 64 // 100]).max() < 12


def test_pixels_that_are_not_square(tmp_path: Path, drawn: np.ndarray) -> None:
    """400x200 with pixels twice as high as wide is shown as a square."""
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 400, 200, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(1, 2)
        for _ in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, "rgb24")))
        container.mux(stream.encode(None))
    image = pixels(last(path, Framing()), 120)
    assert image.shape == (120, 120, 3) and near(image[30, 30], RED) and near(image[-30, -30], WHITE)


def test_while_nobody_watches_there_is_none(tmp_path: Path, drawn: np.ndarray) -> None:
    assert last(shots(tmp_path, drawn), Framing(), wanted=False).picture is None


def test_a_live_camera_stops_giving_them_when_the_time_is_over() -> None:
    with open_camera("test:", fps=20.0, size=(64, 64)) as camera:

        def next_frame() -> Frame:
            return next(item for item in camera if isinstance(item, Frame))

        assert next_frame().picture is None
        camera.want_pictures(1.0)
        until = time.monotonic() + 10
        while (frame := next_frame()).picture is None:
            assert time.monotonic() < until
        assert Image.open(io.BytesIO(frame.picture.jpeg(320))).size == (320, 240)
        while next_frame().picture is not None:
            assert time.monotonic() < until
