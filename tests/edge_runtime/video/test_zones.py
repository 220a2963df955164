"""Zones: their names in texts, and their grid through crop and rotation."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.video.framing import Framing
from edge_runtime.video.zone_names import ZoneNames
from edge_runtime.video.zones import Zone, camera_grid, occupancy

NAMES = ZoneNames(["lawn", "front lawn", "The Gate", "Café (1)"])
UPPER_LEFT = Zone("corner", ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25), (0.0, 0.25)))


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ("Tell me when someone is on the lawn.", "Tell me when someone is on zone 1."),
        ("Anyone on my LAWN?", "Anyone on zone 1?"),
        ("Lawn: tell me who enters.", "zone 1: tell me who enters."),
        ("A dog on the front  lawn or the lawn", "A dog on zone 2 or zone 1"),
        ("Two lawns, a lawnmower, the front-lawn and clawn", None),
        ("the lawn's edge", "zone 1's edge"),
        ("a car at the gate", "a car at zone 3"),
        ("in café (1), please", "in zone 4, please"),
        ("someone enters zone 2", None),
        ("their lawn", "their zone 1"),
    ],
)
def test_a_question_in_the_words_of_the_model(asked: str, read: str | None) -> None:
    assert NAMES.for_model(asked) == (asked if read is None else read)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("A person enters zone 1.", "A person enters the lawn."),
        ("A person has left the zone 2.", "A person has left the front lawn."),
        ("A car stops in Zone 3.", "A car stops in The Gate."),
        ("Zone 1 is empty.", "The lawn is empty."),
        ("zone 5 and zone 12 and ozone 1", "zone 5 and zone 12 and ozone 1"),
    ],
)
def test_a_response_in_the_words_of_people(said: str, shown: str) -> None:
    assert NAMES.for_people(said) == shown


def test_without_zones_texts_stay() -> None:
    assert ZoneNames(()).for_model("on the lawn") == "on the lawn"
    assert ZoneNames(()).for_people("in zone 1") == "in zone 1"


@pytest.mark.parametrize(
    ("framing", "expected"),
    [
        (Framing(), ((0.0, 0.0), (0.5, 0.25))),
        (Framing(rotate=90), ((0.75, 0.0), (1.0, 0.5))),
        (Framing(rotate=180), ((0.5, 0.75), (1.0, 1.0))),
        (Framing(rotate=270), ((0.0, 0.5), (0.25, 1.0))),
        (Framing(crop=(0.25, 0.0, 0.5, 1.0)), ((0.0, 0.0), (0.5, 0.25))),
        (Framing(crop=(0.25, 0.0, 0.5, 0.5), rotate=90), ((0.5, 0.0), (1.0, 0.5))),
    ],
)
def test_a_zone_is_where_crop_and_rotation_put_it(
    framing: Framing, expected: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    (x1, y1), (x2, y2) = expected
    wanted = occupancy([((x1, y1), (x2, y1), (x2, y2), (x1, y2))], 4, 32)
    np.testing.assert_array_equal(camera_grid([UPPER_LEFT], framing, 4, 32), wanted)
    assert wanted[0, 0].sum() > 0 and not wanted[0, 1:].any()


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ConfigError, match="zone corner: it lies outside the crop; change its polygon"):
        camera_grid([UPPER_LEFT], Framing(crop=(0.6, 0.5, 0.4, 0.5)), 4, 32)
    with pytest.raises(ConfigError, match="5 zones, but the model knows 4"):
        camera_grid([UPPER_LEFT] * 5, Framing(), 4, 32)
    for name, corners in (("", 4), ("-", 4), ("a\nb", 4), ("x" * 41, 4), ("lawn", 2)):
        with pytest.raises(ValueError, match=r"^(name|polygon): expected"):
            Zone(name, UPPER_LEFT.polygon[:corners])
    with pytest.raises(ValueError, match="polygon: corners are shares of the frame"):
        Zone("lawn", ((0, 0), (2, 0), (0, 1)))
