"""Privacy masks, crop and rotation, on frames whose every pixel is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.video.framing import Framing, parse_crop, parse_polygon
from pipelines.camera import Camera, CameraOptions, Frame, StateChange, open_camera

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

SQUARE = ((0.25, 0.25), (0.5, 0.25), (0.5, 0.5), (0.25, 0.5))


def look(folder: Path, drawn: np.ndarray, framing: Framing, size: tuple[int, int]) -> np.ndarray:
    Image.fromarray(drawn).save(folder / "drawn.png")
    options = CameraOptions(framing=framing)
    with open_camera(str(folder), fps=1.0, size=size, options=options) as camera:
        return next(item for item in camera if isinstance(item, Frame)).image


@pytest.fixture
def white() -> np.ndarray:
    return np.full((200, 200, 3), 255, np.uint8)


@pytest.mark.parametrize("size", [(200, 200), (224, 224), (64, 64), (333, 201)])
def test_nothing_of_a_mask_is_seen(tmp_path: Path, white: np.ndarray, size: tuple[int, int]) -> None:
    """A red square behind a mask leaves no trace of red, at any size."""
    white[50:100, 50:100] = (255, 0, 0)
    plain = look(tmp_path, white, Framing(), size).astype(int)
    assert (plain[..., 0] - plain[..., 1]).max() > 200
    masked = look(tmp_path, white, Framing(masks=(SQUARE,)), size).astype(int)
    assert (masked[..., 0] - masked[..., 1]).max() <= 1
    assert masked.max() >= 250  # the rest is still there


def test_several_masks_and_odd_shapes(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(100, 256, (151, 203, 3), np.uint8)
    triangle = ((0.0, 0.0), (0.4, 0.0), (0.0, 0.6))
    right = ((0.8, 0.0), (1.0, 0.0), (1.0, 1.0), (0.8, 1.0))
    image = look(tmp_path, noise, Framing(masks=(triangle, right)), (203, 151))
    assert image[:10, :10].max() == 0
    assert image[:, 165:].max() == 0
    assert image[100:, 20:150].min() > 50


def test_crop(tmp_path: Path) -> None:
    drawn = np.zeros((200, 200, 3), np.uint8)
    drawn[100:, 100:] = (0, 0, 255)
    image = look(tmp_path, drawn, Framing(crop=(0.5, 0.5, 0.5, 0.5)), (64, 64))
    assert image[2:-2, 2:-2, 2].min() > 250


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
@pytest.mark.parametrize("size", [(64, 64), (80, 40)])
def test_rotation(tmp_path: Path, degrees: int, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """Clockwise: what was upper left comes to the upper right first. Never stretched."""
    shape = (size[0], size[1], 3) if degrees in (90, 270) else (size[1], size[0], 3)
    drawn = np.full(shape, 90, np.uint8)
    drawn[: shape[0] // 4, : shape[1] // 4] = (255, 255, 0)
    image = look(tmp_path, drawn, Framing(rotate=degrees), size)
    assert image.shape == (size[1], size[0], 3)
    yellow = image[corner].astype(int)
    assert yellow[0] > 200 and yellow[2] < 60
    others = [image[c] for c in ((0, 0), (0, -1), (-1, -1), (-1, 0)) if c != corner]
    assert all(abs(int(pixel[2]) - 90) < 6 for pixel in others)


def test_masks_hold_in_the_cameras_frame_whatever_the_rest(tmp_path: Path, white: np.ndarray) -> None:
    white[50:100, 50:100] = (255, 0, 0)
    framing = Framing(masks=(SQUARE,), crop=(0.2, 0.2, 0.6, 0.6), rotate=90)
    image = look(tmp_path, white, framing, (64, 64)).astype(int)
    assert (image[..., 0] - image[..., 1]).max() <= 1
    assert image.max() > 250


def test_a_mask_that_fails_lets_nothing_pass(
    tmp_path: Path, white: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_runtime.errors import SourceError
    from pipelines.pipeline import mask as mask_element

    monkeypatch.setattr(mask_element, "raster", lambda *_: np.zeros((3, 3), bool))
    with pytest.raises(SourceError, match="privacy mask cannot be applied"):
        look(tmp_path, white, Framing(masks=(SQUARE,)), (64, 64))


@pytest.mark.parametrize("codec", ["ffv1", "zmbv"])
def test_masks_on_frames_that_nobody_may_write_to(tmp_path: Path, codec: str) -> None:
    """These decoders give BGRx from read-only memory: with masks it is copied, without them left alone."""
    import av

    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "bgr0"
        for _ in range(30):
            red = np.full((64, 64, 3), (255, 0, 0), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(red, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    for masks in ((), (SQUARE,)):
        with open_camera(
            str(path), fps=5.0, size=(64, 64), options=CameraOptions(framing=Framing(masks))
        ) as camera:
            frames = [item.image for item in camera if isinstance(item, Frame)]
        assert len(frames) >= 29
        for image in frames:
            assert image[17:31, 17:31].max() == (0 if masks else 255)
            assert image[34:, 34:].tolist() == [[[255, 0, 0]] * 30] * 30
    with open_camera(str(path), fps=5.0, size=(64, 64)) as camera:
        items = (item.image for item in camera if isinstance(item, Frame))
        assert next(items).max() == 255
        camera.set_masks((SQUARE,))
        masked = [image[17:31, 17:31].max() == 0 for image in items]
        assert all(masked[8:]), "only what was decoded before may show"
        assert len(masked) >= 28


def test_parsing() -> None:
    assert parse_polygon("0,0 0.3,0 0.3,1") == ((0.0, 0.0), (0.3, 0.0), (0.3, 1.0))
    assert parse_polygon("0,0; 0.3,0;0.3,1;") == ((0.0, 0.0), (0.3, 0.0), (0.3, 1.0))
    assert parse_crop("0.25,0,0.5,1") == (0.25, 0.0, 0.5, 1.0)
    for text in ("", "0,0 1,1", "0,0 a,b 1,1", "0,0 1,1 nan,0", "0,0,0 1,1,1 1,0,1"):
        with pytest.raises(ValueError, match="expected at least 3 corners"):
            parse_polygon(text)
    for text in ("", "1", "0,0,1", "a,b,c,d"):
        with pytest.raises(ValueError, match="expected left,top,width,height"):
            parse_crop(text)
    for settings in (
        {"crop": (0.5, 0.5, 0.6, 0.5)},
        {"crop": (0.0, 0.0, 0.0, 1.0)},
        {"rotate": 45},
        {"masks": (((0.0, 0.0), (1.0, 1.0), (2.0, 0.0)),)},
    ):
        with pytest.raises(ValueError, match=next(iter(settings)).rstrip("s")):
            Framing(**settings)


def test_masks_change_on_the_connection_that_is_there() -> None:
    """Set while playing they hide from the next frames on; taken away they hide no more."""
    everything = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    states: list[str] = []

    def brightness(camera: Camera, count: int) -> list[int]:
        """The brightest point of each of the next frames, without the one that may be waiting."""
        items = (item for item in camera if isinstance(item, Frame) or states.append(item.state))
        return [int(next(items).image.max()) for _ in range(count + 1)][1:]

    with open_camera("test:white", fps=10.0, size=(64, 64)) as camera:
        assert min(brightness(camera, 2)) > 250
        camera.set_masks((everything,))
        brightness(camera, 1)
        assert max(brightness(camera, 3)) == 0
        camera.set_masks((SQUARE,))
        brightness(camera, 1)
        assert min(brightness(camera, 2)) > 250
        with pytest.raises(ValueError, match="mask"):
            camera.set_masks((((0.0, 0.0), (1.0, 2.0)),))
        camera.set_masks(())
        brightness(camera, 1)
        assert min(brightness(camera, 2)) > 250
        assert camera.reconnects == 0
    assert states == ["connecting", "live"]


def test_masks_set_before_a_connection_hold_on_the_next_one(start_rtsp: Any) -> None:
    server = start_rtsp()
    options = CameraOptions(retry_first_s=0.1)
    with open_camera(server.url, fps=10.0, size=(64, 64), options=options) as camera:
        assert next(item for item in camera if isinstance(item, Frame)).image.max() > 50
        server.kill()
        next(item for item in camera if isinstance(item, StateChange) and item.state == "stalled")
        camera.set_masks((((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),))
        server.start()
        next(item for item in camera if isinstance(item, StateChange) and item.state == "live")
        frames = (item for item in camera if isinstance(item, Frame))
        assert [int(next(frames).image.max()) for _ in range(3)] == [0, 0, 0]
