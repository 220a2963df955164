"""Slots follow objects: over misses, past each other, and not from one who leaves to one who enters."""

from __future__ import annotations

import torch

from train.models.perception.detections import Detections
from train.models.perception.features import COLOURS, SCALARS, describe, width
from train.models.perception.tracker import Slots, TrackerConfig, track
from train.models.perception.zones import ZONES

CONFIG = TrackerConfig(slots=4)
PERSON, CAR = 0, 1


def seen(*objects: tuple[float, float, int], size: float = 0.1) -> Detections:
    """Detections at centres (x, y) of a class."""
    found = Detections(torch.zeros(1, 4, 4), torch.zeros(1, 4, 3), torch.zeros(1, 4, 6))
    for place, (x, y, kind) in enumerate(objects):
        half = size / 2
        found.boxes[0, place] = torch.tensor([x - half, y - half, x + half, y + half]).clamp(0, 1)
        found.scores[0, place, kind] = 0.8 - place / 100
        found.colours[0, place] = 0.1 + 0.2 * kind
    return found


def follow(*frames: Detections) -> list[Slots]:
    slots, made = Slots.empty(1, CONFIG.slots, 3), []
    for frame in frames:
        slots = track(frame, slots, CONFIG)
        made.append(slots)
    return made


def holder(slots: Slots, x: float) -> int:
    """The slot whose object is at ``x``, seen now."""
    centre = (slots.boxes[0, :, 0] + slots.boxes[0, :, 2]) / 2
    (found,) = torch.nonzero((slots.taken[0] > 0) & (slots.missing[0] == 0) & ((centre - x).abs() < 0.02))
    return int(found)


def test_an_object_keeps_its_slot_over_a_miss_of_three_frames() -> None:
    path = [seen((0.3 + 0.05 * t, 0.5, PERSON)) for t in range(3)]
    after = follow(*path, seen(), seen(), seen(), seen((0.6, 0.5, PERSON)))
    slot = holder(after[2], 0.4)
    assert [float(s.missing[0, slot]) for s in after[3:]] == [1, 2, 3, 0]
    assert holder(after[6], 0.6) == slot and after[6].age[0, slot] == 6
    assert after[6].taken.sum() == 1


def test_a_slot_is_freed_when_its_object_stays_away() -> None:
    after = follow(seen((0.5, 0.5, PERSON)), *[seen()] * (CONFIG.keep_frames + 1))
    assert after[-2].taken.sum() == 1 and after[-1].taken.sum() == 0
    assert all(float(part.abs().sum()) == 0 for part in after[-1])


def test_who_leaves_at_the_border_does_not_become_the_next_one_who_enters() -> None:
    leaving = [seen((x, 0.5, PERSON)) for x in (0.5, 0.65, 0.8, 0.94)]
    after = follow(*leaving, seen(), seen((0.95, 0.5, PERSON)))
    slot = holder(after[5], 0.95)
    assert after[5].age[0, slot] == 0  # somebody new


def test_slots_keep_their_order_when_objects_pass_each_other() -> None:
    frames = [seen((0.2 + 0.1 * t, 0.45, PERSON), (0.8 - 0.1 * t, 0.55, CAR)) for t in range(7)]
    after = follow(*frames)
    person, car = holder(after[0], 0.2), holder(after[0], 0.8)
    for t, slots in enumerate(after):
        assert int(slots.scores[0, person].argmax()) == PERSON and int(slots.scores[0, car].argmax()) == CAR
        assert slots.age[0, person] == slots.age[0, car] == t


def test_slots_do_not_depend_on_the_order_of_detections() -> None:
    first, second = (0.2, 0.5, PERSON), (0.8, 0.5, PERSON)
    after = follow(seen(first, second), seen(second, first), seen(first, second))
    assert holder(after[0], 0.2) == holder(after[1], 0.2) == holder(after[2], 0.2)


def test_when_all_slots_are_full_the_longest_unseen_goes() -> None:
    four = [(0.1 + 0.25 * i, 0.5, PERSON) for i in range(4)]
    after = follow(seen(*four), seen(*four[1:]), seen(*four[1:], (0.5, 0.1, CAR)))
    assert after[2].scores[0].argmax(-1).tolist().count(CAR) == 1
    assert after[2].taken.sum() == 4


def test_velocity_is_of_one_frame_even_after_misses() -> None:
    after = follow(seen((0.2, 0.5, PERSON)), seen((0.3, 0.5, PERSON)), seen(), seen((0.5, 0.5, PERSON)))
    torch.testing.assert_close(after[3].velocity[0, holder(after[3], 0.5)], torch.tensor([0.1, 0.0]))


def test_clips_side_by_side_do_not_touch_each_other() -> None:
    a = [seen((0.2 + 0.05 * t, 0.5, PERSON)) for t in range(5)]
    b = [seen(*([(0.7, 0.3, CAR)] if t % 2 else [])) for t in range(5)]
    together, alone = Slots.empty(2, 4, 3), Slots.empty(1, 4, 3)
    for one, other in zip(a, b, strict=True):
        both = Detections(*(torch.cat(parts) for parts in zip(one, other, strict=True)))
        together, alone = track(both, together, CONFIG), track(other, alone, CONFIG)
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found[1:], expected)


def test_packed_slots_come_back() -> None:
    slots = follow(seen((0.2, 0.5, PERSON), (0.6, 0.5, CAR)), seen((0.25, 0.5, PERSON)))[-1]
    packed = slots.pack()
    assert packed.shape == (1, 4, 16 + 3)
    for found, expected in zip(Slots.unpack(packed), slots, strict=True):
        torch.testing.assert_close(found, expected)


def test_features_of_a_frame() -> None:
    slots = follow(seen((0.2, 0.5, PERSON)), seen((0.3, 0.5, PERSON), (0.95, 0.5, CAR)))[-1]
    left = torch.zeros(1, ZONES, 8, 8)
    left[:, 1, :, :4] = 1
    rows = describe(slots, torch.tensor([0.4]), left)
    assert rows.shape == (1, 5, width(3)) and width(3) == SCALARS + COLOURS + 3 + ZONES
    person, car = holder(slots, 0.3), holder(slots, 0.95)
    assert rows[0, person, :3].tolist() == [1, 1, 0] and rows[0, car, :3].tolist() == [1, 1, 1]
    torch.testing.assert_close(rows[0, person, 5:9], torch.tensor([0.3, 0.5, 0.1, 0.1]))
    assert rows[0, car, 11] == 1 and rows[0, car, 9] == 0  # at the right border
    whole = rows[0, -1]
    torch.testing.assert_close(whole[SCALARS - 3 : SCALARS], torch.tensor([0.4, 0.5, 1.0]))
    torch.testing.assert_close(whole[-7:-4], torch.tensor([0.8, 0.79, 0.0]), atol=0.01, rtol=0)
    assert rows[0, person, -4:].tolist() == [0, 1, 0, 0] and rows[0, car, -4:].tolist() == [0, 0, 0, 0]
    assert whole[-4:].tolist() == [0, 0.5, 0, 0]
    free = [k for k in range(4) if k not in (person, car)]
    assert rows[0, free].abs().sum() == 0
