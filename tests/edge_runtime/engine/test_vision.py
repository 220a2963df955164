"""A frame to the vision graph's input."""

import numpy as np
import pytest

from edge_runtime.engine.preprocess import letterbox, normalise
from edge_runtime.errors import SourceError


def picture(height, width, value=200):
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_a_frame_of_the_right_size_is_not_touched():
    frame = picture(224, 224)
    assert letterbox(frame, (224, 224)) is frame


@pytest.mark.parametrize(
    ("source", "size", "inside"),
    [
        ((1080, 1920), (224, 224), (slice(49, 175), slice(0, 224))),
        ((1920, 1080), (224, 224), (slice(0, 224), slice(49, 175))),
        ((100, 100), (224, 224), (slice(0, 224), slice(0, 224))),
        ((480, 640), (112, 224), (slice(0, 112), slice(37, 186))),
    ],
)
def test_aspect_is_kept_and_borders_are_black(source, size, inside):
    boxed = letterbox(picture(*source), size)
    assert boxed.shape == (*size, 3)
    assert boxed.dtype == np.uint8
    mask = np.zeros(size, dtype=bool)
    mask[inside] = True
    assert (boxed[mask] == 200).all()
    assert (boxed[~mask] == 0).all()


@pytest.mark.parametrize("source", [(1, 4000), (4000, 1), (1, 1), (3, 2)])
def test_extreme_shapes_survive(source):
    assert letterbox(picture(*source), (224, 224)).shape == (224, 224, 3)


def test_colours_and_places_survive_scaling():
    frame = np.zeros((400, 400, 3), dtype=np.uint8)
    frame[:200, :200] = (255, 0, 0)
    frame[200:, 200:] = (0, 0, 255)
    small = letterbox(frame, (100, 100))
    assert small[20, 20].tolist() == [255, 0, 0]
    assert small[80, 80].tolist() == [0, 0, 255]
    assert small[20, 80].tolist() == [0, 0, 0]


def test_a_view_with_strides_of_its_own_is_read_right():
    wide = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    view = wide[::2, 10:390:2, ::-1]
    np.testing.assert_array_equal(letterbox(view, (64, 64)), letterbox(view.copy(), (64, 64)))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (picture(4, 4).astype(np.float32), "uint8"),
        (picture(4, 4)[..., 0], r"\[H, W, 3\]"),
        (np.zeros((4, 4, 4), np.uint8), r"got \[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"got \[0, 4, 3\]"),
        ([[1, 2, 3]], "numpy array"),
        (None, "numpy array"),
    ],
)
def test_what_is_no_frame_is_refused_in_one_line(frame, message):
    with pytest.raises(SourceError, match=message) as caught:
        letterbox(frame, (8, 8))
    assert "\n" not in str(caught.value)


def test_normalise_is_the_formula_in_channel_first_order():
    frame = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    pixels = normalise(frame, 127.0, 128.0)
    assert pixels.shape == (1, 3, 2, 3)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(
        pixels[0], (frame.transpose(2, 0, 1).astype(np.float64) - 127) / 128, atol=1e-7
    )
