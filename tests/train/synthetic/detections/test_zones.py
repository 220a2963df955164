"""Zones of generated clips: what happens in them, what is asked, and that the features show it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from train.models.perception.zones import ZONES
from train.synthetic.detections import generate as generator
from train.synthetic.detections.camera import Camera
from train.synthetic.detections.facts import Facts, Question
from train.synthetic.detections.generate import GenerateConfig
from train.synthetic.detections.scene import Act, Actor, Scene, look, make_actor
from train.synthetic.detections.stories import tell
from train.synthetic.detections.zone_questions import ZONE_KINDS, ZoneAsker, ask_zones
from train.synthetic.detections.zones import Zones, draw_zones

RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
FAR = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.2), (0.0, 0.2))


def walker(kind: str = "person") -> Actor:
    """Crosses the frame from left to right from 5 to 15 s, and comes back from 20 to 30 s."""
    actor = make_actor(np.random.default_rng(0), kind, kind, -12.0, 10.0)
    actor.place.hold(5.0).go(15.0, 12.0, 10.0).hold(20.0).go(30.0, -12.0, 10.0)
    return actor


def story(*actors: Actor) -> Facts:
    camera = Camera.seeing(height_m=3.0, look_at_m=10.0, field_of_view=70.0, aspect=16 / 9)
    scene = Scene(40.0, camera, list(actors))
    return Facts.of("outdoors", scene, look(scene))


def zones(facts: Facts) -> Zones:
    return Zones.of((RIGHT, (), FAR, ()), facts)


def test_who_crosses_a_zone_enters_and_leaves_it_twice() -> None:
    facts = story(walker())
    events = zones(facts).events(0, facts)
    assert [event.kind for event in events] == ["enters zone", "leaves zone"] * 2
    assert events[0].start == pytest.approx(10.0, abs=0.6)  # half the way
    assert 12 < events[1].end < 15  # out of view at the right border
    assert events[3].end == pytest.approx(25.0, abs=0.6)
    assert zones(facts).events(2, facts) == []  # the other zone


def test_running_and_stopping_count_where_they_happen() -> None:
    actor = walker()
    actor.acts += [Act("runs", 5.0, 15.0), Act("stops", 8.0, 9.0), Act("stops", 12.0, 13.0)]
    facts = story(actor)
    events = zones(facts).events(0, facts)
    runs = [event for event in events if event.kind == "runs across zone"]
    stops = [event for event in events if event.kind == "stops in zone"]
    assert [round(event.start) for event in runs] == [10] and [event.start for event in stops] == [12.0]


def asked(facts: Facts, seed: int = 0, *, paraphrase: bool = False) -> list[Question]:
    asker = ZoneAsker(np.random.default_rng(seed), facts, zones(facts), paraphrase=paraphrase)
    return [*asker.answered(), *asker.unanswered(6)]


def test_answers_name_their_zone_and_times() -> None:
    facts = story(walker(), walker("dog"))
    entered = 0
    for seed in range(12):
        for question in asked(facts, seed):
            for answer in question.answers:
                assert "zone 1" in answer.text and ("zone 1",) in answer.keywords
                assert answer.start >= question.time
                if question.kind == "zone_enter":
                    assert min(abs(answer.start - 10.0), abs(answer.start - 21.5)) < 1.5
                    entered += 1
    assert entered > 3


def test_another_zone_and_another_subject_are_hard_negatives() -> None:
    facts = story(walker())
    hard = [q for seed in range(12) for q in asked(facts, seed) if q.hard]
    assert hard and not any(question.answers for question in hard)
    assert any("one 3" in question.text for question in hard)


def test_who_is_in_the_zone_already_is_not_asked_for() -> None:
    actor = make_actor(np.random.default_rng(0), "person", "p", 2.0, 10.0)
    actor.place.hold(15.0).go(25.0, -12.0, 10.0)
    facts = story(actor)
    for seed in range(12):
        for question in asked(facts, seed):
            assert (
                question.kind not in ("zone_in", "zone_enter")
                or "one 1" not in question.text
                or question.hard is False
            )


def test_half_of_the_clips_have_zones_and_zones_of_every_number_come_up() -> None:
    config, found, kinds, numbers = GenerateConfig("train", 5, 1, Path()), 0, set(), set()
    for index in range(60):
        rng = config.rng(index)
        family, scene = tell(rng)
        facts = Facts.of(family, scene, look(scene))
        drawn = draw_zones(config.zones_rng(index), facts)
        if drawn is None:
            continue
        found += 1
        numbers |= set(drawn.numbers)
        assert drawn.grid().shape[0] == ZONES and family not in ("walk", "drive")
        questions = ask_zones(np.random.default_rng(index), facts, drawn, most=9, quiet=2.0)
        kinds |= {question.kind for question in questions}
    assert 20 <= found <= 40 and numbers == set(range(ZONES))
    assert kinds == {kind.name for kind in ZONE_KINDS}


def test_clips_of_an_earlier_width_are_written_again(tmp_path: Path) -> None:
    config = GenerateConfig("train", 3, 1, tmp_path)
    generator.generate(config)
    _labels, clip = sorted((tmp_path / "clips").iterdir())
    whole = np.load(clip)
    np.save(clip, whole[..., :-ZONES])
    generator.generate(config)
    np.testing.assert_array_equal(np.load(clip), whole)
