"""What can be seen to happen in scenes with a script."""

from __future__ import annotations

import numpy as np
import pytest

from train.synthetic.detections import truth
from train.synthetic.detections.camera import Camera
from train.synthetic.detections.scene import Act, Actor, Scene, look, make_actor

RNG = np.random.default_rng(1)


def scene(*actors: Actor, duration: float = 30.0) -> Scene:
    camera = Camera.seeing(height_m=2.0, look_at_m=8.0, field_of_view=60.0, aspect=1.5)
    return Scene(duration, camera, list(actors))


def walker(name: str = "a") -> Actor:
    """Someone outside, to the left."""
    return make_actor(RNG, "person", name, -8.0, 8.0)


def happens(of: Scene) -> list[truth.Event]:
    view = look(of)
    return truth.happens(of, view, truth.seen(of, view))


def test_someone_walks_through() -> None:
    actor = walker()
    actor.place.hold(5.0).go(21.0, 8.0, 8.0)  # 1 m/s; the picture is 9.5 m wide at 8.25 m
    enters, leaves = happens(scene(actor))
    assert (enters.kind, leaves.kind) == ("enters", "leaves")
    # Half of the 9.5 m before and after the middle of the way, at 13 s.
    assert enters.start == pytest.approx(13 - 4.76, abs=0.6)
    assert leaves.end == pytest.approx(13 + 4.76, abs=0.6)


def test_who_is_there_from_the_start_does_not_come_in() -> None:
    there = make_actor(RNG, "person", "b", 0.0, 8.0)
    assert happens(scene(there)) == []
    there.place.hold(5.0).go(12.0, 8.0, 8.0)
    assert [event.kind for event in happens(scene(there))] == ["leaves"]


def test_furniture_behind_a_passing_truck_does_not_leave() -> None:
    bench = make_actor(RNG, "bench", "bench", 0.0, 14.0)
    truck = make_actor(RNG, "truck", "truck", -16.0, 8.0)
    truck.place.hold(2.0).go(25.0, 16.0, 8.0)
    assert {event.who for event in happens(scene(bench, truck))} == {1}


def test_a_person_hidden_by_a_truck_has_not_left() -> None:
    person = make_actor(RNG, "person", "p", -0.5, 14.0)
    person.place.go(30.0, 0.5, 14.0)
    truck = make_actor(RNG, "truck", "truck", -16.0, 8.0)
    truck.place.hold(2.0).go(25.0, 16.0, 8.0)
    assert not [event for event in happens(scene(person, truck)) if event.who == 0]


def test_acts_count_when_their_actor_is_seen() -> None:
    inside, outside = make_actor(RNG, "person", "in", 0.0, 8.0), walker("out")
    for actor in (inside, outside):
        actor.acts.append(Act("sits down", 6.0, 7.0))
    events = happens(scene(inside, outside))
    assert [(event.kind, event.who, event.start) for event in events] == [("sits down", 0, 6.0)]


def test_a_runner_runs_from_when_they_are_seen() -> None:
    actor = walker()
    actor.place.hold(5.0).go(9.0, 8.0, 8.0)
    actor.acts.append(Act("runs", 5.0, 9.0))
    (run,) = [event for event in happens(scene(actor)) if event.kind == "runs"]
    (enters,) = [event for event in happens(scene(actor)) if event.kind == "enters"]
    assert run.start == enters.start > 5.5


def test_nobody_leaves_when_it_gets_dark() -> None:
    person = make_actor(RNG, "person", "p", 0.0, 8.0)
    person.acts.append(Act("sits down", 14.0, 15.0))
    other = walker("o")
    other.place.hold(12.0).go(16.0, 0.5, 9.0)  # comes in the dark
    of = scene(person, other)
    of.brightness.hold(10.0).go(10.5, 0.02).hold(20.0).go(20.5, 0.5)
    of.acts.append(Act("covered", 10.5, 11.5))
    dark, enters = happens(of)
    assert (dark.kind, dark.who) == ("covered", truth.CAMERA)
    assert (enters.kind, enters.who) == ("enters", 1) and enters.start > 20  # seen when it is light again


def test_what_is_too_small_is_not_there() -> None:
    far = make_actor(RNG, "cat", "far", 0.0, 59.0)
    near = make_actor(RNG, "cat", "near", 0.0, 5.0)
    of = scene(far, near)
    assert truth.seen(of, look(of)).all(axis=0).tolist() == [False, True]


def test_counts_and_their_changes() -> None:
    first, second = make_actor(RNG, "person", "a", 0.0, 8.0), walker("b")
    second.place.hold(5.0).go(12.0, 1.5, 8.0).hold(20.0).go(27.0, 8.0, 8.0)
    of = scene(first, second)
    view = look(of)
    number = truth.counts(of.actors, truth.seen(of, view), lambda actor: actor.kind.name == "person")
    found = truth.changes(number, view.times)
    assert [(before, after) for _, before, after in found] == [(1, 2), (2, 1)]
    assert 5 < found[0][0] < 12 and 20 < found[1][0] < 27


def test_flicker_is_no_change() -> None:
    number = np.array([1] * 8 + [2] * 3 + [1] * 8 + [2] * 8)
    assert truth.changes(number, np.arange(len(number)) / 4) == [(18.5 / 4, 1, 2)]  # between the moments
