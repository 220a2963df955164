"""Projection, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from train.synthetic.detections.camera import Camera
from train.synthetic.detections.scene import Scene, Track, look, make_actor

LEVEL = Camera(height_m=3.0, tilt=0.0, focal=0.5, aspect=2.0)


def test_a_level_camera() -> None:
    points = np.array([[1.0, 10.0, 3.0], [0.0, 10.0, 0.0], [0.0, 5.0, 4.0]])
    places, depth = LEVEL.project(points)
    assert depth.tolist() == [10, 10, 5]
    # 1 m aside at 10 m: 0.5 * 1 / 10; 3 m below: 0.5 * 2 * 3 / 10; 1 m above at 5 m: 0.5 * 2 * 1 / 5.
    np.testing.assert_allclose(places, [[0.55, 0.5], [0.5, 0.8], [0.5, 0.3]])


def test_the_centre_line_meets_the_ground_where_the_camera_looks() -> None:
    camera = Camera.seeing(height_m=3.0, look_at_m=4.0, field_of_view=90.0, aspect=1.5)
    places, depth = camera.project(np.array([[0.0, 4.0, 0.0]]))
    np.testing.assert_allclose(places, [[0.5, 0.5]])
    assert depth[0] == pytest.approx(5.0) and camera.focal == pytest.approx(0.5)
    assert camera.tilt == pytest.approx(math.atan2(3, 4))


def test_a_box_spans_its_block() -> None:
    boxes, depth = LEVEL.boxes(np.array([[0.0, 10.0, 0.0]]), np.array([[2.0, 2.0, 2.0]]))
    # The near face, at 9 m, spans it: 1 / 9 to each side; its foot 3 m, its far top edge 1 m (at 11 m) below.
    np.testing.assert_allclose(boxes, [[0.5 - 0.5 / 9, 0.5 + 1 / 11, 0.5 + 0.5 / 9, 0.5 + 3 / 9]])
    assert depth[0] == 10


def test_ground_is_the_inverse_of_projection() -> None:
    camera = Camera.seeing(height_m=2.5, look_at_m=7.0, field_of_view=70.0, aspect=16 / 9)
    x, y = camera.ground(0.3, 0.8)
    np.testing.assert_allclose(camera.project(np.array([[x, y, 0.0]]))[0], [[0.3, 0.8]])
    with pytest.raises(ValueError, match="horizon"):
        LEVEL.ground(0.5, 0.4)


def test_what_stands_behind_another_is_hidden() -> None:
    rng = np.random.default_rng(0)
    scene = Scene(10.0, Camera.seeing(height_m=1.5, look_at_m=20.0, field_of_view=60.0, aspect=1.5))
    car = make_actor(rng, "car", "car", -1.0, 8.0)
    cat = make_actor(rng, "cat", "cat", -1.0, 12.0)
    cat.place.hold(5.0).go(8.0, 4.0, 12.0)
    scene.actors += [car, cat]
    view = look(scene)
    assert view.visible[0, 1] < 0.3 and view.visible[-1, 1] == pytest.approx(1.0)
    assert (view.visible[:, 0] == 1).all()


def test_a_track_is_linear_between_keyframes_and_constant_outside() -> None:
    track = Track(0.0, 5.0).hold(2.0).go(4.0, 1.0).jump(6.0, 3.0, 9.0)
    times = np.array([0.0, 2.0, 3.0, 4.0, 5.9, 6.0, 9.0])
    assert track.at(times)[:, 0].tolist() == pytest.approx([0, 0, 0.5, 1, 1, 3, 3])
    assert track.at(times)[-1].tolist() == [3, 9]
    with pytest.raises(ValueError, match="in order"):
        track.go(5.0, 0.0)
