"""Selection of boxes, their colours, and NanoDet's box code, against numbers worked out by hand."""

from __future__ import annotations

import torch

from train.models.perception.detections import CANDIDATES, half_colours, intersection, select
from train.models.perception.nanodet import BINS, CLASSES, SIZE, decode, normalise


def chosen(*seen: tuple[tuple[float, float, float, float], int, float], keep: int = 4):
    """What is left of boxes given as (corners, class, score), as (corners, class, score) again."""
    boxes, scores = torch.zeros(1, CANDIDATES, 4), torch.zeros(1, CANDIDATES, 3)
    for place, (corners, kind, score) in enumerate(seen):
        boxes[0, place], scores[0, place, kind] = torch.tensor(corners), score
    boxes, scores = select(boxes, scores, keep)
    assert boxes.shape == (1, keep, 4) and scores.shape == (1, keep, 3)
    there = scores[0].amax(-1) > 0
    assert (boxes[0][~there] == 0).all()
    return [
        (tuple(round(x, 3) for x in box.tolist()), int(row.argmax()), round(float(row.max()), 3))
        for box, row in zip(boxes[0][there], scores[0][there], strict=True)
    ]


LEFT, RIGHT = (0.1, 0.1, 0.3, 0.5), (0.6, 0.1, 0.8, 0.5)


def test_boxes_apart_stay_and_the_best_comes_first() -> None:
    assert chosen((LEFT, 0, 0.5), (RIGHT, 0, 0.7)) == [(RIGHT, 0, 0.7), (LEFT, 0, 0.5)]


def test_of_two_boxes_on_one_object_the_better_stays() -> None:
    shifted = (0.12, 0.1, 0.32, 0.5)  # 0.18 of 0.22 shared: IoU 0.82
    assert chosen((shifted, 1, 0.5), (LEFT, 0, 0.6)) == [(LEFT, 0, 0.6)]


def test_a_box_inside_another_goes_if_it_is_of_the_same_class() -> None:
    part = (0.1, 0.1, 0.3, 0.3)  # IoU 0.5, all of it inside
    assert chosen((LEFT, 0, 0.6), (part, 0, 0.5)) == [(LEFT, 0, 0.6)]
    assert len(chosen((LEFT, 0, 0.6), (part, 1, 0.5))) == 2  # a bag before a person stays


def test_weak_boxes_go_and_no_more_are_kept_than_there_are_places() -> None:
    assert chosen((LEFT, 0, 0.29)) == []
    row = [((x / 10, 0.0, x / 10 + 0.05, 0.2), 0, 0.9 - x / 100) for x in range(6)]
    assert [score for _, _, score in chosen(*row)] == [0.9, 0.89, 0.88, 0.87]


def test_intersection_of_pairs() -> None:
    a = torch.tensor([[[0.0, 0.0, 0.4, 0.4], [0.5, 0.5, 0.6, 0.6]]])
    b = torch.tensor([[[0.2, 0.2, 0.6, 0.6]]])
    torch.testing.assert_close(intersection(a, b), torch.tensor([[[0.04], [0.01]]]))


def test_colours_of_the_upper_and_the_lower_half() -> None:
    picture = torch.zeros(1, 3, 20, 20)
    picture[0, 0, :10, :10] = 1.0  # red above
    picture[0, 2, 10:, :10] = 1.0  # blue below
    found = half_colours(picture, torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]]))
    assert found[0, 0].tolist() == [1, 0, 0, 0, 0, 1]
    assert found[0, 1].abs().sum() == 0


def test_decoded_boxes_lie_around_the_centre_of_their_cell() -> None:
    stride, cells = 32, (SIZE // 32) ** 2
    sides = torch.full((1, cells, 4, BINS), -40.0)
    for side, bins in enumerate((1, 2, 3, 4)):  # left, top, right, bottom
        sides[..., side, bins] = 40.0
    boxes = decode(sides.flatten(2), stride) * SIZE
    # Cell (row 1, column 2) has its centre at x = 2.5 * 32 = 80, y = 1.5 * 32 = 48.
    torch.testing.assert_close(boxes[0, 13 + 2], torch.tensor([80.0 - 32, 48.0 - 64, 80.0 + 96, 48.0 + 128]))


def test_a_distance_is_the_mean_of_its_distribution() -> None:
    sides = torch.full((1, 169, 4, BINS), -40.0)
    sides[..., 2:4] = 7.0  # bins 2 and 3 alike: 2.5
    width = decode(sides.flatten(2), 32)[0, 0] * SIZE
    torch.testing.assert_close(width[2] - width[0], torch.tensor(2 * 2.5 * 32))


def test_the_network_reads_blue_first() -> None:
    picture = torch.zeros(1, 3, 2, 2)
    picture[:, 2] = 255.0  # blue
    found = normalise(picture)[0, :, 0, 0]
    torch.testing.assert_close(found[0], torch.tensor((255 - 103.53) / 57.375))
    torch.testing.assert_close(found[2], torch.tensor(-123.675 / 58.395))
    assert len(CLASSES) == len(set(CLASSES)) == 80
