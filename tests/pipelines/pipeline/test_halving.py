"""Large frames are halved before their conversion: it changes little, and nothing flickers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edge_runtime.engine.preprocess import letterbox
from pipelines.element.scaler import FrameScaler
from pipelines.gst import load

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

MODEL = (224, 224)


def caps_of(format: str, width: int, height: int, more: str = "") -> str:
    return (
        f"video/x-raw, format=(string){format}, width=(int){width}, height=(int){height}, "
        f"framerate=(fraction)1/1{more}"
    )


@pytest.mark.parametrize(
    ("caps", "crop", "times"),
    [
        (caps_of("I420", 1920, 1080), (1.0, 1.0), 2),
        (caps_of("NV12", 3840, 2160), (1.0, 1.0), 3),
        (caps_of("NV12", 2592, 1944), (1.0, 1.0), 2),
        (caps_of("Y42B", 1280, 720), (1.0, 1.0), 1),
        (caps_of("I420", 640, 480), (1.0, 1.0), 0),
        (caps_of("I420", 1920, 1080), (0.25, 0.25), 0),  # 480 pixels of it are seen
        (caps_of("I420", 1920, 1080), (0.5, 1.0), 1),
        (caps_of("I420", 1922, 1080), (1.0, 1.0), 0),  # 961 pixels of colour
        (caps_of("I420", 1924, 1080), (1.0, 1.0), 1),
        (caps_of("BGRx", 1920, 1080), (1.0, 1.0), 0),
        (caps_of("I420_10LE", 1920, 1080), (1.0, 1.0), 0),
        (caps_of("I420", 1920, 1080, ", interlace-mode=(string)interleaved"), (1.0, 1.0), 0),
    ],
)
def test_how_often(caps: str, crop: tuple[float, float], times: int) -> None:
    from pipelines.pipeline.halving import halvings

    assert halvings(load().Gst.Caps.from_string(caps), MODEL, crop) == times


def convert(scaler: FrameScaler, planes: list[np.ndarray], caps: str) -> np.ndarray:
    Gst = load().Gst
    data = b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
    return scaler.convert(Gst.Buffer.new_wrapped(data), Gst.Caps.from_string(caps))


def grey(luma: np.ndarray) -> list[np.ndarray]:
    """The planes of I420."""
    height, width = luma.shape
    return [luma, *[np.full((height // 2, width // 2), 128)] * 2]


@pytest.mark.parametrize("colorimetry", ["", ", colorimetry=(string)bt709"])
@pytest.mark.parametrize("upright", [True, False])
def test_a_thin_line_does_not_flicker_as_it_moves(upright: bool, colorimetry: str) -> None:
    """Two pixels of 1920, at 17 places: as bright, in sum, as their share of the frame says."""
    scaler = FrameScaler(MODEL)
    sums = []
    try:
        for place in range(500, 517):
            luma = np.full((1080, 1920), 16)
            (luma.T if upright else luma)[place : place + 2] = 235
            image = convert(scaler, grey(luma), caps_of("I420", 1920, 1080, colorimetry))
            row = image[100:120].mean(0) if upright else image[:, 100:120].mean(1)
            sums.append(float(row.mean(1).sum()))
    finally:
        scaler.close()
    expected = 255 * 2 * 224 / 1920
    assert min(sums) > 0.9 * expected
    assert max(sums) < 1.2 * expected
    assert max(sums) < 1.15 * min(sums)


@pytest.mark.parametrize("format", ["I420", "NV12"])
def test_the_frame_stays_the_one_that_a_model_is_trained_on(format: str) -> None:
    """Smooth shapes, edges and colours: close to the scaling of frames that a program pushes."""
    rng = np.random.default_rng(4)
    coarse = rng.integers(0, 256, (27, 48, 3), np.uint8)
    rgb = np.asarray(Image.fromarray(coarse).resize((1920, 1080), Image.Resampling.BICUBIC))
    ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr")).astype(np.int16)  # full range, BT.601
    luma = ycc[..., 0]
    colour = ycc[..., 1:].reshape(540, 2, 960, 2, 2).mean((1, 3))
    planes = [luma, colour] if format == "NV12" else [luma, colour[..., 0], colour[..., 1]]
    scaler = FrameScaler(MODEL)
    try:
        image = convert(scaler, planes, caps_of(format, 1920, 1080, ", colorimetry=(string)1:4:0:0"))
    finally:
        scaler.close()
    difference = np.abs(image.astype(int) - letterbox(rgb, MODEL).astype(int))
    assert difference.mean() < 2.5
    assert np.percentile(difference, 99) < 12


def test_colours_of_a_large_frame_that_names_none() -> None:
    """Those of BT.709, as its size says, though a smaller frame is converted."""
    red = [np.full((1080, 1920), 63), np.full((540, 960), 102), np.full((540, 960), 240)]
    scaler = FrameScaler(MODEL)
    try:
        image = convert(scaler, red, caps_of("I420", 1920, 1080))
    finally:
        scaler.close()
    assert image[112, 112].tolist() == pytest.approx([255, 0, 0], abs=5)


def test_sizes_change_on_the_way() -> None:
    scaler = FrameScaler(MODEL)
    try:
        for width, height in ((1920, 1080), (640, 480), (1280, 720), (333, 223), (3840, 2160)):
            odd = (width + 1) // 2, (height + 1) // 2
            stride = -(-width // 4) * 4
            planes = [np.full((height + height % 2, stride), 200)] + [
                np.full((odd[1], -(-odd[0] // 4) * 4), 128)
            ] * 2
            image = convert(scaler, planes, caps_of("I420", width, height))
            assert image[112, 112].tolist() == pytest.approx([214] * 3, abs=3)
    finally:
        scaler.close()


@pytest.mark.parametrize("format", ["I420", "NV12"])
def test_nothing_of_a_mask_is_seen(format: str) -> None:
    """A red square whose edges lie between the pixels that are left, behind a mask of the same edges."""
    from edge_runtime.video.framing import Framing
    from pipelines.gst import link, make
    from pipelines.pipeline.frames import to_array
    from pipelines.pipeline.preprocessing import add_preprocessing

    luma = np.full((1080, 1920), 235)
    colour = np.full((540, 960, 2), 128)
    luma[301:703, 601:1203] = 63
    colour[150:352, 300:602] = (102, 240)
    planes = [luma, colour] if format == "NV12" else [luma, colour[..., 0], colour[..., 1]]
    left, right, top, bottom = 600 / 1920, 1204 / 1920, 300 / 1080, 704 / 1080
    square = ((left, top), (right, top), (right, bottom), (left, bottom))
    Gst = load().Gst
    for masks, seen in (((), True), ((square,), False)):
        pipeline = Gst.Pipeline.new(None)
        source = make(
            "appsrc", format=Gst.Format.TIME, caps=Gst.Caps.from_string(caps_of(format, 1920, 1080))
        )
        pipeline.add(source)
        made = add_preprocessing(pipeline, MODEL, Framing(masks))
        made.sink.set_property("emit-signals", False)
        link(source, made.first)
        pipeline.set_state(Gst.State.PLAYING)
        try:
            data = b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
            source.emit("push-buffer", Gst.Buffer.new_wrapped(data))
            image = to_array(made.sink.emit("try-pull-sample", 5 * Gst.SECOND)).astype(int)
        finally:
            pipeline.set_state(Gst.State.NULL)
        red = (image[..., 0] - image[..., 1]).max()

        assert red > 200 if seen else red <= 2
        assert image.max() >= 250
