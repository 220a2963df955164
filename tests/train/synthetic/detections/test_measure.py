"""Statistics of a detector's errors, on footage whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train.models.perception.detections import Detections
from train.models.perception.nanodet import CLASSES, SIZE
from train.synthetic.detections.detector import Noise
from train.synthetic.detections.measure import FPS, Footage, measure, simulated, tracks

PERSON, DOG, BALL = (CLASSES.index(name) for name in ("person", "dog", "sports ball"))


def footage(frames: int = 40) -> Footage:
    """A person who is missed twice, a lone flash, a weak thing that stays, a dog first taken for a person."""
    rng = np.random.default_rng(0)
    seen = Detections(
        torch.zeros(frames, 10, 4), torch.zeros(frames, 10, len(CLASSES)), torch.full((frames, 10, 6), 0.5)
    )

    def put(t: int, place: int, box: tuple[float, ...], kind: int, score: float, jitter: float = 0.0) -> None:
        side = np.tile([box[2] - box[0], box[3] - box[1]], 2)
        seen.boxes[t, place] = torch.tensor(np.array(box) + rng.normal(0, 1, 4) * jitter * side)
        seen.scores[t, place, kind] = score

    for t in range(frames):
        if t not in (10, 20, 21):
            put(t, 0, (0.4, 0.3, 0.5, 0.6), PERSON, 0.7 + float(rng.normal(0, 0.02)), 0.01)
        put(t, 1, (0.8, 0.1, 0.86, 0.16), BALL, 0.36)
        if 5 <= t < 35:
            x = 0.0 if t == 5 else 0.01 * (t - 5)
            put(t, 2, (x, 0.8, x + 0.1, 0.95), PERSON if t < 8 else DOG, 0.6)
            seen.scores[t, 2, DOG if t < 8 else PERSON] = 0.5
    put(30, 3, (0.7, 0.5, 0.75, 0.6), BALL, 0.4)
    return Footage(seen, SIZE / 2)


def test_errors_are_told_by_their_traces() -> None:
    found = measure([footage()])
    assert found["scenes"] == 1 and found["seconds"] == 40 / FPS
    # 3 gaps' frames in 2 runs, of 37 + 40 + 30 frames seen.
    assert found["misses a second seen"] == pytest.approx(2 / (107 / FPS))
    assert found["length of a miss, mean s"] == pytest.approx(1.5 / FPS)
    assert found["tracks seen in one frame alone, share"] == pytest.approx(1 / 4)
    assert found["weak still tracks a scene"] == 1
    assert found["first seen as another class at a border, share"] == 1.0
    assert found["first seen as another class elsewhere, share"] == 0.0
    # The person's box is 0.3 of 208 pixels high.
    assert found["score of person, 50 to 100 px, n"] == 37
    assert found["score of person, 50 to 100 px, p50"] == pytest.approx(0.7, abs=0.015)


def test_jitter_is_that_of_one_value() -> None:
    only = footage()
    only.detections.scores[:, 1:] = 0
    found = measure([only])
    assert found["box jitter at rest"] == pytest.approx(0.01, rel=0.3)
    assert found["score jitter"] == pytest.approx(0.02, rel=0.4)


def test_tracks_are_split_after_a_long_absence() -> None:
    of = footage()
    of.detections.scores[:, 1:] = 0
    of.detections.scores[15:32] = 0
    assert [one.frames[0] for one in tracks(of)] == [0, 32]


def test_more_noise_is_seen_in_the_figures() -> None:
    calm = measure(simulated(3, 1, Noise(gait_jitter=0.0, miss_bursts_per_s=0.0, flashes=0.0)))
    wild = measure(
        simulated(3, 1, Noise(gait_jitter=0.1, miss_bursts_per_s=0.1, flashes=0.2, box_jitter=0.02))
    )
    for name in ("misses a second seen", "tracks seen in one frame alone, share", "box jitter at rest"):
        assert wild[name] > calm[name], name
